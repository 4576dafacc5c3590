"""Reports and pictures of groups that no longer belong together are refused, others are not."""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from pyro_idvae import (
    collapse_report,
    compare,
    from_guide,
    from_mcmc,
    mcmc,
    plot_compare,
    plot_prior_posterior,
)
from pyro_idvae.arviz_io import groups_of, save_netcdf
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz

ROWS = torch.tensor([[0.5, 0.1], [-1.0, 0.4], [2.0, -0.3], [0.2, 0.0]])
STORED = Path(__file__).parents[1] / "stored"
REFUSED = "edited and the other not|changed and the other not|of other draws"


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.6 * x, 0.5).to_event(1))


def without_scores(x):
    """The prior of z depends on a latent that all rows share: it has no normal scores."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), scale).to_event(1))
        pyro.sample("x", dist.Normal(z, 0.7).to_event(1), obs=x)


@cache
def sampled(seed=0):
    options = {"num_samples": 60, "num_chains": 2, "seed": seed, "progress": False}
    return mcmc(model, ROWS, kernel="vectorized", **options)


@cache
def guided():
    torch.manual_seed(1)
    return from_guide(model, guide, ROWS, num_samples=120)


@cache
def unscored():
    torch.manual_seed(2)
    samples = {"scale": torch.rand(2, 60) + 0.5, "z": torch.randn(2, 60, 4, 2)}
    return from_mcmc(samples, without_scores, ROWS)


MAKERS = {"chains": sampled, "guide": guided, "no scores": unscored}


def native(datasets):
    if arviz.__version__.startswith("0."):
        return arviz.InferenceData(**datasets)
    return xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in datasets.items()})


def changed(data, change, *names):
    """Return data with some groups changed; all if none are named."""
    datasets = {name: dataset.copy(deep=True) for name, dataset in groups_of(data).items()}
    for name in names or list(datasets):
        datasets[name] = change(datasets[name])
    return native(datasets)


def with_values(change, variable="z"):
    """Return a change of one variable's values, labels left alone."""

    def changed(dataset):
        array = dataset[variable]
        return dataset.assign({variable: (array.dims, change(array.values), array.attrs)})

    return changed


def shuffled(values):
    order = np.random.default_rng(0).permutation(values.shape[1])
    return values[:, order]


EDITS = {
    "other numbers": with_values(lambda z: np.random.default_rng(0).normal(size=z.shape)),
    "one other number": with_values(lambda z: np.where(z == z.flat[17], 0.0, z)),
    "scaled": with_values(lambda z: 1.01 * z),
    "shifted": with_values(lambda z: z + 0.001),
    "mirrored": with_values(np.negative),
    "shuffled": with_values(shuffled),
    "draws reversed": with_values(lambda z: z[:, ::-1]),
    "chains swapped": with_values(lambda z: z[::-1, :] if len(z) > 1 else 2 * z),
    "rows permuted": with_values(lambda z: z[:, :, ::-1]),
    "one coordinate up, the other down": with_values(lambda z: z + np.array([0.1, -0.1])),
    "rotated": with_values(lambda z: z @ np.array([[0.6, -0.8], [0.8, 0.6]])),
    "thinned": lambda data: data.isel(draw=slice(None, None, 2)),
    "thinned and numbered anew": lambda data: data.isel(draw=slice(0, 30)).assign_coords(
        draw=np.arange(30)
    ),
    "burnt in": lambda data: data.isel(draw=slice(10, None)),
    "some rows": lambda data: data.isel(data=[0, 2]),
    "rows in another order": lambda data: data.isel(data=[3, 2, 1, 0]),
    "one chain": lambda data: data.isel(chain=[0]).assign_coords(chain=[5]),
    "rows numbered anew": lambda data: data.assign_coords(data=np.arange(4) + 1),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_the_posterior_alone_is_refused(maker, edit):
    data = MAKERS[maker]()
    edited = changed(data, EDITS[edit], "posterior")
    for read in (collapse_report, plot_prior_posterior):
        with pytest.raises(ArgumentError, match=f"data has .*({REFUSED})"):
            read(edited)


@pytest.mark.parametrize("maker", ["chains", "guide"])
def test_coordinates_that_were_swapped_are_told_by_their_scores(maker):
    edited = changed(MAKERS[maker](), with_values(lambda z: z[..., ::-1]), "posterior")
    with pytest.raises(ArgumentError, match=REFUSED):
        collapse_report(edited)


@pytest.mark.parametrize("edit", ["scaled", "shuffled", "thinned"])
def test_a_comparison_names_the_side_that_was_edited(edit):
    svi, nuts = guided(), sampled()
    for side in ("svi", "nuts"):
        both = {"svi": svi, "nuts": nuts}
        both[side] = changed(both[side], EDITS[edit], "posterior")
        for read in (compare, plot_compare):
            with pytest.raises(ArgumentError, match=f"{side} has .*({REFUSED})"):
                read(both["svi"], both["nuts"])


@pytest.mark.parametrize(
    ("group", "edit"),
    [
        ("sample_stats", with_values(shuffled, "prior_score_z")),
        ("sample_stats", with_values(np.negative, "prior_score_z")),
        ("sample_stats", lambda stats: stats.isel(draw=slice(0, 30))),
        ("log_likelihood", lambda data: data.isel(data=[1, 0, 2, 3])),
        ("log_prior", lambda data: data.isel(draw=slice(None, None, 3))),
        ("prior", with_values(lambda z: 2 * z)),
        ("prior", with_values(shuffled)),
        ("prior", lambda data: data.isel(draw=slice(0, 20))),
        ("sample_stats_prior", lambda data: data.isel(data=[0, 1])),
        ("observed_data", lambda data: data.isel(data=[3, 2, 1, 0])),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_an_edit_of_another_group_alone_is_refused(group, edit):
    with pytest.raises(ArgumentError, match=REFUSED):
        collapse_report(changed(sampled(), edit, group))


@pytest.mark.parametrize("group", ["posterior", "sample_stats", "log_likelihood", "log_prior"])
def test_a_group_of_other_draws_is_refused(group):
    one, other = sampled(seed=0), sampled(seed=1)
    mixed = changed(one, lambda _: groups_of(other)[group], group)
    with pytest.raises(ArgumentError, match=REFUSED):
        collapse_report(mixed)
    # What of another run is of the prior alone belongs to it as well.
    parts = {name: groups_of(other)[name] for name in ("prior", "sample_stats_prior")}
    collapse_report(native({**groups_of(one), **parts}))


SELECTIONS = {
    "draws": {"draw": slice(None, None, 2)},
    "the end of each chain": {"draw": slice(10, None)},
    "some rows": {"data": [0, 2]},
    "rows in another order": {"data": [3, 2, 1, 0]},
    "chains": {"chain": [-1]},
    "coordinates": {"z_dim_0": [1]},
    "coordinates in another order": {"z_dim_0": [1, 0]},
    "one coordinate": {"z_dim_0": 1},
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_what_is_selected_from_all_groups_belongs_together(maker, selection):
    wanted = SELECTIONS[selection]

    def select(dataset):
        return dataset.isel({dim: part for dim, part in wanted.items() if dim in dataset.dims})

    chosen = changed(MAKERS[maker](), select)
    latents = Latents.of(chosen)
    collapse_report(chosen)
    if selection == "coordinates":
        assert latents.sites["z"].labels == ("z[1]",)


def test_arvizs_own_selection_and_concatenation_belong_together():
    data = sampled()
    collapse_report(data.sel(draw=slice(20, None)))
    collapse_report(data.sel(data=[1, 3]))

    def of_chains(dataset):
        return dataset.drop_vars([n for n, v in dataset.items() if "draw" not in v.dims])

    one, other = (changed(sampled(seed), of_chains, "sample_stats") for seed in (0, 1))
    both = {
        name: dataset
        if name == "observed_data"
        else xr.concat(
            [dataset, groups_of(other)[name]], "chain", combine_attrs="drop_conflicts"
        ).assign_coords(chain=np.arange(2 * dataset.sizes["chain"]))
        for name, dataset in groups_of(one).items()
    }
    collapse_report(native(both))
    if arviz.__version__.startswith("0."):
        for dim in ("chain", "draw"):
            together = arviz.concat(one, other, dim=dim)
            assert Latents.of(together).sites["z"].values.size == 2 * 2 * 60 * 4 * 2
            collapse_report(together)


def test_files_and_numbers_of_single_precision_belong_together(tmp_path):
    for name, maker in MAKERS.items():
        data = maker()
        save_netcdf(data, tmp_path / "draws.nc")
        collapse_report(arviz.from_netcdf(str(tmp_path / "draws.nc")))

        def in_single(dataset):
            return dataset.map(lambda v: v.astype("float32") if v.dtype == "float64" else v)

        single = changed(data, in_single)
        assert groups_of(single)["sample_stats"]["checksum_z"].dtype == np.float32, name
        collapse_report(single)


def test_double_precision_draws_are_not_fooled_by_their_size():
    def far(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.tensor(1e4, dtype=torch.float64), 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    x = torch.full((3,), 1e4, dtype=torch.float64)
    data = from_mcmc({"z": x + torch.randn(2, 40, 3, dtype=torch.float64)}, far, x)
    collapse_report(data)
    with pytest.raises(ArgumentError, match=REFUSED):
        collapse_report(changed(data, EDITS["shuffled"], "posterior"))


def test_draws_changed_and_converted_anew_are_read():
    data = sampled()
    z = torch.as_tensor(groups_of(data)["posterior"]["z"].values)
    collapse_report(from_mcmc({"z": -z}, model, ROWS, num_limit_draws=0))


def test_numbers_that_are_none_are_told_of_as_such():
    data = changed(sampled(), with_values(lambda z: np.where(z > 1, np.nan, z)), "posterior")
    with pytest.raises(ValueError, match="not all finite"):
        collapse_report(data)


def test_files_of_an_older_version_are_judged_by_their_scores():
    for name in ("svi", "nuts", "older"):
        data = arviz.from_netcdf(str(STORED / f"{name}.nc"))
        assert "checksum_z" not in groups_of(data)["sample_stats"]
        collapse_report(data)
        for edit in ("other numbers", "shuffled", "rows permuted", "mirrored", "thinned"):
            with pytest.raises(ArgumentError, match=REFUSED):
                collapse_report(changed(data, EDITS[edit], "posterior"))
