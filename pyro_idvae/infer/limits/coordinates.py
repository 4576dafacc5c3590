# SPDX-License-Identifier: Apache-2.0
"""The single coordinates of latent sites, and which of them are independent before the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyro.distributions as dist
import torch

from pyro_idvae._stored import coordinate_labels
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.dependence import prior_dependences
from pyro_idvae.programs.sites import unwrap_masks

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Coordinate:
    """One coordinate of a site, for all rows at once."""

    site: str
    index: tuple[int, ...]
    """Within one row's value."""
    place: tuple[Any, ...]
    """Within the site's value."""

    @property
    def label(self) -> str:
        """What reports call it: ``z``, ``z[0]`` or ``z[0,1]``."""
        return coordinate_labels(self.site, [[place] for place in self.index])[0]


class Moments(NamedTuple):
    """The mean of a quantity over draws, in nats, and how well it is known: arrays of one shape."""

    mean: Array
    variance: Array
    """Of one draw."""
    size: Array
    """Effective draws."""


def coordinates_of(bound: BoundModel, name: str) -> Iterator[Coordinate]:
    """Yield the coordinates of a site, in the order of its labels."""
    shape = bound.trace.nodes[name]["value"].shape
    row = bound.row_place(name)
    free = [axis for axis in range(len(shape)) if axis != row]
    for index in np.ndindex(*(shape[axis] for axis in free)):
        place: list[Any] = [slice(None)] * len(shape)
        for axis, position in zip(free, index, strict=True):
            place[axis] = position
        yield Coordinate(name, index, tuple(place))


def independent_sites(bound: BoundModel) -> list[str]:
    """Return the sites whose prior coordinates are independent of one another and of all else."""
    links = prior_dependences(bound)
    parents = set().union(*links.values())
    return [
        name
        for name in bound.latents
        if not links[name]
        and name not in parents
        and not bound.depends_on_summed(name)
        and is_factorised(bound.trace.nodes[name]["fn"])
    ]


def is_factorised(distribution: Any) -> bool:
    """Tell whether a distribution's coordinates are independent."""
    base = unwrap_masks(distribution)
    if isinstance(base, dist.MultivariateNormal):
        covariance = base.covariance_matrix
        return bool((covariance == torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))).all())
    return len(base.event_shape) == 0


def in_shape(bound: BoundModel, name: str, found: Mapping[Coordinate, Moments]) -> Moments:
    """Return the moments of a site's coordinates in the site's shape."""
    shape = bound.trace.nodes[name]["value"].shape
    whole = Moments(*(np.zeros(shape) for _ in range(3)))
    local = bound.row_place(name) is not None
    for coordinate, moments in found.items():
        if coordinate.site == name:
            for array, part in zip(whole, moments, strict=True):
                array[coordinate.place] = part if local else part[0]
    return whole
