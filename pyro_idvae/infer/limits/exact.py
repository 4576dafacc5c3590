# SPDX-License-Identifier: Apache-2.0
"""Bounds for single coordinates, and for directions, from draws of the exact posterior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pyro_idvae._chains import LEAST_PER_CHAIN
from pyro_idvae.infer.chain_mass import ChainMass
from pyro_idvae.infer.limits.coordinates import (
    Moments,
    coordinates_of,
    in_shape,
    independent_sites,
)
from pyro_idvae.infer.limits.directions import Directions, find_directions
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


def latent_limits(
    bound: BoundModel, values: Values, mass: ChainMass | None, wanted: int | None
) -> Limits:
    """Return bounds from draws of the exact posterior; see :class:`Replacing`.

    Args:
        bound: the model on its data.
        values: draws of shape ``(chain, draw) + site shape``.
        mass: of the chains.
        wanted: draws to use, of all chains together; None for what costs a fifth of the sampling.
    """
    names = independent_sites(bound)
    coordinates = [c for name in names for c in coordinates_of(bound, name)]
    if not coordinates or next(iter(values.values())).shape[1] < LEAST_PER_CHAIN:
        return Limits({})
    with torch.no_grad():
        chosen = thinned(values, len(coordinates) + 1, wanted)
        replacing = Replacing(bound, values, mass, chosen)
        found = {}
        for coordinate in coordinates:
            name, place = coordinate.site, (slice(None), *coordinate.place)
            moved = replacing.base[name].clone()
            moved[place] = replacing.fresh[name][place]
            local = bound.row_place(name) is not None
            found[coordinate] = replacing.moments({name: moved}, local=local)
        directions = find_directions(replacing, found)
    return Limits({name: in_shape(bound, name, found) for name in names}, directions)
