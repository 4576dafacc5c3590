# SPDX-License-Identifier: Apache-2.0
"""Importance weights from the log densities they are made of, and how heavy their tail is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae.arviz_io import pareto_k

Array = np.ndarray[Any, Any]

ROUNDINGS = 64.0
"""Units of rounding that a sum of log densities may be off by: exact guides come out up to 26 apart
in float32, and what is beyond, where terms much larger than their sum cancel, up to 120."""


class Weights(NamedTuple):
    """Importance weights and how heavy their tail is."""

    log_weights: Array
    """In nats, of shape ``(rows, draws)``."""
    pareto_k: Array
    """k by row; see :func:`pyro_idvae.arviz_io.pareto_k`."""


def weigh(terms: Sequence[Array], *, joint: bool = False) -> Weights:
    r"""Return importance weights from the log densities they are made of, and their Pareto k.

    .. math:: \log w = \sum_j t_j, \qquad
        \text{rounding} = 64 \sum_j \varepsilon_j (1 + |t_j|)

    at the largest weight, with ε_j the unit of rounding of the type t_j was computed in. Weights
    that far apart count as equal.

    Args:
        terms: log p(x|z), log p(z) and −log q(z|x) of every site, of shape ``(draws, rows)`` each.
        joint: whether to weight all rows together; terms may then have different numbers of rows,
            whose roundings are independent and add up by their squares.
    """
    values, roundings = [], []
    for term in terms:
        value = np.asarray(term, dtype=np.float64)
        size = ROUNDINGS * np.finfo(term.dtype).eps * (1 + np.abs(value))
        values.append(value.sum(-1, keepdims=True) if joint else value)
        roundings.append(np.sqrt((size**2).sum(-1, keepdims=True)) if joint else size)
    with np.errstate(invalid="ignore"):
        log_weights = sum(values[1:], values[0])
    # Not the largest rounding: draws far off, which weigh nothing, have large log densities.
    place = log_weights.argmax(0, keepdims=True)
    rounding = np.take_along_axis(sum(roundings[1:], roundings[0]), place, axis=0)[0]
    return Weights(log_weights.T, pareto_k(log_weights.T, rounding=rounding))
