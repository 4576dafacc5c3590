# SPDX-License-Identifier: Apache-2.0
"""Which way ranks depart from uniform ones, and what departure a number of them would show."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from pyro_idvae.diagnostics.estimators.rank_bands import (
    exit_probability,
    normal_cells,
    simultaneous_band,
)

Array = np.ndarray[Any, Any]

POWER = 0.9
"""How often what is called detectable is seen."""
BEYOND = 2.5
"""Standard errors from which on a direction is named."""
ONE_SIDED = 0.3
"""Truths beyond all draws on one side, less those on the other: of more, no spread can be read."""
NARROWEST, FARTHEST = 0.05, 3.0
"""The departures that are searched: a standard deviation, and a shift in standard deviations."""
STEPS = 12
"""Halvings of these."""


class Departure(NamedTuple):
    """What ranks say of the draws, were the posterior a Normal and the draws another one."""

    shift: float
    """The draws' mean minus the posterior's, in the draws' standard deviations."""
    sd_ratio: float
    """The draws' standard deviation over the posterior's; NaN where most truths are beyond them."""
    words: str
    """``"too high"``, ``"too low"``, ``"too narrow"``, ``"too wide"``, or two of them."""


class Detectable(NamedTuple):
    """The least departures of one coordinate that are seen nine times in ten; None if none is."""

    narrow: float | None
    """A standard deviation of the draws over the posterior's, below 1."""
    shift: float | None
    """A shift in standard deviations."""


def departure(ranks: Array, num_draws: int) -> Departure:
    r"""Return which way ranks depart, from the mean and the spread of their Normal scores.

    A truth z ~ N(m, 1) among draws of N(m + δ, s²) has the score
    :math:`\Phi^{-1}(F(z)) = (z - m - \delta)/s`, of mean −δ/s and standard deviation 1/s.

    Args:
        ranks: integers from 0 to L.
        num_draws: L.
    """
    number, scores = len(ranks), ndtri((np.arange(num_draws + 1) + 0.5) / (num_draws + 1))
    own = scores[ranks]
    # Few draws say less than all of the spread: in units of what uniform ranks show.
    ratio = float(own.std(ddof=1) / scores.std())
    mean = float(own.mean() / scores.std())
    one_sided = abs(float((ranks == 0).mean() - (ranks == num_draws).mean())) > ONE_SIDED
    words = []
    if abs(mean) > BEYOND * ratio / math.sqrt(number):
        words.append("too low" if mean > 0 else "too high")
    if one_sided or ratio == 0.0:
        return Departure(-mean, math.nan, " and ".join(words) or "of another shape")
    if abs(math.log(ratio)) > BEYOND / math.sqrt(2 * number):
        words.append("too narrow" if ratio > 1 else "too wide")
    return Departure(-mean, 1.0 / ratio, " and ".join(words) or "of another shape")


@lru_cache(maxsize=64)
def detectable(number: int, num_draws: int, level: float) -> Detectable:
    """Return the least departures that are seen nine times in ten.

    Args:
        number: replications.
        num_draws: draws in each.
        level: of the test of one quantity.
    """
    band = simultaneous_band(number, num_draws, level)

    def is_seen(**law: float) -> bool:
        return exit_probability(band, number, normal_cells(num_draws, **law)) >= POWER

    narrow = _least(lambda size: is_seen(scale=1 - size), 1 - NARROWEST)
    shift = _least(lambda size: is_seen(shift=size), FARTHEST)
    return Detectable(None if narrow is None else 1 - narrow, shift)


def _least(is_seen: Callable[[float], bool], most: float) -> float | None:
    """Return the least size that is seen, if the greatest is."""
    if not is_seen(most):
        return None
    low, high = 0.0, most
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return high
