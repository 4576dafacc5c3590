import warnings

import numpy as np
import pytest

from pyro_idvae import _chains
from pyro_idvae._chains import balanced, effective_sample_size, split_rhat
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
    monkeypatch.setattr(_chains, "CHUNK", 1)
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


def test_chains_count_by_their_modes_masses():
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(4, 300, 3, 2))
    draws[0, :, 1] += 10.0
    mass = np.full((4, 3), 0.25)
    mass[:, 1] = [0.01, 0.33, 0.33, 0.33]
    mass[:, 2] = np.nan
    mixed = balanced(draws, mass)
    np.testing.assert_array_equal(mixed[:, :, [0, 2]], draws[:, :, [0, 2]])
    assert abs((mixed[:, :, 1, 0] > 5).mean() - 0.01) < 0.003
    # Coordinates of one draw stay together.
    pairs = {tuple(pair) for pair in draws[:, :, 1].reshape(-1, 2)}
    assert {tuple(pair) for pair in mixed[:, :, 1].reshape(-1, 2)} <= pairs
    assert (split_rhat(mixed)[1] < 1.05).all()
    assert (split_rhat(draws)[1] > 4).all()
