import warnings

import numpy as np
import pytest

from pyro_idvae.diagnostics.estimators import effective_sample_size, ess
from pyro_idvae.errors import ShapeError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz


def autoregressive(seed, shape, rho):
    noise = np.random.default_rng(seed).normal(size=shape)
    for t in range(1, shape[1]):
        noise[:, t] = rho * noise[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return noise


@pytest.mark.parametrize("rho", [-0.6, 0.0, 0.5, 0.95])
@pytest.mark.parametrize("shape", [(1, 50), (2, 101), (4, 300), (2, 10), (1, 8)])
def test_agrees_with_arviz(shape, rho):
    draws = autoregressive(1, (*shape, 6), rho)
    wanted = [float(arviz.ess(draws[..., i], method="mean")) for i in range(6)]
    np.testing.assert_allclose(effective_sample_size(draws), wanted, rtol=1e-6)


def test_batches_in_pieces_and_single_precision(monkeypatch):
    draws = autoregressive(2, (2, 100, 3, 5), 0.5)
    whole = effective_sample_size(draws)
    assert whole.shape == (3, 5)
    monkeypatch.setattr(ess, "CHUNK", 1)
    np.testing.assert_array_equal(effective_sample_size(draws), whole)
    np.testing.assert_allclose(effective_sample_size(draws.astype("f4")), whole, rtol=1e-3)


def test_autocorrelation_divides_the_draws():
    draws = autoregressive(3, (4, 5000, 4), 0.8)
    np.testing.assert_allclose(effective_sample_size(draws), 20_000 / 9, rtol=0.25)


def test_constant_and_broken_series():
    draws = np.zeros((2, 50, 3))
    draws[0, 0, 1] = np.nan
    draws[..., 2] = 1e8
    np.testing.assert_array_equal(effective_sample_size(draws), [100.0, np.nan, 100.0])


def test_too_few_draws_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        effective_sample_size(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"\(9,\)"):
        effective_sample_size(np.zeros(9))
