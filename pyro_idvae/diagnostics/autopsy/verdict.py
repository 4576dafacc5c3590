# SPDX-License-Identifier: Apache-2.0
"""From four posteriors to a verdict, with its evidence in words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae.diagnostics.autopsy.conditional import Conditional
from pyro_idvae.diagnostics.collapse import COLLAPSED, INFORMATIVE, CollapseReport

MODEL, JOINT, FAMILY, AMORTISATION = "model", "joint", "family", "amortisation"
OPTIMISATION, HEALTHY, UNDECIDED = "optimisation", "healthy", "undecided"

NEGLIGIBLE = 0.05
"""Nats by which a q may be worse than the prior without being called wrong."""

EVIDENCE = {
    MODEL: "the exact posterior is the prior ({exact:.3f} nats, at most {upper:.3f}; {conditional} "
    "with the other latents known): the likelihood does not depend on it, or hardly, and no guide "
    "can help",
    JOINT: "the exact posterior of this latent alone is the prior ({exact:.3f} nats), but with the "
    "other latents known the data say {conditional} of it: it is identified jointly, not by itself",
    FAMILY: "the exact posterior has {exact:.2f} nats, but a freely optimised q of the guide's "
    "family {free}",
    AMORTISATION: "of {exact:.2f} nats a free q of the guide's family {free}, but the encoder, "
    "even taught from exact draws, {retrained}",
    OPTIMISATION: "of {exact:.2f} nats the guide {guide}, though {best}: training did not get "
    "there",
    HEALTHY: "of the exact posterior's {exact:.2f} nats the guide {guide}",
    UNDECIDED: "the exact posterior's {exact:.3f} nats ({lower:.3f} to {upper:.3f}) are neither "
    "below ε nor surely above 0: draw more",
}


def judge_latents(
    exact: CollapseReport,
    kept: dict[str, Any],
    conditional: dict[str, Conditional | None],
    *,
    share: float,
) -> pd.DataFrame:
    """Return one row for each latent dimension; see :class:`Autopsy`.

    Args:
        exact: the collapse report of the exact posterior.
        kept: what is kept of its information, in nats by latent: by the ``guide``, and, if there
            are such, by the ``free`` q and the ``retrained`` guide.
        conditional: divergences with the other latents known.
        share: a q that keeps less than this share of the exact information has lost it.
    """
    rows = []
    for place, (label, row) in enumerate(exact.table.iterrows()):
        parts = {name: float(values[place]) for name, values in kept.items()}
        parts = {**dict.fromkeys(("guide", "free", "retrained"), math.nan), **parts}
        given = conditional[str(label)]
        verdict = _verdict(row, parts, share)
        if verdict == MODEL and not _is_collapsed(given, exact):
            verdict = JOINT
        words = {name: _kept_words(value) for name, value in parts.items()}
        best = "free" if parts["free"] >= np.nan_to_num(parts["retrained"], nan=-np.inf) else ""
        figures = {
            "exact": row["kl"],
            "lower": row["kl_lower"],
            "upper": row["kl_upper"],
            "best": f"a free q of its family {words['free']}"
            if best
            else f"its encoder, taught from exact draws, {words['retrained']}",
            "conditional": "unknown" if given is None else f"{given.estimate:.3g} nats",
            **words,
        }
        rows.append(
            {
                "verdict": verdict,
                "exact": row["kl"],
                "exact_lower": row["kl_lower"],
                "exact_upper": row["kl_upper"],
                "conditional": math.nan if given is None else given.estimate,
                **parts,
                "evidence": EVIDENCE[verdict].format(**figures),
            }
        )
    return pd.DataFrame(rows, index=exact.table.index)


def _is_collapsed(given: Conditional | None, exact: CollapseReport) -> bool:
    """Tell whether a latent whose posterior is its prior stays so with the others known."""
    if given is None:
        return bool(exact.vector["verdict"] == COLLAPSED)
    return given.upper(exact.confidence) < exact.epsilon


def _kept_words(value: float) -> str:
    if value < -NEGLIGIBLE:
        return f"is confidently wrong, {-value:.3g} nats worse than the prior"
    return f"keeps {max(value, 0.0):.2f}"


def _verdict(exact: Any, kept: dict[str, float], share: float) -> str:
    if exact["verdict"] == COLLAPSED:
        return MODEL
    if exact["verdict"] != INFORMATIVE:
        return UNDECIDED
    enough = share * exact["kl"]
    if kept["guide"] >= enough:
        return HEALTHY
    # A q taught from exact draws may keep what the ELBO's own optimum gives up; training aims at
    # the latter.
    if kept["free"] < enough:
        return FAMILY
    return AMORTISATION if kept["retrained"] < enough else OPTIMISATION
