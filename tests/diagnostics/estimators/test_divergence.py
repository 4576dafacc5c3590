import numpy as np
import pytest
from scipy import stats

from pyro_idvae.diagnostics.estimators import (
    divergence,
    fitted_log_ratio,
    kl_from_labels,
    kl_to_normal,
    normal_scores,
)
from pyro_idvae.diagnostics.estimators.kl_estimate import LARGE, noncentrality
from pyro_idvae.errors import ArgumentError, DataError, ShapeError

GRID = np.linspace(-9.0, 9.0, 20_001)
STEP = GRID[1] - GRID[0]


def autoregressive(seed, shape, rho):
    noise = np.random.default_rng(seed).normal(size=shape)
    for t in range(1, shape[1]):
        noise[:, t] = rho * noise[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return noise


def quadrature(density):
    prior = stats.norm.pdf(GRID)
    return STEP * (density * np.log(np.maximum(density, 1e-300) / prior)).sum()


def within(count, total, share):
    """Tell whether a count is what a share would give, at four standard errors and a bit."""
    return abs(count - total * share) < 4 * np.sqrt(total * share * (1 - share)) + 0.01 * total


@pytest.mark.parametrize("sd", [1e-3, 0.05, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("mean", [0.0, 1.0, -6.0, 12.0])
def test_normal_laws(mean, sd):
    draws = mean + sd * np.random.default_rng(1).normal(size=(2, 1000, 30))
    wanted = -np.log(sd) + (sd**2 + mean**2 - 1) / 2
    found = kl_to_normal(draws, independent=True)
    error = found.estimate.std(ddof=1) / np.sqrt(30)
    # Second-order bias of a fit to 2,000 draws.
    assert abs(found.estimate.mean() - wanted) < 4 * error + 1e-3 * max(wanted, 0.1)
    deviation = found.estimate.std(ddof=1)
    assert 0.4 * deviation < np.sqrt(found.variance.mean()) < 2.5 * deviation
    single = kl_to_normal(draws.astype("f4"), independent=True).estimate
    np.testing.assert_allclose(single, found.estimate, atol=0.02 * max(wanted, 0.1))


@pytest.mark.parametrize(
    "law",
    [
        stats.beta(2.0, 5.0),
        stats.beta(30.0, 10.0),
        stats.beta(0.7, 0.7),
        stats.uniform(0.3, 0.5),
    ],
)
def test_laws_on_the_unit_interval_under_a_uniform_prior(law):
    u = law.rvs(size=(2, 10_000), random_state=2)
    wanted = -law.entropy()
    found = kl_to_normal(stats.norm.ppf(u), independent=True)
    # Edges are what eight moments resolve least; the fit is at most the KL.
    assert 0.9 * wanted - 0.01 < found.estimate < wanted + 4 * np.sqrt(found.variance)


@pytest.mark.parametrize("shift", [0.5, 0.8, 0.95])
def test_two_modes_with_the_priors_mean_and_variance(shift):
    sd = np.sqrt(1 - shift**2)
    rng = np.random.default_rng(3)
    draws = shift * rng.choice([-1, 1], size=(2, 10_000)) + sd * rng.normal(size=(2, 10_000))
    density = (stats.norm.pdf(GRID, shift, sd) + stats.norm.pdf(GRID, -shift, sd)) / 2
    found = kl_to_normal(draws, independent=True)
    assert found.estimate == pytest.approx(quadrature(density), rel=0.08, abs=0.003)


@pytest.mark.parametrize(("rho", "draws"), [(0.0, 150), (0.8, 450)])
def test_nothing_learned_is_called_so(rho, draws):
    total = 400
    found = kl_to_normal(autoregressive(4, (4, draws, total), rho))
    assert (found.p_value() < 0.05).sum() < 0.05 * total + 4 * np.sqrt(total * 0.05 * 0.95)
    assert (found.upper(0.95) < 0.05).mean() > 0.9
    assert abs(found.estimate.mean()) < 0.15 * found.bias.mean()
    assert found.mean().upper(0.95) < 0.005


@pytest.mark.parametrize(("mean", "sd"), [(0.447, 1.0), (0.0, 0.6), (0.0, 1.5), (1.0, 0.3)])
def test_limits_cover(mean, sd):
    total = 400
    draws = mean + sd * autoregressive(5, (4, 450, total), 0.6)
    wanted = -np.log(sd) + (sd**2 + mean**2 - 1) / 2
    found = kl_to_normal(draws)
    assert within((found.lower(0.95) <= wanted).sum(), total, 0.95)
    assert within((found.upper(0.95) >= wanted).sum(), total, 0.95)
    assert (found.upper(0.95) < 0.05).mean() <= 0.01
    assert (found.p_value() < 0.05).mean() > 0.95


def test_limits_of_means_over_data_points_cover():
    points, total = 40, 200
    rng = np.random.default_rng(6)
    means = rng.normal(0, 0.4, size=points)
    wanted = (means**2 / 2).mean()
    found = kl_to_normal(means + rng.normal(size=(1, 200, total, points)), independent=True)
    pooled = found.mean(1)
    assert pooled.raw.shape == (total,)
    # Slack for the bias makes them a little wider than they need be.
    assert (pooled.lower(0.95) <= wanted).mean() > 0.95 - 4 * 0.0154
    assert (pooled.upper(0.95) >= wanted).mean() > 0.95 - 4 * 0.0154
    assert abs(pooled.estimate.mean() - wanted) < 0.05 * wanted
    assert (pooled.upper(0.95) - pooled.lower(0.95)).mean() < 0.05


def test_a_reference_of_prior_draws_adds_its_noise():
    rng = np.random.default_rng(7)
    prior = np.sort(rng.normal(size=(300, 500)), axis=0)
    draws = rng.normal(size=(2, 300, 500))
    ranks = np.stack([np.searchsorted(prior[:, i], draws[..., i]) for i in range(500)], axis=-1)
    scores = stats.norm.ppf((ranks + 0.5) / 301)
    found = kl_to_normal(scores, reference_size=300, independent=True)
    assert (found.p_value() < 0.05).mean() < 0.08
    ignoring = kl_to_normal(scores, independent=True)
    assert (ignoring.p_value() < 0.05).mean() > 0.2
    # Draws that all fall between two prior draws.
    assert np.isfinite(kl_to_normal(np.zeros((1, 50)), reference_size=300).estimate)


@pytest.mark.parametrize("size", [200, 2000])
def test_beyond_all_prior_draws_no_more_is_claimed_than_they_tell(size):
    reference = np.random.default_rng(0).normal(size=(1, size, 1))
    draws = 9.0 + 1e-3 * np.random.default_rng(1).normal(size=(2, 300, 1))
    scores = normal_scores(draws, reference)
    assert np.ptp(scores) == 0  # no step of the cdf lies between them
    found = kl_to_normal(scores, reference_size=size)
    assert 0.7 * np.log(size) < float(found.estimate[0]) <= np.log(size + 1)
    elsewhere = normal_scores(np.array([[[0.0], [9.0]]]), reference)
    ratio = fitted_log_ratio(scores, elsewhere, reference_size=size)
    assert ratio[0, 1, 0] <= np.log(size) + 3
    assert ratio[0, 0, 0] > -1e4


def test_outliers_and_draws_far_out():
    draws = np.random.default_rng(8).normal(size=(2, 500, 3))
    draws[0, 0] = [9.0, 40.0, -300.0]
    found = kl_to_normal(draws)
    assert np.isfinite(found.estimate).all()
    far = kl_to_normal(draws[..., 0] * 1e-3 + 30.0)
    assert far.estimate == pytest.approx(450, rel=0.03)


def test_batches_in_pieces(monkeypatch):
    draws = np.random.default_rng(9).normal(size=(2, 100, 3, 4))
    whole = kl_to_normal(draws)
    assert whole.estimate.shape == (3, 4)
    monkeypatch.setattr(divergence, "CHUNK", 1)
    np.testing.assert_allclose(kl_to_normal(draws).estimate, whole.estimate, atol=1e-7)


@pytest.mark.parametrize("degrees", [0.5, 1.0, 2.5, 8.0, 4000.0])
@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_the_noncentrality_is_that_of_scipys_distribution(degrees, level):
    x = np.array([1e-3, 1.0, 12.0, 900.0, 5e3, 1e6])
    found = noncentrality(x, np.full(6, degrees), level)
    none = stats.chi2(degrees).cdf(x) <= level
    assert (found[none] == 0).all()
    below = stats.ncx2.cdf(x[~none], degrees, found[~none])
    np.testing.assert_allclose(below, level, atol=1e-8)


def test_huge_noncentralities_join_on():
    x = LARGE * np.array([0.99, 1.01])
    for level in (0.05, 0.95):
        exact, normal = noncentrality(x, np.full(2, 8.0), level) - x
        assert normal == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize(
    "p", [[0.25, 0.25, 0.25, 0.25], [0.5, 0.3, 0.1, 0.1], [0.97, 0.01, 0.01, 0.01]]
)
def test_labels(p):
    total = 400
    rng = np.random.default_rng(10)
    labels = rng.choice(4, size=(2, 400, total), p=p)
    prior = np.full(4, 0.25)
    wanted = (np.array(p) * np.log(np.array(p) / prior)).sum()
    found = kl_from_labels(labels, prior)
    error = found.estimate.std() / np.sqrt(total)
    assert abs(found.estimate.mean() - wanted) < 4 * error + 1e-3
    assert (found.lower(0.95) <= wanted).mean() > 0.95 - 4 * 0.011
    assert (found.upper(0.95) >= wanted).mean() > 0.95 - 4 * 0.011
    if wanted == 0:
        assert within((found.p_value() < 0.05).sum(), total, 0.05)


def test_labels_that_never_move_or_cannot_be():
    always = np.ones((1, 50), dtype=int)
    found = kl_from_labels(always, np.array([0.75, 0.25]))
    assert found.raw == pytest.approx(np.log(4))
    assert found.lower(0.95) > 1.2
    impossible = kl_from_labels(always, np.array([1.0, 0.0]))
    assert np.isinf(impossible.estimate)
    assert np.isinf(impossible.lower(0.95))
    assert impossible.p_value() == 0
    certain = kl_from_labels(0 * always, np.array([1.0, 0.0]))
    assert certain.upper(0.95) < 0.05


def test_bad_input_is_refused():
    with pytest.raises(ShapeError, match=r"\(chain, draw"):
        kl_to_normal(np.zeros(50))
    with pytest.raises(ArgumentError, match="1 × 19 draws"):
        kl_to_normal(np.zeros((1, 19)))
    with pytest.raises(ArgumentError, match="reference_size=0"):
        kl_to_normal(np.zeros((1, 50)), reference_size=0)
    with pytest.raises(DataError, match="1 of 2 series of draws are constant"):
        kl_to_normal(np.stack([np.arange(50.0), np.ones(50)], axis=-1)[None])
    with pytest.raises(DataError, match="not all finite"):
        kl_to_normal(np.full((1, 50), np.inf))
    with pytest.raises(DataError, match="float64: expected integers"):
        kl_from_labels(np.zeros((1, 50)), np.array([0.5, 0.5]))
    labels = np.zeros((1, 50, 3), dtype=int)
    with pytest.raises(DataError, match="run from 5 to 5"):
        kl_from_labels(labels + 5, np.array([0.5, 0.5]))
    with pytest.raises(ArgumentError, match="prior_probs is no distribution"):
        kl_from_labels(labels, np.array([0.5, 0.6]))
    with pytest.raises(ShapeError, match="two categories"):
        kl_from_labels(labels, np.array([1.0]))
    with pytest.raises(ShapeError, match=r"prior_probs has shape \(2, 2\)"):
        kl_from_labels(labels, np.full((2, 2), 0.5))
    with pytest.raises(ArgumentError, match=r"confidence=0\.5"):
        kl_from_labels(labels, np.array([0.5, 0.5])).upper(0.5)
