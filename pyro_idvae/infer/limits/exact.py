# SPDX-License-Identifier: Apache-2.0
"""Bounds for single coordinates, and for directions, from draws of the exact posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from pyro_idvae._chains import LEAST_PER_CHAIN
from pyro_idvae.infer.chain_mass import ChainMass
from pyro_idvae.infer.limits.coordinates import (
    Array,
    Coordinate,
    Moments,
    coordinates_of,
    in_shape,
    independent_sites,
)
from pyro_idvae.infer.limits.directions import (
    Candidates,
    Directions,
    Each,
    bound_directions,
    find_candidates,
)
from pyro_idvae.infer.limits.replacing import Replacing, thinned
from pyro_idvae.programs.bound_model import BoundModel, Values


@dataclass(frozen=True)
class Limits:
    """Bounds on KL(p(z_k|x) ‖ p(z_k)), in nats: their means over draws are.

    Attributes:
        sites: of the sites whose coordinates have one, arrays of the site's shape.
        directions: of directions off the axes, for the rows' latents and for the global ones.
    """

    sites: Mapping[str, Moments]
    directions: tuple[Directions, ...] = ()

    @property
    def means(self) -> dict[str, Array]:
        """The mean bounds, by site."""
        return {name: moments.mean for name, moments in self.sites.items()}


def replacing_of(
    bound: BoundModel, values: Values, mass: ChainMass | None, wanted: int | None
) -> Replacing | None:
    """Return the draws in which latents are replaced; None if no coordinate can be bounded.

    Args:
        bound: the model on its data.
        values: draws of shape ``(chain, draw) + site shape``.
        mass: of the chains.
        wanted: draws to use, of all chains together; None for what costs a fifth of the sampling.
    """
    coordinates = _coordinates(bound)
    if not coordinates or next(iter(values.values())).shape[1] < LEAST_PER_CHAIN:
        return None
    return Replacing(bound, values, mass, thinned(values, len(coordinates) + 1, wanted))


@torch.no_grad()
def coordinate_limits(replacing: Replacing | None) -> Limits:
    """Return bounds of single coordinates; see :class:`Replacing`."""
    if replacing is None:
        return Limits({})
    bound, found = replacing.bound, {}
    fresh = replacing.prior()
    for coordinate in _coordinates(bound):
        name, place = coordinate.site, (slice(None), *coordinate.place)
        moved = replacing.base[name].clone()
        moved[place] = fresh[name][place]
        local = bound.row_place(name) is not None
        found[coordinate] = replacing.moments({name: moved}, local=local)
    return Limits({name: in_shape(bound, name, found) for name in independent_sites(bound)})


class LimitSums(NamedTuple):
    """Sums over the rows of a part of the data; arrays of shape ``(coordinates,)``."""

    total: Array
    number: Array


def limit_sums(bound: BoundModel, means: Mapping[str, Array]) -> LimitSums:
    """Return the sums of the coordinates' mean bounds, by site, over rows, and of how many."""
    parts = [np.ravel(means[c.site][c.place]) for c in _coordinates(bound) if means]
    return LimitSums(
        np.array([part.sum() for part in parts]), np.array([float(part.size) for part in parts])
    )


def find_directions(bound: BoundModel, sums: Sequence[LimitSums], each: Each) -> list[Candidates]:
    """Return the directions off the axes that may be dead, of all parts of the data together.

    Args:
        bound: the model on all data, or on those of any part.
        sums: of each part.
        each: evaluates a function of a part's draws for each of these parts.
    """
    if not len(sums[0].total):
        return []
    mean = np.stack([part.total for part in sums]).sum(0)
    mean = mean / np.stack([part.number for part in sums]).sum(0)
    return find_candidates(bound, dict(zip(_coordinates(bound), mean.tolist(), strict=True)), each)


def add_directions(
    limits: Limits, replacing: Replacing | None, candidates: Sequence[Candidates]
) -> Limits:
    """Return bounds with those of directions."""
    if replacing is None:
        return limits
    found = tuple(bound_directions(replacing, one) for one in candidates)
    return replace(limits, directions=found)


def _coordinates(bound: BoundModel) -> list[Coordinate]:
    return [c for name in independent_sites(bound) for c in coordinates_of(bound, name)]
