"""Names of dimensions and labels along them, in every group, report and picture."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import (
    IDVAE,
    BayesianModel,
    collapse_report,
    compare,
    from_guide,
    from_mcmc,
    mcmc,
    plot_collapse,
    plot_compare,
    plot_directions,
    plot_prior_posterior,
)
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.errors import ArgumentError, ShapeError

CELLS = ["AAAC", "AAAG", "AACT"]
GENES = ["TP53", "MYC", "KRAS", "ACTB"]
FACTORS = ["growth", "stress"]
COORDS = {"cell": CELLS, "gene": GENES, "factor": FACTORS}
DIMS = {"obs": ["gene"], "latent": ["factor"]}
ROWS = torch.tensor([[1.0, -1.0, 0.5, 2.0], [0.0, 0.3, -2.0, 1.0], [1.5, 0.2, 0.1, -0.4]])
LABELS = ["latent[growth]", "latent[stress]"]


def small():
    torch.manual_seed(0)
    return IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])


def svi(**options):
    vae = small()
    return from_guide(vae.model, vae.guide, ROWS, num_samples=40, **options)


def exact(**options):
    return mcmc(
        small().model,
        ROWS,
        kernel="vectorized",
        num_samples=40,
        warmup_steps=20,
        num_chains=2,
        seed=0,
        progress=False,
        **options,
    )


def summed(x):
    """The data tell of the sum of two latents alone."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


@pytest.mark.parametrize("whole", [False, True], ids=["without the rows", "with the rows"])
def test_every_group_carries_names_and_labels(whole):
    """As in ``coords={"cell": …}, dims={"obs": ["gene"], "latent": ["factor"]}``."""
    dims = {site: ["cell", *names] for site, names in DIMS.items()} if whole else DIMS
    options = {"coords": COORDS, "dims": dims, "posterior_predictive": True}
    for data in (svi(**options), exact(**options)):
        groups = groups_of(data)
        for group, site, inner in (
            ("posterior", "latent", ("factor",)),
            ("prior", "latent", ("factor",)),
            ("sample_stats", "prior_score_latent", ("factor",)),
            ("posterior_predictive", "obs", ("gene",)),
            ("log_likelihood", "obs", ()),
            ("log_prior", "latent", ()),
            ("sample_stats", "checksum_latent", ()),
            ("sample_stats_prior", "log_likelihood_obs", ()),
            ("sample_stats_prior", "checksum_latent", ()),
        ):
            assert groups[group][site].dims == ("chain", "draw", "cell", *inner)
        assert groups["observed_data"]["obs"].dims == ("cell", "gene")
        for field in ("mean", "variance", "size"):
            assert groups["sample_stats"][f"limit_{field}_latent"].dims == ("cell", "factor")
        for group, dataset in groups.items():
            assert "data" not in dataset.dims
            assert dataset.attrs["data_dim"] == "cell"
            for dim in set(dataset.dims) & set(COORDS):
                assert dataset[dim].values.tolist() == COORDS[dim], (group, dim)
    stats = groups["sample_stats"]
    for name in ("log_q", "row_energy", "row_diverging", "acceptance_rate", "chain_mass"):
        assert name not in stats or stats[name].dims[-1] == "cell"


def test_values_can_be_selected_by_their_labels():
    data = groups_of(svi(coords=COORDS, dims=DIMS))
    posterior, scores = data["posterior"]["latent"], data["sample_stats"]["prior_score_latent"]
    chosen = {"cell": "AAAG", "factor": "stress"}
    np.testing.assert_array_equal(posterior.sel(chosen), posterior.values[..., 1, 1])
    np.testing.assert_allclose(scores.sel(chosen), posterior.values[..., 1, 1], rtol=1e-5)
    observed = data["observed_data"]["obs"].sel(cell="AACT", gene="KRAS")
    assert float(observed) == pytest.approx(0.1)


def test_reports_read_names_and_labels():
    options = {"coords": COORDS, "dims": DIMS}
    guide, sampled = svi(**options), exact(**options)
    for data in (guide, sampled):
        report = collapse_report(data)
        assert report.table.index.tolist() == LABELS
        assert report.per_point["kl"].dims == ("cell", "latent")
        assert report.per_point["cell"].values.tolist() == CELLS
        assert report.per_point["latent"].values.tolist() == LABELS
        assert LABELS[0] in str(report)
    comparison = compare(guide, sampled)
    assert comparison.table.index.names == ["latent", "cell"]
    assert comparison.table.loc[(LABELS[1], "AACT"), "sd_svi"] > 0
    assert comparison.per_latent.index.tolist() == LABELS


def test_pictures_show_names_and_labels():
    options = {"coords": {**COORDS, "cell": [7, 8, 9]}, "dims": DIMS}
    guide, sampled = svi(**options), exact(**options)
    axes = plot_prior_posterior({"guide": guide, "exact": sampled})
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["cell 7", "cell 8", "cell 9"]
    assert [ax.get_xlabel() for ax in axes[-1]] == LABELS
    axes = plot_compare(guide, sampled, row=1)
    assert [ax.get_xlabel() for ax in axes[-1]] == LABELS
    assert "cell 8" in axes[0, -1].get_legend().get_title().get_text()
    ticks = plot_collapse(collapse_report(sampled)).get_yticklabels()
    assert [tick.get_text() for tick in ticks][1:] == LABELS


def test_directions_are_of_the_named_coordinates():
    torch.manual_seed(0)
    data = mcmc(
        summed,
        1.7 * torch.randn(20),
        kernel="vectorized",
        coords={"factor": FACTORS},
        dims={"z": ["factor"]},
        seed=0,
        progress=False,
    )
    names = ["z[growth]", "z[stress]"]
    assert groups_of(data)["sample_stats"]["coordinate_row"].values.tolist() == names
    report = collapse_report(data)
    assert set(report.directions["loadings"][0]) == set(names)
    assert "Nothing is known of the direction 0.7" in str(report)
    assert "·z[stress]" in str(report)
    ticks = plot_directions(report).get_xticklabels()
    assert [tick.get_text() for tick in ticks] == names


def test_without_names_all_is_as_it_was():
    posterior = groups_of(svi())["posterior"]
    assert posterior["latent"].dims == ("chain", "draw", "data", "latent_dim_0")
    labelled = groups_of(svi(coords={"data": CELLS, "latent_dim_0": FACTORS}))["posterior"]
    assert labelled["latent_dim_0"].values.tolist() == FACTORS
    assert labelled["data"].values.tolist() == CELLS
    assert collapse_report(svi(coords={"latent_dim_0": FACTORS})).table.index.tolist() == LABELS


def test_the_one_key_that_fits_the_rows_is_what_they_are_called():
    assert groups_of(svi(coords={"cell": CELLS}))["posterior"]["latent"].dims[2] == "cell"
    named = groups_of(svi(dims={"latent": ["cell", "factor"]}))
    assert named["posterior"]["latent"].dims[2:] == ("cell", "factor")
    assert named["observed_data"]["obs"].dims == ("cell", "obs_dim_0")


def test_rows_may_share_labels():
    guide, sampled = (make(coords={"cell": ["b", "a", "b"]}) for make in (svi, exact))
    assert compare(guide, sampled).table.loc[("latent[0]", "b")].shape[0] == 2
    axes = plot_prior_posterior(guide)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["b", "a", "b"]


def test_labels_may_be_of_any_kind_of_list():
    for labels in (
        np.array(CELLS),
        pd.Index(CELLS),
        pd.Series(CELLS),
        tuple(CELLS),
        (cell for cell in CELLS),
    ):
        found = groups_of(svi(coords={"cell": labels}))["posterior"]["cell"]
        assert found.values.tolist() == CELLS
    for numbers in (torch.arange(3), range(3), np.arange(3)):
        found = groups_of(svi(coords={"cell": numbers}))["posterior"]["cell"]
        assert found.values.tolist() == [0, 1, 2]


def test_global_latents_and_plates_that_are_not_the_datas():
    def nested(x):
        scale = pyro.sample("scale", dist.LogNormal(torch.zeros(2), 0.1).to_event(1))
        with pyro.plate("features", 2, dim=-2), pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, scale[:, None]), obs=x.T)

    samples = {"z": torch.randn(1, 30, 2, 3), "scale": torch.rand(1, 30, 2) + 0.5}
    dims = {"z": ["gene", "cell"], "x": ["gene"], "scale": ["gene"]}
    data = groups_of(
        from_mcmc(samples, nested, torch.randn(3, 2), coords={"gene": ["a", "b"]}, dims=dims)
    )
    assert data["posterior"]["z"].dims == ("chain", "draw", "gene", "cell")
    assert data["posterior"]["scale"].dims == ("chain", "draw", "gene")
    assert data["observed_data"]["x"].dims == ("gene", "cell")
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "cell")
    assert data["posterior"]["gene"].values.tolist() == ["a", "b"]


def test_parameters_that_are_latent_can_be_named():
    vae = small()
    model = BayesianModel(vae.model)
    name = next(n for n in model.names if vae.model.get_parameter(n).dim() == 2)
    shape = vae.model.get_parameter(name).shape
    data = groups_of(
        mcmc(
            model,
            ROWS,
            num_samples=4,
            warmup_steps=2,
            num_chains=1,
            num_limit_draws=0,
            kernel_options={"max_tree_depth": 3},
            coords={"unit": list(range(shape[0]))},
            dims={name: ["unit", "input"]},
            progress=False,
        )
    )
    assert data["posterior"][name].dims == ("chain", "draw", "unit", "input")


REFUSED = {
    "a site that is not there": ({}, {"gen": ["gene"]}, ArgumentError, r"dims has the key 'gen'"),
    "a string for a list": ({}, {"obs": "gene"}, ArgumentError, r"dims\['obs'\]='gene'"),
    "a name that is no string": ({}, {"obs": [3]}, ArgumentError, r"dims\['obs'\] has the name 3"),
    "an empty name": ({}, {"obs": [""]}, ArgumentError, "not empty"),
    "a slash": ({}, {"obs": ["a/b"]}, ArgumentError, "no slash"),
    "too many names": ({}, {"obs": ["a", "b", "c"]}, ShapeError, "has 3 names: each value of"),
    "no names": ({}, {"obs": []}, ShapeError, "has 0 names"),
    "a name twice": ({}, {"obs": ["gene", "gene"]}, ArgumentError, "a name of its own"),
    "chain": ({}, {"obs": ["chain"]}, ArgumentError, "call the dimension something else"),
    "draw": ({}, {"latent": ["draw"]}, ArgumentError, "call the dimension something else"),
    "a site's name": ({}, {"obs": ["latent"]}, ArgumentError, "sites, statistics or reports"),
    "a statistic's name": ({}, {"obs": ["energy"]}, ArgumentError, "sites, statistics or reports"),
    "a direction's name": ({}, {"obs": ["coordinate_row"]}, ArgumentError, "something else"),
    "one name, two sizes": (
        {},
        {"obs": ["k"], "latent": ["k"]},
        ShapeError,
        "of size 4, which 'latent' has for one of size 2",
    ),
    "two names of the rows": (
        {},
        {"obs": ["cell", "gene"], "latent": ["well", "factor"]},
        ArgumentError,
        "calls the rows by different names",
    ),
    "the rows' name elsewhere": (
        {},
        {"obs": ["cell", "gene"], "latent": ["cell"]},
        ArgumentError,
        "'cell' is what the rows are called",
    ),
    "no dict of dims": ({}, [["gene"]], ArgumentError, "dims is a list: expected a dict"),
    "no dict of coords": (["a"], {}, ArgumentError, "coords is a list: expected a dict"),
    "a key that is nowhere": ({"gene": GENES}, {}, ArgumentError, "coords has the key 'gene'"),
    "two keys that are nowhere": (
        {"cell": CELLS, "well": CELLS},
        {},
        ArgumentError,
        "coords has the key 'cell'",
    ),
    "a key that is no string": ({3: CELLS}, {}, ArgumentError, "coords has the key 3"),
    "chain as the rows": ({"chain": CELLS}, {}, ArgumentError, "coords has the name 'chain'"),
    "too few labels of the rows": ({"data": CELLS[:2]}, {}, ShapeError, "2 labels but data has 3"),
    "too many labels": (
        {"factor": GENES},
        DIMS,
        ShapeError,
        r"coords\['factor'\] has 4 labels but the dimension, of 'latent', has 2 places",
    ),
    "a string for labels": ({"cell": "abc"}, {}, ArgumentError, "expected a list of labels"),
    "a number for labels": ({"cell": 3}, {}, ArgumentError, r"coords\['cell'\] is a int"),
    "a table for labels": ({"cell": np.eye(3)}, {}, ShapeError, r"shape \(3, 3\)"),
    "no label": ({"cell": ["a", None, "b"]}, {}, ArgumentError, "all strings nor all numbers"),
    "no number": ({"cell": [1.0, np.nan, 2.0]}, {}, ArgumentError, "all strings nor all numbers"),
    "a label twice": ({"factor": ["a", "a"]}, DIMS, ArgumentError, "the label 'a' more than once"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_name_or_label_is_refused_before_sampling(case, monkeypatch):
    coords, dims, error, words = REFUSED[case]
    vae = small()
    options = {"coords": coords, "dims": dims}

    def never(*args, **kwargs):
        raise AssertionError("sampling had begun")

    monkeypatch.setattr("pyro_idvae.infer.guide_sampling.draw_guide", never)
    monkeypatch.setattr("pyro_idvae.infer.arviz.evaluated", never)
    monkeypatch.setattr("pyro_idvae.infer.sampling.Sampling.sample", never)
    with pytest.raises(error, match=words):
        from_guide(vae.model, vae.guide, ROWS, **options)
    with pytest.raises(error, match=words):
        mcmc(vae.model, ROWS, progress=False, **options)
    with pytest.raises(error, match=words):
        from_mcmc({"latent": torch.randn(1, 5, 3, 2)}, vae.model, ROWS, **options)


def test_latents_that_are_called_differently_are_not_compared():
    guide, sampled = svi(coords=COORDS, dims=DIMS), exact()
    with pytest.raises(ArgumentError, match="give both the same coords and dims"):
        compare(guide, sampled)
    with pytest.raises(ArgumentError, match="give both the same coords and dims"):
        plot_compare(guide, sampled)
    with pytest.raises(ArgumentError, match="give both the same coords and dims"):
        plot_prior_posterior({"guide": guide, "exact": sampled})
