# SPDX-License-Identifier: Apache-2.0
"""The numbers whose ranks are looked at: coordinates, |z|², log p(x|z), and pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_idvae.infer.draws import Draws
from pyro_idvae.infer.limits.coordinates import coordinates_of
from pyro_idvae.programs.bound_model import BoundModel, Values

Array = np.ndarray[Any, Any]

MOST_COORDINATES = 100
"""How many coordinates are looked at; of more, as many evenly spaced ones."""
MOST_PAIRS = 20
"""How many pairs of these."""


class Quantities:
    """What is ranked, of draws of a model's latents.

    - Each coordinate of a latent. Where a replication is a whole data set, a latent in its plate
      is looked at in the first row, and by its mean over the rows.
    - |z|² of each continuous site, on the scale on which its prior is N(0, 1) where that is known.
    - log p(x|z), which both latents and data enter: margins alone may all be right for draws of the
      prior.

    Args:
        bound: the model on its data.
        by_row: whether each row is a replication, rather than all of them together.

    Attributes:
        names: of these quantities, in the order of the arrays.
        continuous: which of them are continuous coordinates, to be paired.
    """

    def __init__(self, bound: BoundModel, *, by_row: bool) -> None:
        self.by_row = by_row
        found = []
        for site in bound.latents:
            local = bound.row_place(site) is not None
            for kind in ("row 0", "mean of rows") if local and not by_row else ("",):
                found += [(coordinate, kind) for coordinate in coordinates_of(bound, site)]
        if len(found) > MOST_COORDINATES:
            chosen = np.linspace(0, len(found) - 1, MOST_COORDINATES).round().astype(int)
            found = [found[i] for i in chosen]
        self._coordinates = found
        nodes: Any = bound.trace.nodes
        floating = [n for n in bound.latents if nodes[n]["value"].is_floating_point()]
        self._sites = [n for n in floating if not nodes[n]["fn"].support.is_discrete]
        self._places = {name: bound.row_place(name) for name in bound.latents}
        self.continuous = [i for i, (c, _) in enumerate(found) if c.site in self._sites]
        self.names = [f"{c.label}, {kind}" if kind else c.label for c, kind in found]
        self.names += [f"|{name}|²" for name in self._sites]
        self.names.append("log p(x|z)")

    def measure(self, draws: Draws) -> Array:
        """Return the quantities of draws: ``(chain, draw, replications, quantities)``."""
        found = [self._coordinate(draws.values, c, kind) for c, kind in self._coordinates]
        for name in self._sites:
            # On the other scale where there is no better one: a quantity may be any function.
            scores = draws.normal_scores.get(name, draws.values[name])
            found.append(self._total(scores.square(), self._places[name]))
        terms = list(draws.log_likelihood.values())
        if self.by_row:
            # What is outside the plate is the same for all draws.
            kept = [term for term in terms if term.dim() > 2]
        else:
            kept = [term.reshape(*term.shape[:2], 1, -1).sum(-1) for term in terms]
        found.append(torch.stack(kept).sum(0))
        return np.stack([part.detach().cpu().numpy() for part in found], -1)

    def _coordinate(self, values: Values, coordinate: Any, kind: str) -> Tensor:
        picked = values[coordinate.site][(slice(None), slice(None), *coordinate.place)]
        if kind == "mean of rows":
            return picked.double().mean(-1, keepdim=True)
        if kind:
            return picked[..., :1]
        return picked if self._places[coordinate.site] is not None else picked.unsqueeze(-1)

    def _total(self, squares: Tensor, place: int | None) -> Tensor:
        if place is None or not self.by_row:
            return squares.reshape(*squares.shape[:2], 1, -1).sum(-1)
        by_row = squares.movedim(2 + place, 2)
        return by_row.reshape(*by_row.shape[:3], -1).sum(-1)


def pairs_of(places: list[int]) -> list[tuple[int, int]]:
    """Return pairs of coordinates: neighbours on a ring, then those two apart, and so on.

    Of more than the most that are looked at, the first; of more neighbours, evenly spaced ones.

    Example:
        >>> from pyro_idvae.diagnostics.calibration.quantities import pairs_of
        >>> pairs_of([0, 1, 2])
        [(0, 1), (1, 2), (0, 2)]
    """
    count = len(places)
    pairs: list[tuple[int, int]] = []
    for apart in range(1, count // 2 + 1):
        ring = [tuple(sorted((i, (i + apart) % count))) for i in range(count)]
        pairs += [(i, j) for i, j in dict.fromkeys(ring) if (i, j) not in pairs]
        if len(pairs) >= MOST_PAIRS:
            break
    if count > MOST_PAIRS:
        pairs = [pairs[i * count // MOST_PAIRS] for i in range(MOST_PAIRS)]
    return [(places[i], places[j]) for i, j in pairs[:MOST_PAIRS]]


def products(one: Array, other: Array) -> Array:
    r"""Return the products of two quantities, each in units of its spread around its mean.

    Means and standard deviations are over the first axis. If a truth is among the draws there, and
    is one of them in law, the products are exchangeable too, and the truth's has a uniform rank.

    Args:
        one: of shape ``(draws, ...)``.
        other: likewise.
    """
    parts = []
    for values in (one, other):
        centred = values - values.mean(0)
        spread = centred.std(0)
        parts.append(centred / np.where(spread > 0, spread, 1.0))
    found: Array = parts[0] * parts[1]
    return found
