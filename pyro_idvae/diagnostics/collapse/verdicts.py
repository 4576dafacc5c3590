# SPDX-License-Identifier: Apache-2.0
"""From limits to verdicts: of each latent, of directions, of all latents together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae._chains import RHAT_LIMIT
from pyro_idvae.diagnostics.collapse.pairs import VISIBLE
from pyro_idvae.diagnostics.collapse.vector import VectorDivergence
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.limits import Directions
from pyro_idvae.diagnostics.mixing import Mixed

Array = np.ndarray[Any, Any]

COLLAPSED, INFORMATIVE, UNDECIDED, JOINT = "collapsed", "informative", "undecided", "joint"

LEAST_ESS = 100
"""Effective draws below which nothing is called informative."""
CONDITIONAL, OWN_DENSITY = "J given the others", "log q/p"


@dataclass(frozen=True)
class Level:
    """ε in nats, and the confidence of one-sided limits."""

    epsilon: float
    confidence: float

    def collapsed(self, upper: Any) -> Any:
        """Tell whether a divergence is below ε."""
        return np.asarray(upper) < self.epsilon

    def above_zero(self, p_value: Any) -> Any:
        """Tell whether a divergence of 0 is rejected."""
        return np.asarray(p_value) <= 1.0 - self.confidence

    def words(self, upper: Any, p_value: Any) -> Any:
        """Return verdicts: collapsed before informative, as both can hold of a tiny KL."""
        known = np.where(self.above_zero(p_value), INFORMATIVE, UNDECIDED)
        return np.where(self.collapsed(upper), COLLAPSED, known)


def add_limits(table: pd.DataFrame, latents: Latents, vector: pd.Series, level: Level) -> None:
    """Add the upper limit that decides, and where it comes from.

    That of the coordinate's own bound; else that of all latents together, which no marginal's
    divergence exceeds. With a single coordinate the two are one, and the latter is of all draws.
    """
    limit = np.full(len(table), float(vector["upper"]))
    least = np.zeros(len(table))
    by = np.full(len(table), f"{vector['quantity']} of all", dtype=object)
    place = {label: i for i, label in enumerate(table.index)}
    word = OWN_DENSITY if latents.independent else CONDITIONAL
    single = sum(len(site.labels) for site in latents.sites.values()) == 1
    for name, bound in latents.bounds.items():
        if single or latents.sites[name].labels[0] not in place:
            continue
        _, lower, upper = bound.limits(level.confidence)
        where = [place[label] for label in latents.sites[name].labels]
        better = upper <= limit[where]
        limit[where] = np.where(better, upper, limit[where])
        by[where] = np.where(better, word, by[where])
        least[where] = lower
    if single:
        least[:] = vector["lower"]
    table["limit"], table["limit_by"], table["limit_lower"] = limit, by, least


def judge(
    table: pd.DataFrame, found: Mixed, dependence: Array, vector: pd.Series, level: Level
) -> None:
    """Add the verdict of each latent, and why where it is undecided.

    Args:
        table: with the limits.
        found: how the chains stand.
        dependence: of each latent on any other.
        vector: the row of all latents, with ``lower``.
        level: ε and the confidence.
    """
    single = sum(len(site.labels) for site in found.latents.sites.values()) == 1
    rhat = {
        label: float(found.rhat[name][0, k]) if name in found.rhat else 1.0
        for name, site in found.latents.sites.items()
        if not site.local
        for k, label in enumerate(site.labels)
    }
    verdicts, reasons = [], []
    for (label, row), depends in zip(table.iterrows(), dependence, strict=True):
        distrust = _distrust(row["ess"], rhat.get(str(label), 1.0), found)
        known = bool(level.above_zero(row["p_value"])) or (single and vector["lower"] > 0)
        together = not single and row["limit_lower"] > 0 and depends > VISIBLE
        if level.collapsed(row["limit"]) and not found.selection:
            word, why = COLLAPSED, ""
        elif distrust:
            word, why = UNDECIDED, distrust
        elif known and not (together and row["kl_upper"] < level.epsilon):
            word, why = INFORMATIVE, ""
        elif together and row["kl_upper"] < level.epsilon:
            word, why = JOINT, ""
        else:
            word = UNDECIDED
            why = f"the limit is {row['limit']:.3g}, and 0 is not rejected: draw more"
        verdicts.append(word)
        reasons.append(why)
    table.insert(4, "verdict", verdicts)
    table["why"] = reasons


def _distrust(ess: float, rhat: float, found: Mixed) -> str:
    """Return why draws are not to be trusted with a finding, or nothing."""
    if found.selection:
        return (
            f"chains disagree in {found.num_left_out} rows, and the masses of their modes are not "
            "known"
        )
    if not rhat <= RHAT_LIMIT:
        return f"R-hat is {rhat:.2f}"
    if not ess >= LEAST_ESS:
        return f"{ess:.0f} effective draws: at least {LEAST_ESS} are needed"
    return ""


def judge_vector(
    joint: VectorDivergence, found: Mixed, level: Level
) -> tuple[str, str, float, float]:
    """Return the verdict of all latents together, why it is undecided, and the limits."""
    lower, upper = joint.limits(level.confidence)
    shared = [
        float(values.max())
        for name, values in found.rhat.items()
        if not found.latents.sites[name].local
    ]
    distrust = _distrust(joint.size, max(shared, default=1.0), found)
    if level.collapsed(upper) and not found.selection:
        return COLLAPSED, "", lower, upper
    if distrust:
        return UNDECIDED, distrust, lower, upper
    if lower > 0:
        return INFORMATIVE, "", lower, upper
    return UNDECIDED, "0 is not rejected: draw more", lower, upper


def judge_directions(
    directions: tuple[Directions, ...], collapsed: list[str], level: Level
) -> pd.DataFrame:
    """Return the directions off the axes with their limits; those of dead coordinates left out."""
    rows = []
    for part in directions:
        mean, lower, upper = part.bound.limits(level.confidence)
        words = level.words(upper, np.where(lower > 0, 0.0, 1.0))
        dead = np.array([label in collapsed for label in part.labels])
        for k, loading in enumerate(part.loadings):
            if (loading[dead] ** 2).sum() < 0.5:
                rows.append(
                    {
                        "direction": in_words(part.labels, loading),
                        "limit_estimate": mean[k],
                        "limit_lower": lower[k],
                        "limit": upper[k],
                        "verdict": str(words[k]),
                        "loadings": dict(zip(part.labels, loading, strict=True)),
                    }
                )
    columns = ["direction", "limit_estimate", "limit_lower", "limit", "verdict", "loadings"]
    return pd.DataFrame(rows, columns=columns).sort_values("limit", ignore_index=True)


def at_most(limit: float) -> str:
    """Return an upper limit in words."""
    return f"at most {limit:.2g} nats" if limit >= 0.001 else "less than 0.001 nats"


def in_words(labels: tuple[str, ...], loading: Array) -> str:
    """Return a direction as a sum of its largest loadings."""
    order = np.argsort(-np.abs(loading))
    kept = [k for k in order if abs(loading[k]) >= 0.1][:6]
    words = " ".join(
        f"{'+' if loading[k] >= 0 else '−'} {abs(loading[k]):.2f}·{labels[k]}" for k in kept
    )
    return words.removeprefix("+ ") + (" + …" if (loading[kept] ** 2).sum() < 0.95 else "")
