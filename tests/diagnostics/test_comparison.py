import math
from statistics import NormalDist

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal
from scipy.stats import binom
from torch.distributions import kl_divergence

from pyro_idvae import compare, fit, from_guide, from_mcmc, mcmc
from pyro_idvae.arviz_io import groups_of, pareto_k, to_arviz
from pyro_idvae.diagnostics.compare.pairing import importance_k
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError, DataError, ShapeError, SiteMismatchError

ROWS, DRAWS = 30, 400
X = torch.linspace(-2.0, 2.0, ROWS)
SD = 0.5**0.5


def model(x):
    """z ~ N(0,1), x ~ N(z,1): the posterior is N(x/2, 1/√2)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def normal_guide(shift=0.0, scale=SD):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2 + shift, scale))

    return guide


def exact_draws(num_samples=DRAWS):
    return {"z": X / 2 + SD * torch.randn(2, num_samples, ROWS)}


@pytest.fixture(scope="module")
def exact():
    pyro.set_rng_seed(1)
    return from_mcmc(exact_draws(), model, X, num_prior_samples=2)


def of_guide(*, num_samples=2 * DRAWS, **options):
    guide = normal_guide(**options)
    return from_guide(model, guide, X, num_samples=num_samples, num_prior_samples=2)


def bonferroni(tests):
    return NormalDist().inv_cdf(1 - 0.001 / (2 * tests))


def test_an_exact_guide_agrees(exact):
    found = compare(of_guide(), exact)
    table = found.table
    assert table.index.names == ["latent", "data"]
    assert table.index.tolist() == [("z", row) for row in range(ROWS)]
    gaps = table[["mean_gap_mcse", "sd_gap_mcse"]].abs().to_numpy()
    assert gaps.max() < bonferroni(gaps.size)
    # In units of their errors gaps vary as they should: the errors are not too large either.
    assert 0.6 < math.sqrt((gaps**2).mean()) < 1.5
    assert (table["pareto_k"] < 0.7).all()
    for name in ("kl_svi_exact", "kl_exact_svi"):
        error = table[f"{name}_se"]
        assert table[name].notna().mean() > 0.9
        assert (table[name].dropna().abs() < 5 * error.dropna()).all()
        assert abs(table[name].mean()) < 5 * error.mean() / math.sqrt(ROWS)
        assert error.max() < 0.05
    # Draws of both sides vary: twice the binomial's variance.
    for name, prob in (("coverage_50", 0.5), ("coverage_90", 0.9)):
        error = math.sqrt(2 * binom.var(2 * DRAWS, prob)) / (2 * DRAWS)
        assert (table[name] - prob).abs().max() < bonferroni(ROWS) * error
    assert 0.7 < (table["wasserstein"] / table["wasserstein_by_chance"]).mean() < 1.3
    assert found.summary.startswith("the guide agrees with the exact posterior")
    assert len(found.summary.splitlines()) == 1
    assert "0.7 at 0% of the data points" in found.summary


def test_chance_says_agree_as_often_as_it_should(exact):
    calls = [compare(of_guide(num_samples=100), exact).summary for _ in range(6)]
    assert sum("agrees with" in call for call in calls) >= 5


def test_a_narrow_guide_is_as_far_as_its_closed_forms(exact):
    scale = 0.5 * SD
    found = compare(of_guide(scale=scale), exact)
    table = found.table
    ratio = (table["sd_svi"] / table["sd_exact"]).mean()
    assert abs(ratio - 0.5) < 5 * 0.5 / math.sqrt(2 * DRAWS * ROWS)
    assert (table["sd_gap_mcse"] < -10).all()
    assert (table["sd_gap_sd"] + 0.5).abs().max() < 0.1
    # W1 of two Normals with one mean: |s - s'| E|N|.
    wanted = (SD - scale) * math.sqrt(2 / math.pi)
    assert abs(table["wasserstein"].mean() - wanted) < 0.02
    wanted = float(kl_divergence(dist.Normal(0.0, scale), dist.Normal(0.0, SD)))
    assert ((table["kl_svi_exact"] - wanted).abs() < 5 * table["kl_svi_exact_se"]).all()
    assert abs(table["kl_svi_exact"].mean() - wanted) < 0.02
    # A tenth of the exact draws lies beyond the guide's: the other KL is anyone's guess.
    assert table["kl_exact_svi"].isna().all()
    assert table["kl_exact_svi_se"].isna().all()
    # Weights exp(z²/2 (1/s'² − 1/s²)) have the tail index 1 − s'²/s².
    assert abs(table["pareto_k"].mean() - 0.75) < 0.15
    half = NormalDist().inv_cdf(0.95) * 0.5
    nominal = 2 * NormalDist().cdf(half) - 1
    assert abs(table["coverage_90"].mean() - nominal) < 0.01
    assert found.summary.startswith("the guide is narrower than the exact posterior")
    assert f"{ROWS} of {ROWS} marginals" in found.summary


def test_a_very_narrow_guide_cannot_be_weighted(exact):
    found = compare(of_guide(scale=0.2 * SD, num_samples=2000), exact)
    # Of 30 rows of 2,000 such weights a share of .83 has k above .7, give or take .06.
    share = (found.table["pareto_k"] > 0.7).mean()
    assert share > 0.83 - 4 * 0.06
    assert (found.per_latent["share_k_above_0.7"] == share).all()


def test_a_shifted_guide_misses(exact):
    shift = 0.7
    found = compare(of_guide(shift=shift), exact)
    table = found.table
    assert (table["mean_gap_mcse"] > 10).all()
    assert abs(table["mean_gap_sd"].mean() - shift / SD) < 0.05
    assert abs(table["wasserstein"].mean() - shift) < 0.02
    wanted = shift**2 / (2 * SD**2)
    for name in ("kl_svi_exact", "kl_exact_svi"):
        known = table[table[name].notna()]
        assert len(known) > ROWS / 4
        assert ((known[name] - wanted).abs() < 5 * known[f"{name}_se"] + 0.05).all()
    assert found.summary.startswith("the guide misses the exact posterior")


def test_a_wide_guide_is_said_to_be_wide(exact):
    found = compare(of_guide(scale=1.5 * SD), exact)
    assert found.summary.startswith("the guide is wider than the exact posterior")
    assert (found.table["pareto_k"] < 0.7).all()
    wanted = float(kl_divergence(dist.Normal(0.0, SD), dist.Normal(0.0, 1.5 * SD)))
    assert abs(found.table["kl_exact_svi"].mean() - wanted) < 0.02


def test_one_density_for_all_data_has_one_k(exact):
    auto = AutoMultivariateNormal(model, init_scale=0.5)
    fit(model, auto, X, num_epochs=1, progress=False)
    found = compare(from_guide(model, auto, X, num_samples=100, num_prior_samples=2), exact)
    assert found.table["pareto_k"].isna().all()
    assert found.table["pareto_k_joint"].nunique() == 1
    assert "for all data jointly" in found.summary


def test_weights_are_those_of_the_data_point():
    svi = of_guide(scale=0.4, num_samples=300)
    groups = groups_of(svi)
    z = torch.as_tensor(groups["posterior"]["z"].values[0])
    log_joint = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 1.0).log_prob(X)
    wanted = log_joint - dist.Normal(X / 2, 0.4).log_prob(z)
    found, per_point = importance_k(Latents.of(svi))
    assert per_point
    np.testing.assert_allclose(found, pareto_k(wanted.double().numpy().T), atol=1e-2)


def test_a_point_has_no_density(exact):
    auto = AutoDelta(model)
    fit(model, auto, X, num_epochs=1, progress=False)
    found = compare(from_guide(model, auto, X, num_samples=30, num_prior_samples=2), exact)
    assert found.table["pareto_k"].isna().all()
    assert (found.table["sd_gap_sd"] == -1).all()
    assert found.table[["kl_svi_exact", "kl_exact_svi"]].isna().all(axis=None)
    assert "the guide has no density" in found.summary


def two_dims(x):
    scale = pyro.sample("scale", dist.Normal(torch.zeros(()), 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pyro.sample("x", dist.Normal(z + scale, 1.0).to_event(1), obs=x)


def two_dims_guide(x):
    pyro.sample("scale", dist.Normal(x.mean(), 0.3))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))


def test_vectors_and_global_latents_of_a_sampler():
    x = torch.randn(3, 2)
    coords = {"data": ["a", "b", "c"]}
    svi = from_guide(two_dims, two_dims_guide, x, num_samples=60, coords=coords)
    options = {"num_chains": 2, "kernel_options": {"max_tree_depth": 4}, "progress": False}
    nuts = mcmc(two_dims, x, num_samples=40, warmup_steps=40, coords=coords, seed=0, **options)
    found = compare(svi, nuts, probs=(0.8,))
    assert found.table.index.tolist() == [("scale", "all")] + [
        (latent, row) for latent in ("z[0]", "z[1]") for row in "abc"
    ]
    assert list(found.per_latent.index) == ["scale", "z[0]", "z[1]"]
    values = groups_of(svi)["posterior"]["z"].values
    np.testing.assert_allclose(
        found.table.loc[("z[1]", "c"), "mean_svi"], values[..., 2, 1].mean(), rtol=1e-5
    )
    averages = found.per_latent.loc["z[0]"]
    rows = found.table.loc["z[0]"]
    gap = rows["mean_gap_sd"].abs().mean()
    assert averages["mean_gap_sd_abs"] == pytest.approx(gap, rel=1e-12)
    assert averages["coverage_80"] == pytest.approx(rows["coverage_80"].mean(), rel=1e-12)
    assert "80% intervals cover" in found.summary
    assert str(found).startswith(found.summary)
    assert "z[1]" in str(found)
    alone = compare(svi, nuts, var_names=["scale"])
    assert alone.table.index.tolist() == [("scale", "all")]


def test_divergent_transitions_are_said(exact):
    stats = {"diverging": torch.ones(2, 30, dtype=torch.bool)}
    options = {"sample_stats": stats, "num_prior_samples": 2}
    nuts = from_mcmc(exact_draws(30), model, X, **options)
    assert "60 divergent" in compare(of_guide(num_samples=30), nuts).summary
    assert "divergent" not in compare(of_guide(num_samples=30), exact).summary


def test_what_cannot_be_compared_is_refused(exact):
    svi = of_guide(num_samples=30)
    with pytest.raises(ArgumentError, match="svi has inference_method='mcmc'"):
        compare(exact, svi)
    with pytest.raises(ArgumentError, match="nuts has inference_method='svi'"):
        compare(svi, svi)
    with pytest.raises(ArgumentError, match="expected a posterior"):
        compare(to_arviz({}), exact)
    with pytest.raises(ArgumentError, match="var_names=\\['y'\\]"):
        compare(svi, exact, var_names=["y"])
    with pytest.raises(ArgumentError, match="var_names='z'"):
        compare(svi, exact, var_names="z")
    with pytest.raises(ArgumentError, match="probs entry=1.5"):
        compare(svi, exact, probs=(1.5,))
    with pytest.raises(ArgumentError, match="probs="):
        compare(svi, exact, probs=())
    with pytest.raises(ArgumentError, match="svi has 5 draws"):
        compare(of_guide(num_samples=5), exact)

    def drawn(x, program=model, name="z", **options):
        draws = {name: torch.randn(1, 30, *x.shape)}
        return from_mcmc(draws, program, x, num_prior_samples=2, **options)

    with pytest.raises(DataError, match="same rows in the same order"):
        compare(svi, drawn(X.flip(0)))
    with pytest.raises(DataError, match=r"of shape \(30,\) but nuts of \(29,\)"):
        compare(svi, drawn(X[1:]))

    def renamed(x):
        with pyro.plate("data", len(x)):
            u = pyro.sample("u", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(u, 1.0), obs=x)

    with pytest.raises(SiteMismatchError, match="nuts has \\['u'\\]"):
        compare(svi, drawn(X, renamed, "u"))

    def other(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=x)

    with pytest.raises(DataError, match="nuts observes \\['y'\\]"):
        compare(svi, drawn(X, other))

    def larger(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    wide = from_mcmc({"z": torch.randn(1, 30, ROWS, 2)}, larger, X, num_prior_samples=2)
    with pytest.raises(ShapeError, match="must be the same"):
        compare(svi, wide)
    broken = drawn(X)
    broken["posterior"]["z"][0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="draws of 'z' that are not finite"):
        compare(svi, broken)
