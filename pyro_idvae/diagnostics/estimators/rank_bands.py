# SPDX-License-Identifier: Apache-2.0
"""Are ranks uniform? Simultaneous bands around their empirical distribution, and exact p-values."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import bdtr, gammaln, log_ndtr

Array = np.ndarray[Any, Any]

NEGLIGIBLE = 1e-30
"""Chance beyond which a Poisson number of ranks in one cell is left out."""
SLACK = 1e-9
"""Relative rounding by which a curve may miss the band's edge and still count as on it."""
HALVINGS = 40
"""Steps in the search for a band's pointwise level."""
ERRORS = (np.arange(401) - 200) / 25
"""Errors in standard deviations over which the law of ranks is summed."""


class Band(NamedTuple):
    """How many of N ranks may be below each of 1, …, L: arrays of shape ``(L,)``."""

    lower: Array
    upper: Array


def uniform_cells(num_draws: int) -> Array:
    """Return the probabilities 1/(L+1) of the ranks 0, …, L."""
    return np.full(num_draws + 1, 1.0 / (num_draws + 1))


def normal_cells(num_draws: int, *, shift: float = 0.0, scale: float = 1.0) -> Array:
    r"""Return the law of the rank of a truth from N(0, 1) among draws from N(shift, scale²).

    .. math:: P(r) = \mathbb E_{z\sim N(0,1)}\,
        \mathrm{Bin}\bigl(r \mid L, \Phi((z - \text{shift})/\text{scale})\bigr)

    Args:
        num_draws: L.
        shift: mean of the draws.
        scale: their standard deviation.

    Returns:
        Probabilities of the ranks 0, …, L.
    """
    ranks, place = np.arange(num_draws + 1)[:, None], (ERRORS - shift) / scale
    log_ways = gammaln(num_draws + 1.0) - gammaln(ranks + 1.0) - gammaln(num_draws - ranks + 1.0)
    # By logarithms: scipy's binomial overflows where a probability is almost 0.
    log_mass = log_ways + ranks * log_ndtr(place) + (num_draws - ranks) * log_ndtr(-place)
    cells = np.exp(log_mass) @ np.exp(-0.5 * ERRORS**2)
    found: Array = cells / cells.sum()
    return found


def counts_below(ranks: Array, num_draws: int) -> Array:
    """Return how many ranks are below each of 1, …, L, in the order of these.

    Args:
        ranks: integers from 0 to L, of shape ``(N,)``.
        num_draws: L.
    """
    found: Array = np.bincount(ranks, minlength=num_draws + 1)[:-1].cumsum()
    return found


def pointwise_band(number: int, num_draws: int, level: float) -> Band:
    """Return the counts whose two binomial tails are each above half of a level.

    Args:
        number: N, how many ranks there are.
        num_draws: L.
        level: pointwise level.
    """
    share, wanted = _shares(num_draws), 0.5 * level * (1 + SLACK)
    # scipy's own quantiles fail at the levels of counts far out.
    low, high = np.full(num_draws, -1), np.full(num_draws, number)
    while (high - low > 1).any():
        middle = (low + high) // 2
        above = bdtr(middle, number, share) >= wanted
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return Band(high, number - high[::-1])


def _shares(num_draws: int) -> Array:
    """Return what share of uniform ranks is below 1, …, L."""
    return np.arange(1, num_draws + 1) / (num_draws + 1)


def exit_probability(band: Band, number: int, cells: Array) -> float:
    r"""Return the probability that the counts of N ranks leave a band somewhere.

    The counts below 1, …, L are those of independent Poisson numbers of ranks in each cell, given
    that there are N in all. With m the mass of the paths still inside,

    .. math:: m_k = (m_{k-1} * \mathrm{Poisson}(N p_k))\,1_{[\ell_k, u_k]}, \qquad
        P = \sum_k \sum_{c \notin [\ell_k, u_k]} (m_{k-1} * \mathrm{Poisson}(N p_k))(c)\,
        \frac{\mathrm{Poisson}(N - c \mid N(1 - F_k))}{\mathrm{Poisson}(N \mid N)}

    which sums what leaves rather than what stays, so that small probabilities are exact too.

    Args:
        band: the least and the greatest counts inside.
        number: N.
        cells: probabilities of the ranks 0, …, L, of shape ``(L + 1,)``.

    Returns:
        The probability, no more than 1e-20 too large.

    Example:
        >>> from pyro_idvae.diagnostics.estimators.rank_bands import (
        ...     exit_probability, pointwise_band, uniform_cells
        ... )
        >>> band = pointwise_band(500, 99, 0.05)  # each of 99 points at 5 %
        >>> round(exit_probability(band, 500, uniform_cells(99)), 2)
        0.47

    Reference:
        Säilynoja, Bürkner & Vehtari, *Graphical test for discrete uniformity and its applications
        in goodness-of-fit evaluation and multiple sample comparison*, Statistics and Computing 32,
        2022.
    """
    log_factorial = gammaln(np.arange(number + 1) + 1.0)
    # What comes after cell k, by its expected number; never below 0 by rounding.
    rest = np.maximum(1.0 - np.cumsum(cells), 0.0) * number
    whole = _log_poisson(np.array([number]), float(number), log_factorial)[0]
    mass, first, left, lost = np.ones(1), 0, 0.0, 0.0
    kernel, made_for = np.ones(1), 0.0
    for k in range(len(cells) - 1):
        rate = float(number * cells[k])
        if rate != made_for:
            kernel, made_for = _kernel(rate, number, log_factorial), rate
        lost += NEGLIGIBLE
        mass = np.convolve(mass, kernel)[: number + 1 - first]
        low, high = int(band.lower[k]) - first, int(band.upper[k]) - first + 1
        low, high = min(max(low, 0), len(mass)), min(max(high, 0), len(mass))
        for part, begin in ((mass[:low], first), (mass[max(high, low) :], first + max(high, low))):
            if len(part):
                after = number - begin - np.arange(len(part))
                left += float(part @ np.exp(_log_poisson(after, rest[k], log_factorial) - whole))
        mass, first = mass[low:high], first + low
        if not len(mass):
            break
    return min(1.0, left + lost * math.exp(-whole))


def _kernel(rate: float, number: int, log_factorial: Array) -> Array:
    """Return Poisson probabilities of 0, 1, … as far as they count."""
    log_mass = _log_poisson(np.arange(number + 1), rate, log_factorial)
    last = np.flatnonzero(log_mass > math.log(NEGLIGIBLE / number))[-1]
    return np.exp(log_mass[: last + 1])


def _log_poisson(counts: Array, rate: float, log_factorial: Array) -> Array:
    """Return log probabilities; of a rate of 0, all mass is on 0."""
    if rate <= 0.0:
        return np.where(counts == 0, 0.0, -np.inf)
    found: Array = counts * math.log(rate) - rate - log_factorial[counts]
    return found


def rank_p_value(ranks: Array, num_draws: int) -> float:
    r"""Return the exact p-value of the hypothesis that ranks are uniform on 0, …, L.

    The statistic is the smallest pointwise level whose band the counts leave,

    .. math:: \gamma = \min\bigl(1, \min_k 2\min\{P(B_k \le C_k), P(B_k \ge C_k)\}\bigr),
        \qquad B_k \sim \mathrm{Bin}(N, k/(L+1)),

    with C_k the number of ranks below k; the p-value is the probability of one as small.

    Args:
        ranks: integers from 0 to L, of shape ``(N,)``.
        num_draws: L.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.rank_bands import rank_p_value
        >>> ranks = np.random.default_rng(0).integers(0, 100, size=500)
        >>> rank_p_value(ranks, 99) > 0.05, rank_p_value(ranks // 2, 99) < 1e-20
        (True, True)
    """
    number = len(ranks)
    counts = counts_below(ranks, num_draws)
    share = _shares(num_draws)
    # B is at least C where N − B is at most N − C.
    tails = np.minimum(bdtr(counts, number, share), bdtr(number - counts, number, share[::-1]))
    level = 2.0 * float(tails.min())
    if level >= 1.0:
        return 1.0  # as near as counts can be: both tails of each hold half
    band = pointwise_band(number, num_draws, level)
    return exit_probability(band, number, uniform_cells(num_draws))


@lru_cache(maxsize=64)
def simultaneous_band(number: int, num_draws: int, level: float) -> Band:
    """Return the band that uniform ranks leave somewhere with at most this probability.

    Args:
        number: N.
        num_draws: L.
        level: of the whole band.
    """
    cells = uniform_cells(num_draws)
    # Between Bonferroni's pointwise level and that of a single point.
    low, high = math.log(level / num_draws), math.log(level)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        band = pointwise_band(number, num_draws, math.exp(middle))
        inside = exit_probability(band, number, cells) <= level
        low, high = (middle, high) if inside else (low, middle)
        if high - low < 1e-4:
            break
    return pointwise_band(number, num_draws, math.exp(low))
