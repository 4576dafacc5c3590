# SPDX-License-Identifier: Apache-2.0
"""What a collapse report holds and how it reads."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pyro_idvae._chains import RHAT_LIMIT
from pyro_idvae.diagnostics.collapse.verdicts import (
    COLLAPSED,
    INFORMATIVE,
    JOINT,
    UNDECIDED,
    at_most,
)
from pyro_idvae.diagnostics.mixing import Mixed

SHOWN = {
    "kl": "KL",
    "kl_lower": "lower",
    "kl_upper": "upper",
    "limit": "limit",
    "limit_by": "limit by",
    "verdict": "verdict",
    "active_variance": "Var E[z|x]",
    "contraction": "contraction",
    "mutual_information": "I(x;z)",
    "aggregate_kl": "KL aggregate",
    "ess": "ESS",
}
WORDS = ("verdict", "limit by")
MOST_NAMED = 4
BY_CHANCE = 0.1
"""Share of data points whose tails may look heavy though they are not."""


@dataclass(frozen=True)
class ChainAgreement:
    """Whether chains agree.

    Attributes:
        worst_rhat: largest split R-hat of a latent's draws; NaN for a guide's draws.
        num_rows: data points whose latents were looked at.
        num_weighed: those whose chains disagreed, and count by the masses of their modes.
        num_left_out: those whose chains disagree by more than can be weighed.
        selection: whether these are more than 5 %.
        shared: global latents, by label, whose R-hat is above 1.05.
    """

    worst_rhat: float
    num_rows: int
    num_weighed: int
    num_left_out: int
    selection: bool
    shared: tuple[str, ...]

    @classmethod
    def of(cls, found: Mixed, num_rows: int) -> ChainAgreement:
        """Return how the chains of some draws stand."""
        shared = [
            label
            for name, site in found.latents.sites.items()
            if not site.local and name in found.rhat
            for label, value in zip(site.labels, found.rhat[name][0], strict=True)
            if not value <= RHAT_LIMIT
        ]
        return cls(
            worst_rhat=found.worst_rhat,
            num_rows=num_rows,
            num_weighed=found.num_weighed,
            num_left_out=found.num_left_out,
            selection=found.selection,
            shared=tuple(shared),
        )

    def lines(self) -> list[str]:
        """Return what to say of it."""
        if math.isnan(self.worst_rhat):
            return []
        lines = []
        rows = self.num_weighed + self.num_left_out
        if rows:
            share = 100 * rows / self.num_rows
            how = []
            if self.num_weighed:
                how.append(f"in {self.num_weighed} they count by the masses of their modes")
            if self.num_left_out:
                kept = "kept, and nothing is decided" if self.selection else "left out of all means"
                verb = "is" if self.num_left_out == 1 else "are"
                how.append(f"{self.num_left_out} {verb} {kept}")
            lines.append(
                f"Chains disagree in {rows} of {self.num_rows} data points ({share:.3g} %, largest "
                f"R-hat {self.worst_rhat:.2f}): {'; '.join(how)}."
            )
        else:
            lines.append(f"Largest R-hat {self.worst_rhat:.2f}.")
        if self.shared:
            lines.append(
                f"Caution: R-hat is above {RHAT_LIMIT} for {_named(self.shared)}: their chains "
                "disagree."
            )
        return lines


@dataclass(frozen=True, repr=False)
class CollapseReport:
    """Which latents the data have told something about, in nats.

    See Also:
        :func:`pyro_idvae.plot_collapse` draws the table's limits.

    Attributes:
        table: one row for each latent dimension, with the columns ``kl``, its mean KL to the prior
            over data points, fitted to draws; ``kl_lower`` and ``kl_upper``, one-sided limits of
            the fit; ``p_value`` of KL = 0, after Holm; ``limit``, the upper limit that decides, and
            ``limit_by``, what it comes from; ``limit_lower``; ``verdict``; ``why``, if undecided;
            ``largest``, the largest KL of a data point, ``largest_row``, and ``share_above``, the
            share of data points whose KL is above ε beyond chance; ``active_variance``,
            Var_x E[z|x] in squared units of the latent; ``contraction``, 1 − E Var(z|x)/Var(z);
            ``mutual_information``; ``aggregate_kl``, a sanity check only; ``ess``, the median over
            data points; ``data_points``, 1 for a global latent.
        vector: the row of all latents together: ``quantity``, ``estimate``, ``standard_error``,
            ``lower``, ``upper``, ``variation`` (the standard deviation of log p(x|z) over the
            prior), ``heavy_tails`` (the share of data points where its tail there is heavy),
            ``per_point``, ``verdict``, ``why``.
        directions: directions of several latents together, with ``limit`` and ``verdict``:
            *collapsed* if the data say nothing of them; ``loadings`` in prior standard deviations.
        pairs: latents that are known together, with the squared rank correlation of their draws.
        per_point: for latents in the data plate, ``kl`` and ``kl_standard_error`` by data point and
            latent, ``divergence``, ``divergence_standard_error`` and ``variation`` by data point.
        verdict: that of all latents together: ``"informative"`` also if any latent is.
        epsilon: nats below which a divergence counts as none.
        confidence: of each one-sided limit.
        method: how the draws were made.
        chains: whether they agree.
        num_points: data points, the cap of the mutual information being their logarithm; 0 if no
            latent belongs to one.
        independent: whether the draws are independent: a guide's.
        complete: whether the sampling ran to its end: no interrupt cut it short.
    """

    table: pd.DataFrame
    vector: pd.Series
    directions: pd.DataFrame
    pairs: pd.DataFrame
    per_point: xr.Dataset
    verdict: str
    epsilon: float
    confidence: float
    method: str
    chains: ChainAgreement
    num_points: int
    independent: bool = False
    complete: bool = True

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
        for label in shown.columns.drop(list(WORDS)):
            shown[label] = [_number(value, label) for value in shown[label]]
        return shown

    def _words(self) -> list[str]:
        lines = [self._verdict_in_words(), *self._why(), *self._hidden(), *self._together()]
        if self.independent:
            lines.append("These are the guide's draws: the exact posterior may know more.")
        if not self.complete:
            lines.append("The draws are incomplete: their sampling was interrupted.")
        lines += self.chains.lines()
        if self.vector["heavy_tails"] > BY_CHANCE:
            share = 100 * self.vector["heavy_tails"]
            where = f" for {share:.3g} % of the data points" if self.vector["per_point"] else ""
            lines.append(
                f"Caution: log p(x|z) has a heavy tail under the prior{where}: J is known less "
                "well than its limits say."
            )
        if self.num_points > 1:
            lines.append(
                f"I(x;z) cannot exceed log N = {math.log(self.num_points):.2f}. KL aggregate is a "
                "sanity check: a correct model has E_x p(z|x) = p(z)."
            )
        return lines

    def _verdict_in_words(self) -> str:
        counts = self.table["verdict"].value_counts()
        words = [COLLAPSED, INFORMATIVE, UNDECIDED]
        if JOINT in counts:
            words.insert(2, JOINT)
        number = len(self.table)
        parts = ", ".join(f"{counts.get(word, 0)} {word}" for word in words)
        lines = [f"Verdict: {self.verdict}. Of {number} latent{'s' * (number != 1)}, {parts}."]
        if self.verdict == INFORMATIVE and counts.get(COLLAPSED, 0) == number:
            lines.append("Each by itself carries less than ε, all together carry more.")
        if JOINT in counts:
            joint = self.table.index[self.table["verdict"] == JOINT]
            lines.append(f"Known only together with others: {_named(joint)}.")
        return " ".join(lines)

    def _why(self) -> list[str]:
        undecided = self.table[self.table["verdict"] == UNDECIDED]
        if len(undecided) == 0 or self.chains.selection:
            return [f"Undecided: {self.vector['why']}."] if self.verdict == UNDECIDED else []
        reasons = undecided.groupby("why", sort=False)
        named = [f"{_named(rows.index)}: {why}" for why, rows in reasons]
        more = len(named) - MOST_NAMED
        return [f"Undecided, {'; '.join(named[:MOST_NAMED])}{f'; {more} more' * (more > 0)}."]

    def _hidden(self) -> list[str]:
        """Return what the means hide."""
        rows = self.table[(self.table["share_above"] > 0) & (self.table["data_points"] > 1)]
        hidden = rows[rows["verdict"].isin([COLLAPSED, UNDECIDED])]
        if not len(hidden):
            return []
        worst = hidden["largest"].idxmax()
        row = hidden.loc[worst]
        point = self.per_point[str(self.per_point["kl"].dims[0])].values[int(row["largest_row"])]
        return [
            f"Caution: means hide rows. {_named(hidden.index)}: KL is above ε at up to "
            f"{100 * hidden['share_above'].max():.2g} % of the data points; the largest is "
            f"{row['largest']:.3g}, of {worst} at data point {point}."
        ]

    def _together(self) -> list[str]:
        lines = []
        for _, row in self.directions[self.directions["verdict"] == COLLAPSED].iterrows():
            lines.append(
                f"Nothing is known of the direction {row['direction']} (in prior sd): "
                f"{at_most(row['limit'])}."
            )
        if len(self.pairs):
            named = [f"{r['latent']} and {r['other']}" for _, r in self.pairs.iterrows()]
            lines.append(
                f"Known together rather than apart: {_named(named)} (squared rank correlation of "
                f"their draws up to {self.pairs['dependence'].max():.2f}); find_witness(model, x) "
                "looks for settings that the data cannot tell apart."
            )
        return lines


def _named(labels: Iterable[Any]) -> str:
    """Return labels as a list, the first few of many."""
    names = [str(label) for label in labels]
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _number(value: float, label: str) -> str:
    if math.isnan(value):
        return "–"
    if label == "ESS" and math.isfinite(value):
        return f"{value:.0f}"
    return f"{np.round(value, 3) + 0.0:.3f}"
