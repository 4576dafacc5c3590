# SPDX-License-Identifier: Apache-2.0
"""What a calibration found, in a table and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae.diagnostics.calibration.departures import Detectable, departure, detectable
from pyro_idvae.diagnostics.estimators.multiplicity import holm
from pyro_idvae.diagnostics.estimators.rank_bands import (
    Band,
    counts_below,
    rank_p_value,
    simultaneous_band,
)

Array = np.ndarray[Any, Any]

MISCALIBRATED, NOTHING_SEEN = "miscalibrated", "no miscalibration seen"
UNRELIABLE_K = 0.7
MOST_LINES = 20
"""Quantities that are printed; of more, those with the smallest p-values."""
KINDS = {True: "rows", False: "data sets"}


@dataclass(frozen=True, eq=False)
class Calibration:
    """What :func:`calibrate` found.

    Attributes:
        ranks: of each truth among the draws of its posterior: integers from 0 to ``num_draws``, of
            shape ``(replications, quantities)``.
        num_draws: draws L that each truth stands among.
        names: of the quantities.
        p_values: exact p-values of their ranks' being uniform, each by itself.
        table: a ``pandas.DataFrame`` with a row for each quantity: ``p``; ``p_adjusted``, for all
            of them by Holm's steps; ``shift``, the draws' mean minus the posterior's, in the draws'
            standard deviations; ``sd_ratio``, the draws' standard deviation over the posterior's;
            ``departure``, which way the draws are wrong, in words, empty if that is not rejected.
            The two numbers are what Normal laws would have.
        level: the probability that anything is called miscalibrated if nothing is.
        verdict: ``"miscalibrated"`` or ``"no miscalibration seen"``.
        method: ``"guide"``, or the kernel.
        by_row: whether replications are rows of one data set, rather than data sets.
        pareto_k: k of each replication's importance weights; NaN where unknown, None for a kernel.
        complete: whether all replications were made, with all their draws.
        cautions: what else there is to know, in words.
    """

    ranks: Array
    num_draws: int
    names: tuple[str, ...]
    p_values: Array
    table: Any
    level: float
    verdict: str
    method: str
    by_row: bool
    pareto_k: Array | None = None
    complete: bool = True
    cautions: tuple[str, ...] = field(default=())

    @staticmethod
    def of(
        ranks: Array, num_draws: int, names: list[str], *, level: float, **about: Any
    ) -> Calibration:
        """Return the verdict on ranks.

        Args:
            ranks: integers from 0 to ``num_draws``, of shape ``(replications, quantities)``.
            num_draws: L.
            names: of the quantities.
            level: of the verdict.
            **about: the other attributes that no rank tells.
        """
        p = np.array([rank_p_value(column, num_draws) for column in ranks.T])
        adjusted = holm(p)
        found = [departure(column, num_draws) for column in ranks.T]
        rejected = adjusted <= level
        columns = {
            "p": p,
            "p_adjusted": adjusted,
            "shift": [one.shift for one in found],
            "sd_ratio": [one.sd_ratio for one in found],
            "departure": [
                one.words if wrong else "" for one, wrong in zip(found, rejected, strict=True)
            ],
        }
        table = pd.DataFrame(columns, index=pd.Index(names, name="quantity"))
        verdict = MISCALIBRATED if rejected.any() else NOTHING_SEEN
        return Calibration(ranks, num_draws, tuple(names), p, table, level, verdict, **about)

    @property
    def num_replications(self) -> int:
        """How many replications there are."""
        return len(self.ranks)

    @property
    def detectable(self) -> Detectable:
        """The least errors of one coordinate that so many replications show nine times in ten."""
        return detectable(self.num_replications, self.num_draws, self._own_level)

    @property
    def _own_level(self) -> float:
        return self.level / len(self.names)

    def band(self) -> Band:
        """Return how many ranks may be below 1, …, L: a band for all quantities together."""
        return simultaneous_band(self.num_replications, self.num_draws, self._own_level)

    def counts(self) -> Array:
        """Return how many ranks are below 1, …, L: of shape ``(quantities, L)``."""
        return np.stack([counts_below(column, self.num_draws) for column in self.ranks.T])

    def __str__(self) -> str:
        number, kind = self.num_replications, KINDS[self.by_row]
        lines = [
            f"{self.verdict}: {self.method}, {number} simulated {kind}, "
            f"{_counted(len(self.names), 'quantity', 'quantities')}, "
            f"each truth among {self.num_draws} draws, smallest adjusted p "
            f"{self.table['p_adjusted'].min():.2g}"
        ]
        shown = (
            self.table.nsmallest(MOST_LINES, "p") if len(self.table) > MOST_LINES else self.table
        )
        lines.append(shown.to_string(float_format="{:.2g}".format, line_width=100))
        if len(shown) < len(self.table):
            lines.append(f"and {len(self.table) - len(shown)} more, of larger p")
        lines += [*self._seen(), *self._k_in_words(), *(f"caution: {c}" for c in self.cautions)]
        return "\n".join(lines)

    def _seen(self) -> list[str]:
        """Return what would have been seen, where nothing was."""
        if self.verdict == MISCALIBRATED:
            return []
        narrow, shift = self.detectable
        parts = [] if narrow is None else [f"{100 * (1 - narrow):.0f} % too narrow"]
        parts += [] if shift is None else [f"shifted by {shift:.2g} sd"]
        if not parts:
            return ["so few replications would not have shown any error of one coordinate"]
        return [
            f"nine times in ten this would have shown draws {' or '.join(parts)} in one "
            "coordinate; smaller errors may be there"
        ]

    def _k_in_words(self) -> list[str]:
        if self.pareto_k is None:
            return []
        known = self.pareto_k[~np.isnan(self.pareto_k)]
        if not len(known):
            return ["k-hat unknown: the guide has no density to weight draws by"]
        share = 100 * (known > UNRELIABLE_K).mean()
        return [f"k-hat above {UNRELIABLE_K} at {share:.0f} % of the {KINDS[self.by_row]}"]


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
