# SPDX-License-Identifier: Apache-2.0
"""Where draws stand among the draws of a reference, for many series at once.

scipy ranks a sample within itself (``scipy.stats.rankdata``), not among the draws of another.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.special import ndtri

Array = np.ndarray[Any, Any]


def sorted_rows(draws: Array) -> Array:
    """Return draws of shape ``(chain, draw, cells)`` as sorted rows, one for each cell."""
    return np.sort(np.ascontiguousarray(draws.reshape(-1, draws.shape[-1]).T), axis=-1)


def count_below(rows: Array, values: Array, *, side: Literal["left", "right"]) -> Array:
    """Return how many entries of its cell's sorted row are below each value.

    Args:
        rows: of shape ``(cells, draws)``, each row sorted.
        values: of shape ``(cells, values)``.
        side: ``"left"`` counts entries below the value, ``"right"`` equal ones too.
    """
    found = np.empty(values.shape, dtype=np.int64)
    for cell, (row, wanted) in enumerate(zip(rows, values, strict=True)):
        found[cell] = np.searchsorted(row, wanted, side=side)
    return found


def normal_scores(draws: Array, reference: Array) -> Array:
    r"""Return Φ⁻¹(F(z)) with F the empirical cdf of a reference sample, by mid-ranks.

    .. math:: F(z) = \frac{\#\{r < z\} + \frac12\#\{r = z\} + \frac12}{M + 1}

    Cells are not pooled: the laws of the reference may differ from one to the next.

    Args:
        draws: of shape ``(chain, draw) + cells``.
        reference: M draws in all of the same cells.

    Returns:
        Scores of the shape of ``draws``; standard normal if the two laws are one.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.ranks import normal_scores
        >>> reference = np.array([-1.0, 0.0, 1.0]).reshape(1, 3, 1)
        >>> float(normal_scores(np.zeros((1, 1, 1)), reference)[0, 0, 0])
        0.0
    """
    flat, other = (x.reshape(*x.shape[:2], -1) for x in (draws, reference))
    rows = sorted_rows(other)
    values = np.ascontiguousarray(flat.reshape(-1, flat.shape[-1]).T)
    below, up_to = count_below(rows, values, side="left"), count_below(rows, values, side="right")
    cdf = (0.5 * (below + up_to) + 0.5) / (rows.shape[-1] + 1)
    scores: Array = ndtri(cdf)
    return scores.T.reshape(draws.shape)
