# SPDX-License-Identifier: Apache-2.0
"""What was found of several runs' latents, in words, and what theory promises of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyro_idvae.diagnostics.consistency.report import Consistency

NAMES = {
    "mcc": "MCC, after a permutation with signs",
    "r2_permutation": "R², permutation, signs and scales",
    "r2_orthogonal": "R², rotation or reflection, one scale",
    "r2_affine": "R², affine map",
}
"""What the measures are called."""
CLASSES = {
    "permutation": "a permutation with signs and scales",
    "orthogonal": "a rotation or reflection with one scale",
    "affine": "an affine map",
}
MOST_NAMED = 8
"""Latents that a line names."""

PROMISES = """what theory promises, of endless data and a likelihood at its maximum:
  prior N(0, I): a decoder can undo any rotation of the latents, so that no permutation is singled
    out; so it is, by other maps, with any prior of independent latents (Locatello et al. 2019)
  a mixture of Normals, N(0, I) included, with a decoder that is injective and piecewise affine: up
    to an affine map (Kivva et al. 2022)
  latents independent given an observed auxiliary variable, under further conditions: up to a
    permutation and maps of single latents (Khemakhem et al. 2020)
  an injective likelihood, as such: none of these, but that in one model other latents have other
    laws of the data"""


def in_words(found: Consistency) -> str:
    """Return the report as text."""
    count = len(found.pairs)
    lines = [
        f"latents of {len(found.runs)} runs on {found.rows} rows, means over {count} ordered "
        f"pairs of runs; {found.confidence:.0%} limits over rows like these, of these runs",
        found.table.rename(index=NAMES)
        .rename_axis(None)
        .to_string(float_format="{:.3f}".format, line_width=120),
        _agreement(found),
        *_still(found),
        *_worst(found),
        "in_sample: of maps and pairs judged on the rows they were fitted to; by_chance: the same, "
        "of shuffled rows. In the other columns that gain is taken off: they are 0 by chance",
        *(f"note: {note}" for note in found.notes),
        PROMISES,
    ]
    return "\n".join(lines)


def _agreement(found: Consistency) -> str:
    name = found.agree_up_to
    if name is None:
        least = found.table.loc["r2_affine", "mean"]
        if math.isnan(least):
            return "no latent of any run has variance: there is nothing to compare"
        return (
            "the runs do not agree up to an affine map: the best one leaves "
            f"{1 - max(least, 0.0):.0%} of the variance"
        )
    return (
        f"the runs agree up to {CLASSES[name]}: the lower limit of its R² is at least 0.9, "
        f"{found.table.loc[f'r2_{name}', 'lower']:.3f}"
    )


def _still(found: Consistency) -> list[str]:
    """Return which latents have no variance."""
    lines = []
    for run in found.runs:
        own = found.latents.loc[run]
        still = own.index[own["verdict"] != ""]
        if len(still):
            lines.append(
                f"{run}: {len(still)} of {len(own)} latents have no variance over rows, as if "
                f"collapsed, and count nowhere: {_listed(list(map(str, still)))}"
            )
    return lines


def _worst(found: Consistency) -> list[str]:
    """Return which latents are recovered least."""
    known = found.latents.dropna(subset=["r2"])
    if not len(known):
        return []
    places = [known.index[number] for number in known["r2"].argsort(kind="stable")[:3]]
    worst = [
        f"{label} of {run} {known.loc[(run, label), 'r2']:.2f} "
        f"({known.loc[(run, label), 'r2_lower']:.2f} to {known.loc[(run, label), 'r2_upper']:.2f})"
        for run, label in places
    ]
    return [f"recovered least by affine maps of the other runs' latents, R²: {', '.join(worst)}"]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"
