# SPDX-License-Identifier: Apache-2.0
"""Importance weights from the log densities they are made of, and how heavy their tail is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from pyro_idvae.arviz_io import largest, pareto_k, tail_size

Array = np.ndarray[Any, Any]

ROUNDINGS = 64.0
"""Units of rounding that a sum of log densities may be off by: exact guides come out up to 26 apart
in float32, and what is beyond, where terms much larger than their sum cancel, up to 120."""


class LogWeights(NamedTuple):
    """Log weights, in nats."""

    values: Array
    """Of shape ``(rows, draws)``; −inf for a weight of 0."""
    rounding: Array
    """How far apart, in nats, equal weights may come out, by row."""


class Weights(NamedTuple):
    """Importance weights and how heavy their tail is."""

    log_weights: Array
    """In nats, of shape ``(rows, draws)``."""
    pareto_k: Array
    """k by row; see :func:`pyro_idvae.arviz_io.pareto_k`."""


def weigh(terms: Sequence[Array], *, joint: bool = False) -> Weights:
    """Return importance weights from the log densities they are made of, and their Pareto k.

    Args:
        terms: as in :func:`sum_terms`.
        joint: likewise.
    """
    values, rounding = sum_terms(terms, joint=joint)
    return Weights(values, pareto_k(values, rounding=rounding))


def sum_terms(terms: Sequence[Array], *, joint: bool = False) -> LogWeights:
    r"""Return log weights from the log densities they are made of.

    .. math:: \log w = \sum_j t_j, \qquad
        \text{rounding} = 64 \sum_j \varepsilon_j (1 + |t_j|)

    at the largest weight, with ε_j the unit of rounding of the type t_j was computed in. Weights
    that far apart count as equal.

    Args:
        terms: log p(x|z), log p(z) and −log q(z|x) of every site, of shape ``(draws, rows)`` each.
        joint: whether to weight all rows together; terms may then have different numbers of rows,
            whose roundings are independent and add up by their squares.
    """
    parts = (t.sum(-1, keepdims=True, dtype=np.float64) if joint else t for t in terms)
    with np.errstate(invalid="ignore"):
        total: Array = sum(parts, np.zeros((1, 1)))
    # Not the largest rounding: draws far off, which weigh nothing, have large log densities.
    place = total.argmax(0)
    rounding = np.zeros(len(place))
    for term in terms:
        there = term[place] if joint else np.take_along_axis(term, place[None], axis=0)
        size = ROUNDINGS * np.finfo(term.dtype).eps * (1 + np.abs(there[0].astype(np.float64)))
        rounding += np.sqrt((size**2).sum(keepdims=True)) if joint else size
    return LogWeights(total.T, rounding)


class RunningWeights:
    """Weights of draws that come in blocks: their mean and Pareto k, without keeping them all.

    Of each row it keeps the logarithm of the sum, and the largest weights, on which k depends.

    Args:
        rows: data points.
        number: how many draws there will be in all.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.weights import RunningWeights, sum_terms, weigh
        >>> terms = [np.random.default_rng(0).normal(size=(1000, 3))]
        >>> running = RunningWeights(3, 1000)
        >>> for first in range(0, 1000, 250):
        ...     running.add(sum_terms([term[first : first + 250] for term in terms]))
        >>> bool((running.pareto_k() == weigh(terms).pareto_k).all())
        True
    """

    def __init__(self, rows: int, number: int) -> None:
        self.number = number
        self._log_sum = np.full(rows, -np.inf)
        self._highest = np.full(rows, -np.inf)
        self._rounding = np.zeros(rows)
        self._kept: list[Array] = []

    def add(self, block: LogWeights) -> None:
        """Take in the weights of some draws, none of them NaN or infinite."""
        highest = block.values.max(-1)
        higher = highest > self._highest
        self._highest[higher] = highest[higher]
        self._rounding[higher] = block.rounding[higher]
        self._log_sum = np.logaddexp(self._log_sum, logsumexp(block.values, axis=-1))
        self._kept.append(block.values)
        # Not at each block: to select among what is kept costs more than a short block does.
        if sum(block.shape[1] for block in self._kept) > 2 * tail_size(self.number):
            self._kept = [largest(np.concatenate(self._kept, 1), tail_size(self.number))]

    def log_mean(self) -> Array:
        """Return the logarithm of each row's mean weight."""
        found: Array = self._log_sum - math.log(self.number)
        return found

    def pareto_k(self) -> Array:
        """Return k by row."""
        kept = np.concatenate(self._kept, 1)
        return pareto_k(kept, rounding=self._rounding, number=self.number)
