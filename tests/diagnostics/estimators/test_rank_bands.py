"""Probabilities by the recursion against enumeration, closed forms and simulation."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from pyro_idvae.diagnostics.estimators.rank_bands import (
    Band,
    counts_below,
    exit_probability,
    normal_cells,
    pointwise_band,
    rank_p_value,
    simultaneous_band,
    uniform_cells,
)


def all_ranks(number, num_draws):
    return [np.array(ranks) for ranks in product(range(num_draws + 1), repeat=number)]


def is_outside(band, counts):
    return ((counts < band.lower) | (counts > band.upper)).any(-1)


@pytest.mark.parametrize(("number", "num_draws"), [(4, 3), (5, 2), (3, 5), (1, 4), (6, 1)])
def test_the_probability_is_that_of_all_paths_listed(number, num_draws):
    rng = np.random.default_rng(0)
    paths = [counts_below(ranks, num_draws) for ranks in all_ranks(number, num_draws)]
    for cells in (uniform_cells(num_draws), rng.dirichlet(np.ones(num_draws + 1))):
        for level in (0.01, 0.2, 0.6):
            band = pointwise_band(number, num_draws, level)
            weights = [np.prod(cells[ranks]) for ranks in all_ranks(number, num_draws)]
            wanted = sum(
                w for w, path in zip(weights, paths, strict=True) if is_outside(band, path)
            )
            assert exit_probability(band, number, cells) == pytest.approx(wanted, abs=1e-12)


def test_a_cell_of_no_probability_is_passed():
    cells = np.array([0.5, 0.0, 0.5])
    band = Band(np.array([1, 1]), np.array([3, 3]))
    wanted = 1 - sum(binom.pmf(c, 4, 0.5) for c in (1, 2, 3))
    assert exit_probability(band, 4, cells) == pytest.approx(wanted)


@pytest.mark.parametrize("number", [10, 40, 200])
def test_small_probabilities_are_exact(number):
    """With one draw there is one count, Bin(N, 1/2): all on one side has 2 · 2^-N."""
    found = rank_p_value(np.zeros(number, dtype=int), 1)
    assert found == pytest.approx(2.0 ** (1 - number), rel=1e-6, abs=1e-25)


def test_p_values_are_those_of_the_smallest_tail():
    number, num_draws = 4, 3
    share = np.arange(1, num_draws + 1) / (num_draws + 1)
    paths = [counts_below(ranks, num_draws) for ranks in all_ranks(number, num_draws)]
    levels = np.array(
        [
            min(binom.cdf(path, number, share).min(), binom.sf(path - 1, number, share).min())
            for path in paths
        ]
    )
    levels = np.minimum(levels, 0.5)
    for ranks, level in list(zip(all_ranks(number, num_draws), levels, strict=True))[::7]:
        wanted = (levels <= level * (1 + 1e-9)).mean()
        assert rank_p_value(ranks, num_draws) == pytest.approx(wanted)


@pytest.mark.parametrize(("number", "num_draws"), [(30, 9), (200, 60), (60, 100)])
def test_p_values_of_uniform_ranks_are_below_a_level_that_often(number, num_draws):
    rng = np.random.default_rng(1)
    runs = 300
    p = np.array(
        [rank_p_value(rng.integers(0, num_draws + 1, number), num_draws) for _ in range(runs)]
    )
    for level in (0.05, 0.3, 0.7):
        assert binom.sf((p <= level).sum() - 1, runs, level) > 1e-3
    # Not needlessly large either: discreteness costs little of the level.
    assert binom.cdf((p <= 0.3).sum(), runs, 0.2) > 1e-3


@pytest.mark.parametrize(("number", "num_draws", "level"), [(500, 99, 0.05), (50, 20, 0.3)])
def test_a_band_holds_its_level_and_a_wider_one_is_not_needed(number, num_draws, level):
    band = simultaneous_band(number, num_draws, level)
    cells = uniform_cells(num_draws)
    own = exit_probability(band, number, cells)
    assert own <= level
    narrower = Band(band.lower + 1, band.upper - 1)
    assert exit_probability(narrower, number, cells) > level
    rng = np.random.default_rng(2)
    counts = multinomial.rvs(number, cells, size=3000, random_state=rng)[:, :-1].cumsum(1)
    outside = is_outside(band, counts).sum()
    assert abs(outside / 3000 - own) < 4 * np.sqrt(own * (1 - own) / 3000)


def test_a_band_is_symmetric():
    band = simultaneous_band(100, 19, 0.05)
    np.testing.assert_array_equal(band.lower, 100 - band.upper[::-1])
    assert (band.lower <= 100 * np.arange(1, 20) / 20).all()


@pytest.mark.parametrize("law", [{}, {"scale": 0.8}, {"shift": 0.5}, {"shift": -1.0, "scale": 1.4}])
def test_laws_of_ranks_are_those_of_simulated_ones(law):
    rng = np.random.default_rng(3)
    draws = law.get("shift", 0.0) + law.get("scale", 1.0) * rng.normal(size=(9, 40_000))
    ranks = (draws < rng.normal(size=40_000)).sum(0)
    cells = normal_cells(9, **law)
    assert cells.sum() == pytest.approx(1.0)
    found = np.bincount(ranks, minlength=10) / 40_000
    assert (np.abs(found - cells) < 4.5 * np.sqrt(cells * (1 - cells) / 40_000)).all()


def test_draws_of_the_posterior_itself_have_uniform_ranks():
    np.testing.assert_allclose(normal_cells(49), 1 / 50, rtol=1e-6)


def test_power_is_that_of_simulated_ranks():
    number, num_draws = 200, 49
    band = simultaneous_band(number, num_draws, 0.05)
    cells = normal_cells(num_draws, scale=0.8)
    rng = np.random.default_rng(4)
    counts = multinomial.rvs(number, cells, size=2000, random_state=rng)[:, :-1].cumsum(1)
    power = exit_probability(band, number, cells)
    assert 0.2 < power < 0.95
    assert abs(is_outside(band, counts).mean() - power) < 4 * np.sqrt(power * (1 - power) / 2000)


@pytest.mark.parametrize("level", [0.0, 1e-100, 1e-5, 0.3, 0.9])
def test_pointwise_limits_are_quantiles_however_small_the_level(level):
    number, num_draws = 300, 50
    share = np.arange(1, num_draws + 1) / (num_draws + 1)
    band = pointwise_band(number, num_draws, level)
    assert (binom.cdf(band.lower, number, share) >= 0.5 * level).all()
    assert (binom.cdf(band.lower - 1, number, share) <= 0.5 * level * (1 + 1e-6)).all()
    assert (binom.sf(band.upper - 1, number, share) >= 0.5 * level * (1 - 1e-6)).all()
    assert (binom.sf(band.upper, number, share) <= 0.5 * level * (1 + 1e-6)).all()


def test_ranks_all_on_one_side_are_no_trouble():
    for rank in (0, 200, 499):
        assert rank_p_value(np.full(500, rank), 499) < 1e-20
