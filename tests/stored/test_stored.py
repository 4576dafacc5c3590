"""Reports and plots of files of draws, with every version of ArviZ. Needs no torch."""

import json
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

from pyro_idvae.arviz_io import Variable, groups_of, to_arviz
from pyro_idvae.diagnostics.collapse import collapse_report
from pyro_idvae.diagnostics.compare import compare
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError
from pyro_idvae.plots.collapse import plot_collapse
from pyro_idvae.plots.compare import plot_compare
from pyro_idvae.plots.prior_posterior import plot_prior_posterior

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz

HERE = Path(__file__).parent
SAID = json.loads((HERE / "said.json").read_text())
RTOL = 1e-6


def stored(name):
    return arviz.from_netcdf(str(HERE / f"{name}.nc"))


@pytest.mark.parametrize("name", ["svi", "nuts"])
def test_a_report_says_the_same(name):
    report, said = collapse_report(stored(name)), SAID[name]
    assert report.verdict == said["verdict"]
    assert report.table["verdict"].tolist() == said["verdicts"]
    assert report.table.index.tolist() == said["labels"] == ["z[0]", "z[1]"]
    figures = report.table.select_dtypes("number").astype(float).values
    np.testing.assert_allclose(figures, said["figures"], rtol=RTOL, atol=1e-9)
    np.testing.assert_allclose(report.per_point["kl"], said["points"], rtol=RTOL, atol=1e-9)
    assert "first" in report.per_point["data"].values.tolist()
    labels = [text.get_text() for text in plot_collapse(report).get_yticklabels()]
    assert labels[1:] == said["labels"]


def test_draws_of_an_older_version_fall_back_on_all_latents_together():
    """Without limits of their own: what is not informative is undecided, not collapsed."""
    report = collapse_report(stored("older"))
    assert report.table["verdict"].tolist() == ["informative", "undecided"]
    assert set(report.table["limit_by"]) == {"J of all"}
    assert "the limit is" in report.table["why"].iloc[1]


def test_a_comparison_says_the_same():
    table = compare(stored("svi"), stored("nuts")).table
    k = table.columns.get_loc("pareto_k")
    found, said = table.values.astype(float), np.array(SAID["compare"], dtype=float)
    np.testing.assert_allclose(np.delete(found, k, 1), np.delete(said, k, 1), rtol=RTOL, atol=1e-9)
    # The two lines of ArviZ fit tails of different lengths.
    np.testing.assert_allclose(found[:, k], said[:, k], atol=0.25)


def test_what_is_read_and_drawn():
    svi, nuts = Latents.of(stored("svi")), Latents.of(stored("nuts"))
    assert (svi.independent, nuts.independent) == (True, False)
    assert svi.data_dim == nuts.data_dim == "data"
    axes = plot_prior_posterior({"guide": stored("svi"), "exact": stored("nuts")})
    assert axes.shape == (3, 2)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["first", "second", "third"]
    assert plot_compare(stored("svi"), stored("nuts"), row=2).shape == (2, 2)


def test_names_and_labels_are_read():
    report = collapse_report(stored("named"))
    assert report.table.index.tolist() == ["z[seen]", "z[unseen]"]
    assert report.per_point["kl"].dims == ("cell", "latent")
    axes = plot_prior_posterior(stored("named"))
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["first", "second", "third"]
    assert [ax.get_xlabel() for ax in axes[-1]] == ["z[seen]", "z[unseen]"]
    stats = groups_of(stored("named"))["sample_stats"]
    assert stats["energy"].dims == stats["diverging"].dims == ("chain", "draw")
    assert stats["row_energy"].dims == ("chain", "draw", "cell")


def test_draws_that_were_edited_by_themselves_are_refused():
    for name in ("svi", "nuts", "named"):
        groups = {group: data.copy(deep=True) for group, data in groups_of(stored(name)).items()}
        groups["posterior"]["z"].values[:] = groups["posterior"]["z"].values[:, ::-1]
        variables = {
            group: {n: Variable(v.values, v.dims, (), v.attrs) for n, v in data.data_vars.items()}
            for group, data in groups.items()
        }
        with pytest.raises(ArgumentError, match="one was changed and the other not"):
            collapse_report(to_arviz(variables, attrs=groups["posterior"].attrs))
