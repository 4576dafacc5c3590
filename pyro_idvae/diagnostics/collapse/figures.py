# SPDX-License-Identifier: Apache-2.0
"""All figures of a collapse report, from the rows of one part of the draws after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae.diagnostics.collapse.measures import (
    Measured,
    MeasuredRows,
    measure_rows,
    measured,
)
from pyro_idvae.diagnostics.collapse.pairs import looked_at, standardised
from pyro_idvae.diagnostics.collapse.tails import tail_rows
from pyro_idvae.diagnostics.collapse.vector import (
    VectorDivergence,
    VectorRows,
    vector_divergence,
    vector_rows,
)
from pyro_idvae.diagnostics.limits import Bound
from pyro_idvae.diagnostics.mixing import Agreement, Mixed, agreement, mixed
from pyro_idvae.diagnostics.parts import Parts

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures of all rows.

    Attributes:
        found: how the chains stand. Its latents have the bounds and the labels of the rows that are
            kept, and no draws.
        joint: of all latents together.
        sites: of each site.
        draws: some draws, for how they depend on one another.
        num_rows: data points, those that are left out among them.
    """

    found: Mixed
    joint: VectorDivergence
    sites: Sequence[Measured]
    draws: Sequence[Array | None]
    num_rows: int


class _Part(NamedTuple):
    found: Mixed
    vector: VectorRows
    sites: list[MeasuredRows]
    draws: Array | None


def figures_of(parts: Parts, names: Sequence[str]) -> Figures:
    """Return the figures of draws.

    Args:
        parts: of their rows.
        names: of the sites that are wanted one by one.

    Raises:
        ArgumentError: if log densities are missing, or draws are too few.
        DataError: for draws or densities that are not finite, or draws that do not move.
    """
    agreed, local, num_rows = [], {}, 0
    for latents in parts:
        agreed.append(agreement(latents))
        local = {name: site.local for name, site in latents.sites.items()}
        num_rows += len(latents.points)
    whole = Agreement.join(agreed, local)
    kept = [len(one.disagree) if whole.selection else int((~one.left_out).sum()) for one in agreed]
    starts = np.cumsum([0, *kept]).tolist()
    found = [
        _part(mixed(latents, one, whole.selection), names, first, starts[-1])
        for latents, one, first, rows in zip(parts, agreed, starts, kept, strict=False)
        if rows
    ]
    return Figures(
        _joined([part.found for part in found], whole),
        vector_divergence([part.vector for part in found]),
        [measured(rows) for rows in zip(*(part.sites for part in found), strict=True)],
        [part.draws for part in found],
        num_rows,
    )


def _part(found: Mixed, names: Sequence[str], first: int, count: int) -> _Part:
    """Return the figures of some rows.

    Args:
        found: the draws of these rows.
        names: of the sites that are wanted one by one.
        first: the first of these rows among all.
        count: how many all are.
    """
    latents, independent = found.latents, found.latents.independent
    rows = len(found.rows)

    def here(chosen: Array) -> Array:
        return chosen[(chosen >= first) & (chosen < first + rows)] - first

    return _Part(
        replace(found, latents=latents.without_draws()),
        vector_rows(latents, found.worth, None if rows == count else here(tail_rows(count))),
        [
            measure_rows(
                latents.sites[name],
                independent=independent,
                worth=found.worth,
                rows=(first, count),
            )
            for name in names
        ],
        standardised(latents, names, here(looked_at(count))),
    )


def _joined(parts: Sequence[Mixed], whole: Agreement) -> Mixed:
    first = parts[0]
    others = [part.latents for part in parts]
    latents = first.latents
    if len(parts) > 1:
        latents = replace(
            latents,
            points=np.concatenate([part.points for part in others]),
            bounds={
                name: Bound.join([part.bounds[name] for part in others]) for name in latents.bounds
            },
            directions=tuple(
                replace(one, bound=Bound.join([part.directions[k].bound for part in others]))
                for k, one in enumerate(latents.directions)
            ),
        )
    return replace(
        first,
        latents=latents,
        rhat=whole.rhat,
        num_weighed=int((whole.disagree & whole.known).sum()),
        num_left_out=int(whole.left_out.sum()),
        selection=whole.selection,
    )
