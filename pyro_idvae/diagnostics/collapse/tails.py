# SPDX-License-Identifier: Apache-2.0
"""Rows whose log-likelihood has a heavy tail under the prior: their J is known less well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae.arviz_io import pareto_k

Array = np.ndarray[Any, Any]

HEAVY, ONE_DRAW = 0.5, 0.05
"""A mean whose draws have a larger tail index, and of which one draw makes a larger share, is known
less well than its standard error says."""
TAILS = 200
"""Rows whose tails are looked at."""


class Tails(NamedTuple):
    """How many of some rows have heavy tails."""

    rows: int
    known: int
    infinite: int
    heavy: int

    @classmethod
    def share(cls, parts: Sequence[Tails]) -> float:
        """Return the share of heavy tails; of rows that are not finite if none else is known."""
        total = cls(*map(sum, zip(*parts, strict=True)))
        if not total.rows:
            return 0.0
        return (total.heavy if total.known else total.infinite) / total.rows


def tail_rows(count: int) -> Array:
    """Return which of so many rows are looked at."""
    return np.unique(np.linspace(0, count - 1, min(count, TAILS)).astype(int))


def heavy_tails(base: Array) -> Tails:
    """Return how many rows have a heavy lower tail of log-likelihoods ``(chain, draw, N)``."""
    rows = base.shape[2]
    values = base.reshape(-1, rows).T
    with np.errstate(invalid="ignore"):
        below = values.max(-1, keepdims=True) - values
    finite = np.isfinite(below).all(-1)
    known = finite & (below.max(-1) > 0)
    found = below[known]
    if not len(found):
        return Tails(rows, 0, int((~finite).sum()), 0)
    with np.errstate(divide="ignore"):
        # The index is fitted to what is exponentiated.
        k = pareto_k(np.log(found))
    heavy = (k > HEAVY) & (found.max(-1) > ONE_DRAW * found.sum(-1))
    return Tails(rows, len(found), int((~finite).sum()), int(heavy.sum()))
