# SPDX-License-Identifier: Apache-2.0
"""What a collapse report holds and how it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

COLLAPSED, INFORMATIVE, UNDECIDED = "collapsed", "informative", "undecided"
RHAT_LIMIT = 1.05
SHOWN = {
    "kl": "KL",
    "kl_lower": "lower",
    "kl_upper": "upper",
    "verdict": "verdict",
    "active_variance": "Var E[z|x]",
    "contraction": "contraction",
    "mutual_information": "I(x;z)",
    "aggregate_kl": "KL aggregate",
    "ess": "ESS",
}


@dataclass(frozen=True, repr=False)
class CollapseReport:
    """Which latents the data have told something about, in nats.

    See Also:
        :func:`pyro_idvae.plot_collapse` draws the table's limits.

    Attributes:
        table: one row for each latent dimension, with the columns ``kl``, its mean KL to the prior
            over data points; ``kl_lower`` and ``kl_upper``, one-sided limits; ``p_value`` of
            KL = 0, after Holm; ``verdict``; ``active_variance``, Var_x E[z|x] in squared units of
            the latent; ``contraction``, 1 − E Var(z|x)/Var(z); ``mutual_information``;
            ``aggregate_kl``, a sanity check only; ``ess``, the median over data points;
            ``data_points``, 1 for a global latent.
        vector: the row of all latents together: ``quantity``, ``estimate``, ``standard_error``,
            ``lower``, ``upper``, ``variation`` (the standard deviation of log p(x|z) over the
            prior), ``per_point``, ``verdict``.
        per_point: for latents in the data plate, ``kl`` and ``kl_standard_error`` by data point and
            latent, ``divergence``, ``divergence_standard_error`` and ``variation`` by data point.
        verdict: ``"collapsed"`` if the whole vector is, ``"informative"`` if it or any latent is,
            else ``"undecided"``.
        epsilon: nats below which a divergence counts as none.
        confidence: of each one-sided limit.
        method: how the draws were made.
        num_points: data points, the cap of the mutual information being their logarithm; 0 if no
            latent belongs to one.
        worst_rhat: largest split R-hat of the latents' draws; NaN for a guide's draws.
        share_rhat: share of the latents (times data points) whose R-hat is above 1.05.
        independent: whether the draws are independent: a guide's.
    """

    table: pd.DataFrame
    vector: pd.Series
    per_point: xr.Dataset
    verdict: str
    epsilon: float
    confidence: float
    method: str
    num_points: int
    worst_rhat: float = math.nan
    share_rhat: float = 0.0
    independent: bool = False

    def __str__(self) -> str:
        return "\n".join([*self._head(), "", self._shown().to_string(), "", *self._words()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, words = ("<br>".join(lines) for lines in (self._head(), self._words()))
        return f"<p>{head}</p>{self._shown().to_html()}<p>{words}</p>"

    def _head(self) -> list[str]:
        row = self.vector
        scope = "mean over data points" if row["per_point"] else "all data together"
        return [
            f"collapse report of {self.method} draws, in nats; ε = {self.epsilon:g}, one-sided "
            f"limits at {100 * self.confidence:g} %",
            f"all latents: {row['quantity']} = {row['estimate']:.3g} ({row['lower']:.3g} to "
            f"{row['upper']:.3g}), {scope}: {row['verdict']}",
            f"log p(x|z) has standard deviation {row['variation']:.2g} over the prior "
            "(constant means collapsed)",
        ]

    def _shown(self) -> pd.DataFrame:
        shown = self.table[list(SHOWN)].rename(columns=SHOWN)
        for label in shown.columns.drop("verdict"):
            shown[label] = [_number(value, label) for value in shown[label]]
        return shown

    def _words(self) -> list[str]:
        counts = self.table["verdict"].value_counts()
        parts = [f"{counts.get(word, 0)} {word}" for word in (COLLAPSED, INFORMATIVE, UNDECIDED)]
        lines = [f"Verdict: {self.verdict}. Of {len(self.table)} latents, {', '.join(parts)}."]
        if self.independent:
            lines.append("These are the guide's draws: the exact posterior may know more.")
        if self.share_rhat > 0:
            lines.append(
                f"Caution: R-hat is above {RHAT_LIMIT} for {100 * self.share_rhat:.2g} % of the "
                f"latents of data points (largest {self.worst_rhat:.2f}). Their chains disagree, "
                "so the verdicts may be wrong."
            )
        if self.vector["verdict"] == COLLAPSED and INFORMATIVE in set(self.table["verdict"]):
            lines.append(
                "Caution: all latents together are collapsed, one of them is not: more draws are "
                "needed."
            )
        if self.num_points > 1:
            lines.append(
                f"I(x;z) cannot exceed log N = {math.log(self.num_points):.2f}. KL aggregate is a "
                "sanity check: a correct model has E_x p(z|x) = p(z)."
            )
        return lines


def _number(value: float, label: str) -> str:
    if math.isnan(value):
        return "–"
    return (
        f"{value:.0f}"
        if label == "ESS" and math.isfinite(value)
        else f"{round(value, 3) + 0.0:.3f}"
    )


def judge(upper: Any, p_value: Any, *, epsilon: float, confidence: float) -> Any:
    """Return verdicts: collapsed before informative, as both can hold of a tiny KL."""
    informative = np.where(np.asarray(p_value) <= 1.0 - confidence, INFORMATIVE, UNDECIDED)
    return np.where(np.asarray(upper) < epsilon, COLLAPSED, informative)
