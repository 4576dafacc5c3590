"""Ranks of truths among draws of known posteriors, thinned and with ties."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from pyro_idvae.diagnostics.calibration.quantities import products
from pyro_idvae.diagnostics.calibration.ranking import Measured, rank
from pyro_idvae.diagnostics.estimators.rank_bands import rank_p_value
from pyro_idvae.errors import DataError

NAMES = ["a", "b"]


def autoregressive(rng, correlation, shape):
    noise = rng.normal(size=shape)
    noise[:, 1:] *= math.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], noise, axis=1)


def measured(draws, truth, *, independent=False):
    return Measured(NAMES, [0, 1], draws, truth, independent, None)


@pytest.mark.parametrize("chains", [1, 4])
@pytest.mark.parametrize(("correlation", "worth"), [(0.0, 99), (0.8, 400 / 9), (0.9, 400 / 19)])
def test_chains_are_thinned_to_what_they_are_worth(chains, correlation, worth):
    rng = np.random.default_rng(1)
    draws = autoregressive(rng, correlation, (chains, 400 // chains, 1000, 2))
    found = rank(measured(draws, rng.normal(size=(1000, 2))), 99, rng)
    assert found.names == ["a", "b", "a × b"]
    assert found.num_draws <= min(99, 1.1 * worth)
    assert found.num_draws >= 0.4 * min(99, worth)
    assert found.num_draws % chains == 0
    for column in found.ranks.T:
        assert rank_p_value(column, found.num_draws) > 1e-4


def test_ranks_among_all_draws_of_a_slow_chain_are_not_uniform():
    """Why chains are thinned."""
    rng = np.random.default_rng(1)
    draws = autoregressive(rng, 0.95, (1, 99, 1000, 2))
    truth = rng.normal(size=(1000, 2))
    unthinned = rank(measured(draws, truth, independent=True), 99, rng)
    assert unthinned.num_draws == 99
    assert rank_p_value(unthinned.ranks[:, 0], 99) < 1e-4


def test_the_slowest_quantity_decides():
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(1, 400, 200, 2))
    draws[..., 1] = autoregressive(rng, 0.9, (1, 400, 200))
    found = rank(measured(draws, rng.normal(size=(200, 2))), 99, rng)
    assert found.num_draws < 40


def test_ranks_count_the_draws_below():
    draws = np.arange(12.0).reshape(1, 6, 2, 1).repeat(2, -1)
    truth = np.array([[3.0, -1.0], [12.0, 5.0]])
    found = rank(measured(draws, truth, independent=True), 6, np.random.default_rng(0))
    wanted = (draws[0] < truth).sum(0)
    # 5 is also a draw: below it or not, by chance.
    assert found.ranks[0, :2].tolist() == wanted[0].tolist()
    assert found.ranks[1, 0] == 6
    assert found.ranks[1, 1] in (wanted[1, 1], wanted[1, 1] + 1)


def test_ties_are_broken_evenly():
    rng = np.random.default_rng(3)
    draws = rng.integers(0, 2, size=(1, 9, 20_000, 2)).astype(float)
    truth = rng.integers(0, 2, size=(20_000, 2)).astype(float)
    found = rank(measured(draws, truth, independent=True), 9, rng)
    for column in found.ranks.T:
        assert rank_p_value(column, 9) > 1e-4


def test_products_see_correlation_and_not_that_of_the_means():
    rng = np.random.default_rng(4)
    means = rng.normal(size=500) * 10
    draws = means[:, None] + rng.normal(size=(1, 49, 500, 2)) * [[1.0]]
    factor = np.linalg.cholesky([[1.0, 0.6], [0.6, 1.0]])
    for truth, seen in (
        (means[:, None] + rng.normal(size=(500, 2)), False),
        (means[:, None] + rng.normal(size=(500, 2)) @ factor.T, True),
    ):
        found = rank(measured(draws, truth, independent=True), 49, rng)
        assert (rank_p_value(found.ranks[:, 2], 49) < 1e-4) is seen
        assert rank_p_value(found.ranks[:, 0], 49) > 1e-4


def test_products_of_what_does_not_move_are_zero():
    assert (products(np.ones((5, 2)), np.arange(10.0).reshape(5, 2)) == 0).all()


def test_draws_that_are_nan_are_refused_and_infinite_ones_are_ranked():
    rng = np.random.default_rng(5)
    draws, truth = rng.normal(size=(1, 50, 20, 2)), rng.normal(size=(20, 2))
    draws[0, 3, 4, 1] = -np.inf
    found = rank(Measured(NAMES, [], draws, truth, False, None), 20, rng)
    assert found.num_draws > 10
    draws[0, 3, 4, 1] = np.nan
    with pytest.raises(DataError, match="are NaN: look at"):
        rank(measured(draws, truth), 20, rng)
