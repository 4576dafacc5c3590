# SPDX-License-Identifier: Apache-2.0
"""From several posteriors to a verdict, with its evidence in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pyro_idvae.diagnostics.autopsy.kept import NEGLIGIBLE, Kept
from pyro_idvae.diagnostics.collapse import COLLAPSED, INFORMATIVE, CollapseReport
from pyro_idvae.diagnostics.collapse import JOINT as KNOWN_JOINTLY

Array = np.ndarray[Any, Any]

MODEL, JOINT, FAMILY, AMORTISATION = "model", "joint", "family", "amortisation"
OPTIMISATION, GENERALISATION, HEALTHY = "optimisation", "generalisation", "healthy"
UNKNOWN, UNDECIDED = "unknown", "undecided"

EVIDENCE = {
    MODEL: "the exact posterior is the prior ({exact:.3f} nats, at most {limit:.3f} by {by}): "
    "{depends}, and no guide can help",
    JOINT: "the exact posterior of this latent alone is the prior as far as its draws show "
    "({exact:.3f} nats), but its draws go with those of others, and the likelihood depends on it: "
    "it is identified jointly, not by itself",
    FAMILY: "the exact posterior has {exact:.2f} nats, but a freely optimised q of the guide's "
    "family {free}",
    AMORTISATION: "of {exact:.2f} nats a free q of the guide's family {free}, but the encoder, "
    "even taught from exact draws, {retrained}",
    OPTIMISATION: "of {exact:.2f} nats the guide {guide}, though {best}: training did not get "
    "there",
    GENERALISATION: "of {exact:.2f} nats the guide {guide} on these data, but of "
    "{exact_reference:.2f} on the reference it {guide_reference}: its encoder was fitted to those",
    HEALTHY: "of the exact posterior's {exact:.2f} nats the guide {guide}",
    UNKNOWN: "of {exact:.2f} nats the guide {guide}{taught}; {why}",
    UNDECIDED: "the exact posterior's {exact:.3f} nats ({lower:.3f} to {upper:.3f}) are not "
    "settled: {undecided}",
}
IGNORED = "the likelihood does not depend on it, or hardly"
INJECTIVE = (
    "the likelihood depends on it, being injective, but by less than ε: raise its least rate L "
    "some {times:.2g} times for {wanted:.2g} nat, by ½ log(1 + L²)"
)
LEAST_NATS = 1e-3
"""Of a latent that is to say how much steeper f must be."""


@dataclass(frozen=True)
class Findings:
    """What an autopsy has to judge by.

    Attributes:
        exact: the report of the exact posterior.
        kept: by ``guide``, and, if there are such, by ``free`` and ``retrained``.
        joint: what is known to be there jointly, at least.
        reference: the exact report on reference rows, and what the guide keeps there; or None.
        injective: whether the likelihood is injective.
        no_free: why there is no free q; empty if there is one.
    """

    exact: CollapseReport
    kept: Mapping[str, Kept]
    joint: float
    reference: tuple[CollapseReport, Mapping[str, Kept]] | None
    injective: bool
    no_free: str


def judge_latents(found: Findings, share: float) -> pd.DataFrame:
    """Return one row for each latent dimension; see :class:`Autopsy`.

    Args:
        found: the findings.
        share: a q that keeps less than this share of the exact information has lost it.
    """
    rows = []
    for place, (label, row) in enumerate(found.exact.table.iterrows()):
        parts = _of_latent(found.kept, place)
        report, kept = found.reference or (None, {})
        there = _of_latent(kept, place)
        exact_there = math.nan if report is None else float(report.table.loc[label, "kl"])
        case = _Case(row, parts, there, share * row["kl"], share * exact_there)
        verdict = _verdict(case, found, share)
        figures = {**_figures(case, found), "exact_reference": exact_there}
        rows.append(
            {
                "verdict": verdict,
                "exact": row["kl"],
                "exact_lower": row["kl_lower"],
                "exact_upper": row["kl_upper"],
                "limit": row["limit"],
                **{name: part.mean for name, part in parts.items()},
                "exact_reference": exact_there,
                "guide_reference": there["guide"].mean,
                "evidence": EVIDENCE[verdict].format(**figures),
            }
        )
    table = pd.DataFrame(rows, index=found.exact.table.index)
    if found.reference is None:
        table = table.drop(columns=["exact_reference", "guide_reference"])
    return table


class _Part(NamedTuple):
    """What one q keeps of one latent."""

    mean: float
    floored: float
    wrong: float

    def words(self, enough: float) -> str:
        if self.floored < enough and self.mean < -NEGLIGIBLE:
            return f"is confidently wrong, {-self.mean:.3g} nats worse than the prior"
        found = f"keeps {max(self.floored, 0.0):.2f}"
        if self.wrong > 0 and self.floored >= enough:
            found += f" (but is confidently wrong at {100 * self.wrong:.2g} % of the data points)"
        return found


def _of_latent(kept: Mapping[str, Kept], place: int) -> dict[str, _Part]:
    nothing = _Part(math.nan, math.nan, math.nan)
    found = {
        name: _Part(*(float(a[place]) for a in (part.latents, part.floored, part.wrong)))
        for name, part in kept.items()
    }
    return {name: found.get(name, nothing) for name in ("guide", "free", "retrained")}


class _Case(NamedTuple):
    """One latent."""

    row: Any
    """Of the exact report's table."""
    parts: dict[str, _Part]
    there: dict[str, _Part]
    """On the reference rows."""
    enough: float
    there_enough: float


def _verdict(case: _Case, found: Findings, share: float) -> str:
    row, parts, there, enough, there_enough = case
    settled = {COLLAPSED: MODEL, KNOWN_JOINTLY: JOINT}
    if row["verdict"] != INFORMATIVE:
        return settled.get(row["verdict"], UNDECIDED)
    if parts["guide"].floored >= enough:
        return HEALTHY
    if there["guide"].floored >= there_enough and not parts["free"].floored < enough:
        return GENERALISATION
    taught = parts["retrained"].floored >= enough or there["retrained"].floored >= there_enough
    if parts["free"].floored >= enough:
        lost = not taught and not math.isnan(parts["retrained"].floored)
        return AMORTISATION if lost else OPTIMISATION
    if math.isnan(parts["free"].floored):
        return OPTIMISATION if taught else UNKNOWN
    # A q taught from exact draws may keep, of each latent, what the ELBO's own optimum gives up: a
    # factorised one the marginals of a correlated posterior. Not so of all of them together.
    whole = "retrained" in found.kept and found.kept["retrained"].joint >= share * found.joint
    return OPTIMISATION if taught and whole else FAMILY


def _figures(case: _Case, found: Findings) -> dict[str, Any]:
    row, parts, there, enough, there_enough = case
    words = {name: part.words(enough) for name, part in parts.items()}
    taught = "" if math.isnan(parts["retrained"].mean) else f", and taught {words['retrained']}"
    freed = parts["free"].floored >= np.nan_to_num(parts["retrained"].floored, nan=-np.inf)
    return {
        **words,
        "exact": row["kl"],
        "lower": row["kl_lower"],
        "upper": row["kl_upper"],
        "limit": row["limit"],
        "by": row["limit_by"],
        "undecided": row["why"],
        "guide_reference": there["guide"].words(there_enough),
        "best": f"a free q of its family {words['free']}"
        if freed
        else f"its encoder, taught from exact draws, {words['retrained']}",
        "depends": _steeper(row["kl"], found.exact.epsilon) if found.injective else IGNORED,
        "taught": taught,
        "why": found.no_free,
    }


def _steeper(nats: float, epsilon: float) -> str:
    """Say how much steeper an injection must be for twice the nats that count as none."""
    wanted, there = 2 * epsilon, max(nats, LEAST_NATS)
    times = math.sqrt(math.expm1(2 * wanted) / math.expm1(2 * there))
    return INJECTIVE.format(times=times, wanted=wanted)
