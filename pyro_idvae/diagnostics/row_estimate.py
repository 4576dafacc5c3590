# SPDX-License-Identifier: Apache-2.0
"""A quantity of each data point, and the two errors of its mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class RowEstimate:
    """A quantity of each data point, in nats.

    Attributes:
        value: of shape ``(rows,)``; NaN where unknown.
        error: its Monte-Carlo standard error, likewise; 0 for a closed form.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics import RowEstimate
        >>> found = RowEstimate(np.array([1.0, 3.0]), np.array([0.3, 0.4]))
        >>> found.mean, round(found.mcse, 3), round(found.se, 3)
        (2.0, 0.25, 1.0)
    """

    value: Array
    error: Array

    @classmethod
    def unknown(cls, rows: int) -> RowEstimate:
        """Return what nothing is known of: NaN in each row."""
        return cls(np.full(rows, np.nan), np.full(rows, np.nan))

    @classmethod
    def join(cls, parts: Sequence[RowEstimate]) -> RowEstimate:
        """Return that of the rows of several parts."""
        return cls(
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.error for part in parts]),
        )

    @property
    def mean(self) -> float:
        """Mean over the rows that are known; NaN if none is."""
        known = self.value[self._known]
        return float(known.mean()) if len(known) else math.nan

    @property
    def mcse(self) -> float:
        """Monte-Carlo standard error of :attr:`mean`: of these rows, not of others like them."""
        errors = self.error[self._known]
        return float(np.sqrt(np.square(errors).sum()) / len(errors)) if len(errors) else math.nan

    @property
    def se(self) -> float:
        """Standard error of :attr:`mean` over rows like these; NaN for one, or an infinite one."""
        known = self.value[self._known]
        if len(known) < 2 or not np.isfinite(known).all():
            return math.nan
        return float(known.std(ddof=1) / math.sqrt(len(known)))

    @property
    def _known(self) -> Array:
        return ~np.isnan(self.value)

    def minus(self, other: RowEstimate) -> RowEstimate:
        """Return the difference from another quantity, of independent Monte-Carlo errors."""
        with np.errstate(invalid="ignore"):
            return RowEstimate(self.value - other.value, np.hypot(self.error, other.error))
