"""Reports of draws that are read some rows at a time: those of all rows at once."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from pyro_idvae import (
    collapse_report,
    compare,
    consistency,
    from_guide,
    from_mcmc,
    mcmc,
    plot_compare,
    plot_prior_posterior,
)
from pyro_idvae.arviz_io import groups_of, native
from pyro_idvae.diagnostics import parts
from pyro_idvae.diagnostics.collapse import latent_kl
from pyro_idvae.diagnostics.collapse.report import report_on
from pyro_idvae.diagnostics.parts import Parts, Source
from pyro_idvae.errors import ArgumentError, DataError

ROWS = 24
X = torch.linspace(-2, 2, ROWS)
LEVEL = {"epsilon": 0.05, "confidence": 0.95}


def summed(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        w = pyro.sample("w", dist.Gamma(2.0, 1.0))
        pyro.sample("x", dist.Normal(z[:, :2].sum(-1) + w.log(), 0.5), obs=x)


def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x[:, None] / torch.tensor([3.0, 3.0, 1e6]), 0.7).to_event(1))
        pyro.sample("w", dist.Gamma(2.0 + 0.1 * x, 1.0))


def joint(x):
    factor = torch.eye(3 * len(x)) * 0.7
    z = dist.MultivariateNormal(torch.zeros(3 * len(x)), scale_tril=factor)
    flat = pyro.sample("flat", z, infer={"is_auxiliary": True})
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Delta(flat.reshape(-1, 3), event_dim=1))
        pyro.sample("w", dist.Gamma(2.0, 1.0))


def labelled(x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(y, 0.5), obs=x)


def shared(x):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(m + z, 0.5), obs=x)


@pytest.fixture(scope="module")
def exact():
    options = {"kernel": "vectorized", "num_samples": 60, "num_chains": 2, "warmup_steps": 60}
    return mcmc(summed, X, seed=0, progress=False, **options)


@pytest.fixture(scope="module")
def of_guide():
    torch.manual_seed(0)
    return from_guide(summed, guide, X, num_samples=120)


@pytest.fixture(scope="module")
def apart():
    """Chains of one row disagree, and nothing tells the masses of their modes."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(2, 100, ROWS, 3, generator=generator)
    z[0, :, 11] += 5
    w = torch.rand(2, 100, ROWS, generator=generator) + 0.5
    return from_mcmc({"z": z, "w": w}, summed, X, num_limit_draws=0)


def check_same(one, other):
    for name in ("table", "directions", "pairs"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), rtol=1e-9)
    pd.testing.assert_series_equal(one.vector, other.vector, rtol=1e-9)
    xr.testing.assert_allclose(one.per_point, other.per_point, rtol=1e-9)
    assert str(one) == str(other)


@pytest.mark.parametrize("rows", [1, 4, 22])
@pytest.mark.parametrize("draws", ["exact", "of_guide", "apart"])
def test_a_report_by_parts_is_that_of_all_rows(request, draws, rows):
    data = request.getfixturevalue(draws)
    found = Parts.of(data, rows=rows)
    assert len(found.readers) == -(-ROWS // rows)
    check_same(report_on(found, **LEVEL), collapse_report(data))


def test_rows_that_are_left_out_are_left_out_of_every_part(apart):
    report = report_on(Parts.of(apart, rows=1), **LEVEL)
    assert report.chains.num_left_out == 1
    assert report.table["data_points"].tolist() == [ROWS - 1] * 4
    assert set(range(ROWS)) - set(report.per_point["data"].values.tolist()) == {11}


def test_too_many_rows_that_disagree_are_a_selection_of_all_parts(apart):
    data = {
        g: d.isel(data=slice(8, 21)) if "data" in d.dims else d for g, d in groups_of(apart).items()
    }
    few = native(data)
    by_parts, whole = report_on(Parts.of(few, rows=3), **LEVEL), collapse_report(few)
    assert by_parts.chains.selection
    check_same(by_parts, whole)


def test_a_pool_of_some_draws_is_the_same_by_parts(monkeypatch, exact):
    monkeypatch.setattr(latent_kl, "POOLED", 500)
    check_same(report_on(Parts.of(exact, rows=5), **LEVEL), collapse_report(exact))


def test_latents_of_all_rows_together_are_one_part():
    torch.manual_seed(0)
    for made in (
        from_guide(summed, joint, X, num_samples=50),
        from_mcmc({"y": (torch.rand(2, 50, ROWS) < 0.5).float()}, labelled, X),
        from_mcmc({"m": torch.randn(2, 50), "z": torch.randn(2, 50, ROWS)}, shared, X),
    ):
        assert len(Parts.of(made, rows=4).readers) == 1


def test_many_numbers_are_read_in_parts_by_themselves(monkeypatch, exact):
    monkeypatch.setattr(parts, "NUMBERS_AT_ONCE", 2 * 60 * 4 * 5)
    assert len(Parts.of(exact).readers) == 5
    whole = report_on(Parts.of(exact, rows=ROWS), **LEVEL)
    check_same(collapse_report(exact), whole)


def test_a_part_that_is_not_finite_is_refused(apart):
    data = {group: dataset.copy(deep=True) for group, dataset in groups_of(apart).items()}
    data["posterior"]["z"].values[0, 0, 21, 0] = np.nan
    with pytest.raises(DataError, match="'z' are not all finite"):
        report_on(Parts.of(native(data), rows=2), **LEVEL)


def test_a_part_that_was_changed_by_itself_is_refused(exact):
    data = {group: dataset.copy(deep=True) for group, dataset in groups_of(exact).items()}
    data["posterior"]["z"].values[:, :, 21] += 1.0
    with pytest.raises(ArgumentError, match="are not those that 'sample_stats' was made of"):
        report_on(Parts.of(native(data), rows=2), **LEVEL)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("side", ["exact", "apart"])
def test_a_comparison_by_parts_is_that_of_all_rows(monkeypatch, request, of_guide, side, rows):
    drawn = request.getfixturevalue(side)
    whole = compare(of_guide, drawn)
    assert len(Parts.together({"svi": of_guide, "nuts": drawn})[0].readers) == 1
    monkeypatch.setattr(parts, "NUMBERS_AT_ONCE", rows * 4 * 200)
    counts = [len(one.readers) for one in Parts.together({"svi": of_guide, "nuts": drawn})]
    assert counts[0] == counts[1] >= ROWS // (2 * rows)
    found = compare(of_guide, drawn)
    pd.testing.assert_frame_equal(found.table, whole.table, rtol=1e-12)
    pd.testing.assert_frame_equal(found.per_latent, whole.per_latent, rtol=1e-12)
    assert found.summary == whole.summary


def test_what_is_said_of_all_rows_at_once_counts_once(monkeypatch, of_guide):
    """Divergences of draws of all rows together are not those of each part."""
    generator = torch.Generator().manual_seed(3)
    values = {"z": torch.randn(2, 100, ROWS, 3, generator=generator)}
    values["w"] = torch.rand(2, 100, ROWS, generator=generator) + 0.5
    diverging = torch.zeros(2, 100, dtype=torch.bool)
    diverging[1, :3] = True
    stats = {"diverging": diverging}
    drawn = from_mcmc(values, summed, X, sample_stats=stats, num_limit_draws=0)
    whole = compare(of_guide, drawn).summary
    assert "caution: 3 divergent transitions" in whole
    monkeypatch.setattr(parts, "NUMBERS_AT_ONCE", 1)
    assert compare(of_guide, drawn).summary == whole


def test_rows_of_different_draws_are_not_read_apart(of_guide, exact):
    few = from_guide(summed, guide, X[:5], num_samples=50)
    for one in Parts.together({"svi": few, "nuts": exact}, rows=2):
        assert len(one.readers) == 1
    with pytest.raises(DataError, match="draw both given the same rows"):
        compare(few, exact)


def test_consistency_by_parts_is_that_of_all_rows(monkeypatch, of_guide, exact):
    whole = consistency([of_guide, exact], var_names=["w"])
    monkeypatch.setattr(parts, "NUMBERS_AT_ONCE", 1)
    assert len(Parts.of(exact).readers) == ROWS
    assert str(consistency([of_guide, exact], var_names=["w"])) == str(whole)


def test_pictures_read_only_the_rows_that_they_show(monkeypatch, of_guide, exact):
    read = []
    found = Source.latents

    def watched(source, rows=None):
        read.append(rows)
        return found(source, rows)

    monkeypatch.setattr(Source, "latents", watched)
    axes = plot_compare(of_guide, exact, var_name="z", row=-2)
    assert read == [slice(ROWS - 2, ROWS - 1)] * 2
    assert axes[0, -1].get_legend().get_title().get_text().startswith(f"data {ROWS - 2}")
    with pytest.raises(ArgumentError, match=f"row={ROWS}"):
        plot_compare(of_guide, exact, row=ROWS)
    monkeypatch.setattr("pyro_idvae.plots.prior_posterior.POOLED_ROWS", 4)
    axes = plot_prior_posterior(exact, num_data=2)
    assert read[2:] == [slice(0, 4)]
    legend = axes[0, 0].figure.legends[0].get_title().get_text()
    assert legend == f"2 of {ROWS} data points shown"


def test_divergences_of_rows_under_their_old_name_count_in_every_part(monkeypatch, of_guide, exact):
    groups = {group: dataset.copy() for group, dataset in groups_of(exact).items()}
    stats = groups["sample_stats"]
    diverging = xr.zeros_like(stats["row_diverging"])
    diverging[0, 0, [1, 7, 9]] = True
    groups["sample_stats"] = stats.drop_vars("row_diverging").assign(diverging=diverging)
    old = native(groups)
    whole = compare(of_guide, old).summary
    assert "caution: 3 divergent transitions" in whole
    monkeypatch.setattr(parts, "NUMBERS_AT_ONCE", 1)
    assert compare(of_guide, old).summary == whole
