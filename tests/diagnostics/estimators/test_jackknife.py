"""Standard errors, bias and limits by leaving out blocks."""

import numpy as np
import pytest
from scipy.stats import t

from pyro_idvae.diagnostics.estimators.jackknife import (
    Jackknifed,
    all_and_without_each,
    correlation_limits,
    jackknife,
    share_limits,
)


def replicates(statistic, x):
    kept = all_and_without_each(len(x)).astype(bool)
    return np.array([statistic(x[mask]) for mask in kept])


def test_of_a_mean_it_is_the_textbook_error():
    x = np.random.default_rng(0).normal(size=20)
    found = jackknife(replicates(np.mean, x))
    assert found.estimate == pytest.approx(x.mean())
    assert found.error == pytest.approx(x.std(ddof=1) / 20**0.5)


def test_a_bias_of_one_over_n_goes():
    x = np.random.default_rng(0).normal(size=20)
    raw, found = (jackknife(replicates(np.var, x), biased=biased) for biased in (False, True))
    assert raw.estimate == pytest.approx(x.var())
    assert found.estimate == pytest.approx(x.var(ddof=1))
    assert found.error == raw.error


def test_limits_of_a_correlation_are_fishers():
    found = Jackknifed(np.array([0.0, 0.5, -0.9]), np.array([0.1, 0.05, 0.02]), 30)
    low, high = correlation_limits(found, 0.9)
    wide = t.ppf(0.95, 29) * found.error / (1 - found.estimate**2)
    np.testing.assert_allclose(np.arctanh(low), np.arctanh(found.estimate) - wide)
    np.testing.assert_allclose(np.arctanh(high), np.arctanh(found.estimate) + wide)


def test_limits_of_a_share_stay_between_0_and_1():
    found = Jackknifed(np.array([-0.02, 0.01, 0.5, 0.999]), np.array([0.01, 0.02, 0.05, 1e-3]), 30)
    low, high = share_limits(found, 0.95)
    assert (low >= 0).all()
    assert (high <= 1).all()
    assert (low <= high).all()
    assert low[1] == 0
    assert low[2] < 0.5 < high[2]
    wide = t.ppf(0.975, 29) * 0.05 / 0.5
    assert np.log((1 - low[2]) / 0.5) == pytest.approx(wide)


def test_what_is_exact_has_no_width():
    for limits in (correlation_limits, share_limits):
        low, high = limits(Jackknifed(np.array(1.0), np.array(1e-17), 30), 0.95)
        assert low == high == 1.0
