import math
from statistics import NormalDist

import numpy as np
from scipy.stats import binom, wasserstein_distance

from pyro_idvae.diagnostics.estimators import normal_scores
from pyro_idvae.diagnostics.estimators.marginals import inside_range, moments, wasserstein


def test_autocorrelation_widens_the_errors():
    rho, num_samples = 0.9, 2000
    noise = np.random.default_rng(0).normal(size=(4, num_samples, 200))
    draws = noise.copy()
    for t in range(1, num_samples):
        draws[:, t] = rho * draws[:, t - 1] + math.sqrt(1 - rho**2) * noise[:, t]
    found = moments(draws, independent=False)
    assert 0.85 < (found.mean / found.mean_error).std() < 1.15
    assert 0.85 < ((found.sd - 1) / found.sd_error).std() < 1.15


def test_wasserstein_is_scipys():
    rng = np.random.default_rng(0)
    draws, other = rng.normal(size=(2, 50, 3)), np.round(rng.normal(1.0, 2.0, size=(1, 70, 3)), 1)
    found, _ = wasserstein(draws, other, np.full(3, 100.0), np.full(3, 70.0))
    wanted = [wasserstein_distance(draws[..., i].ravel(), other[..., i].ravel()) for i in range(3)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_equal_laws_are_inside_each_others_range_at_the_stated_level():
    rng = np.random.default_rng(0)
    cells, level = 20000, 0.001
    for n, m in ((100, 400), (400, 100)):
        inside = inside_range(
            rng.normal(size=(1, n, cells)),
            rng.normal(size=(1, m, cells)),
            np.full(cells, n),
            np.full(cells, m),
        )
        # Counts are discrete: the level is reached from below.
        assert 1 <= (~inside).sum() <= binom.ppf(1 - 1e-4, cells, level)


def test_scores_are_mid_ranks():
    reference = np.array([0.0, 1.0, 1.0, 2.0]).reshape(1, 4, 1)
    scores = normal_scores(np.array([-1.0, 1.0, 3.0]).reshape(1, 3, 1), reference)
    wanted = [NormalDist().inv_cdf(share) for share in (0.1, 0.5, 0.9)]
    np.testing.assert_allclose(scores[0, :, 0], wanted, atol=1e-12)
