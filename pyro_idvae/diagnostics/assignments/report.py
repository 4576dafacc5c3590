# SPDX-License-Identifier: Apache-2.0
"""Probabilities of components, and what they are worth in nats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import rel_entr

from pyro_idvae.diagnostics.collapse import COLLAPSED, INFORMATIVE, UNDECIDED
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.errors import ShapeError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, repr=False, eq=False)
class Assignments:
    """p(y|x) of each data point; arrays are of shape ``(rows, components)``.

    Attributes:
        site: name of the discrete site.
        exact: p(y|x), by the evidence of each component.
        exact_standard_error: its Monte-Carlo standard error.
        guide: q(y|x); None without a guide.
        prior: p(y), of shape ``(rows, components)``.
        evidence: log p(x) of each row, all components together.
        log_joint_standard_error: Monte-Carlo standard error of each log p(x, y).
        epsilon: nats below which a component counts as collapsed.
        confidence: of the limits.
    """

    site: str
    exact: Array
    exact_standard_error: Array
    guide: Array | None
    prior: Array
    evidence: RowEstimate
    log_joint_standard_error: Array
    epsilon: float
    confidence: float

    def kl(self, which: str = "exact") -> RowEstimate:
        """Return KL(p(y|x) ‖ p(y)) of each row, in nats.

        Args:
            which: ``"exact"`` or ``"guide"``.
        """
        return self._divergence(which, self.prior)

    def information(self, which: str = "exact") -> RowEstimate:
        """Return what each row adds to I(x; y), its KL to the mean over rows, in nats.

        Args:
            which: ``"exact"`` or ``"guide"``.
        """
        mean = self._of(which).mean(0, keepdims=True)
        return self._divergence(which, np.broadcast_to(mean, self.exact.shape))

    def _of(self, which: str) -> Array:
        found = {"exact": self.exact, "guide": self.guide}.get(which)
        if found is None:
            raise ShapeError(f"which={which!r}: expected 'exact', or 'guide' where there is one")
        return found

    def _divergence(self, which: str, other: Array) -> RowEstimate:
        p = self._of(which)
        value = rel_entr(p, other).sum(-1)
        if which == "guide":
            return RowEstimate(value, np.zeros_like(value))
        # Of log p(x, y) + noise: the slope is p_c(t_c − KL), and the curvature biases the KL.
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(p > 0, np.log(p / other), 0.0) - value[:, None]
        variance = np.square(self.log_joint_standard_error)
        bias = 0.5 * (variance * p * ((1 - p) + (1 - 2 * p) * t)).sum(-1)
        slope = np.square(p * t) * variance
        return RowEstimate(value - bias, np.sqrt(slope.sum(-1) + np.square(bias)))

    @property
    def table(self) -> pd.DataFrame:
        """I(x; y) and the KL to p(y) by ``exact`` and ``guide``, means of these rows in nats.

        ``lower`` and ``upper`` are one-sided limits for the Monte-Carlo error; ``se`` is the
        standard error over rows like these. The verdict is of the KL: *collapsed* if its upper
        limit is below ε, *informative* if its lower one is above, else *undecided*.
        """
        rows = {}
        for which in ("exact", "guide") if self.guide is not None else ("exact",):
            kl, information = self.kl(which), self.information(which)
            z = float(stats.norm.ppf(self.confidence))
            low, high = kl.mean - z * kl.mcse, kl.mean + z * kl.mcse
            verdict = UNDECIDED
            if high < self.epsilon:
                verdict = COLLAPSED
            elif low > self.epsilon:
                verdict = INFORMATIVE
            rows[which] = {
                "kl": kl.mean,
                "kl_lower": max(low, 0.0),
                "kl_upper": high,
                "kl_se": kl.se,
                "information": information.mean,
                "information_lower": max(information.mean - z * information.mcse, 0.0),
                "information_upper": information.mean + z * information.mcse,
                "information_se": information.se,
                "verdict": verdict,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def cap(self) -> float:
        """The most nats that a component can be worth, the log of how many there are."""
        return math.log(min(self.exact.shape))

    def __str__(self) -> str:
        lines = [
            f"{self.site}: p(y|x) of {len(self.exact)} data points, {self.exact.shape[1]} "
            f"components, in nats; at most {self.cap:.2f}"
        ]
        for which, row in self.table.iterrows():
            lines.append(
                f"  {which:6s} I(x; y) {row['information']:.3f} ({row['information_lower']:.3f} to "
                f"{row['information_upper']:.3f}), KL to the prior {row['kl']:.3f} "
                f"({row['kl_lower']:.3f} to {row['kl_upper']:.3f}): {row['verdict']}"
            )
        if self.guide is not None:
            same = (self.guide.argmax(-1) == self.exact.argmax(-1)).mean()
            lines.append(f"  guide and exact posterior prefer the same component in {same:.1%}")
        return "\n".join(lines)

    __repr__ = __str__
