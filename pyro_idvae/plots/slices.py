# SPDX-License-Identifier: Apache-2.0
"""Densities of a model along one or two coordinates of its latents, all others held."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.interpolate import CubicSpline
from torch import Tensor

from pyro_idvae._checks import check_index, check_list
from pyro_idvae.diagnostics.latents import latent_labels
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.side_by_side import densities_of

Array = np.ndarray[Any, Any]

AT_ONCE = 1024
"""Points evaluated together: their latents, of all rows, are in memory."""
FINER = 4
"""How many times finer the grid becomes around a narrow peak."""
NARROW = 0.1
"""Share of the grid near the maximum below which the grid becomes finer there."""
FEW = 3
"""Up to so many numbers held are written out; of more, their range."""


@dataclass(frozen=True)
class Coordinate:
    """One number among the latents: a dimension of a site, of one row if it is local."""

    site: str
    dim: int
    label: str
    place: tuple[Any, ...]


class Slice:
    """Log densities of a model as functions of one or two coordinates.

    Args:
        bound: the model on its data.
        sites: one or two latent sites.
        dims: one or two dimensions of one site, or one of each; the first ones if None.
        row: the data point, for sites in the data plate.
        at: values of the latents where they are held; else a prior draw, with the other dimensions
            of the sites that move at 0 where that is possible.

    Attributes:
        coordinates: what moves.
    """

    def __init__(
        self,
        bound: BoundModel,
        sites: Sequence[str],
        *,
        dims: Sequence[int] | None,
        row: int,
        at: Mapping[str, Tensor] | None,
    ) -> None:
        self.bound, self.row = bound, row
        self.coordinates = _coordinates(bound, sites, dims, row)
        self._local = all(bound.row_place(c.site) is not None for c in self.coordinates)
        if at is not None and not isinstance(at, Mapping):
            raise ArgumentError(f"at is a {type(at).__name__}: expected values by site")
        self._given = dict(at or {})
        unknown = sorted(set(self._given) - set(bound.latents))
        if unknown:
            raise ArgumentError(f"at has {unknown}: the latent sites are {bound.latents}")
        with torch.no_grad(), bound.running():
            drawn = bound.run_prior()[0]
        self._base = {
            name: _shaped(name, self._given[name], value) if name in self._given else value
            for name, value in drawn.items()
        }
        self._zero = [c.site for c in self.coordinates if self._set_to_zero(c)]

    def _set_to_zero(self, coordinate: Coordinate) -> bool:
        """Put the site's dimensions at 0, unless they are given or 0 is outside the support."""
        name = coordinate.site
        if name in self._given:
            return False
        moved = self._base[name].clone()
        moved[coordinate.place] = 0.0
        inside = self.bound.trace.nodes[name]["fn"].support.check(moved)
        if bool(inside.all()):
            self._base[name] = moved
        return bool(inside.all())

    @torch.no_grad()
    def densities(self, points: Array) -> tuple[Array, Array]:
        """Return log p(x|z) and log p(z) of the sites that move, in nats, of shape ``(n,)``.

        Both are −∞ outside the prior's support, and where they are no number.

        Args:
            points: values of the coordinates, of shape ``(n, number of coordinates)``.
        """
        parts = [
            self._some(points[first : first + AT_ONCE]) for first in range(0, len(points), AT_ONCE)
        ]
        likelihood, prior = (np.concatenate(part) for part in zip(*parts, strict=True))
        outside = np.isnan(likelihood) | ~np.isfinite(prior)
        return np.where(outside, -np.inf, likelihood), np.where(outside, -np.inf, prior)

    def _some(self, points: Array) -> tuple[Array, Array]:
        count = len(points)
        draws: Values = {n: v.expand(count, *v.shape) for n, v in self._base.items()}
        for number, coordinate in enumerate(self.coordinates):
            value = draws[coordinate.site].clone()
            place = (slice(None), *coordinate.place)
            part = value[place]
            flat = part.reshape(count, -1).clone()
            flat[:, coordinate.dim] = torch.as_tensor(points[:, number]).to(flat)
            value[place] = flat.reshape(part.shape)
            draws[coordinate.site] = value
        found = densities_of(self.bound, draws)
        moving = {c.site for c in self.coordinates}
        return self._total(found.likelihood), self._total(
            {name: value for name, value in found.prior.items() if name in moving}
        )

    def _total(self, terms: Values) -> Array:
        """Return the sum of the sites: of the one row if only its latents move, else of all."""
        each = [
            term[:, self.row]
            if self._local and term.dim() > 1
            else term.reshape(len(term), -1).sum(1)
            for term in terms.values()
        ]
        total: Array = torch.stack(each).sum(0).double().cpu().numpy()
        return total

    def held(self) -> str:
        """Return in words what does not move, and where it stands; empty if there is nothing."""
        moving: dict[str, list[int]] = {}
        for coordinate in self.coordinates:
            moving.setdefault(coordinate.site, []).append(coordinate.dim)
        parts: dict[str, list[str]] = {"as given": [], "at 0": [], "at a prior draw": []}
        for name, value in self._base.items():
            place = self.bound.row_place(name)
            own = value if place is None or not self._local else value.select(place, self.row)
            rest = np.delete(own.double().cpu().numpy().ravel(), moving.get(name, []))
            if not rest.size:
                continue
            others = f"the other {rest.size} dimensions" if rest.size > 1 else "the other dimension"
            what = f"{others} of {name}" if name in moving else name
            if name in self._zero:
                parts["at 0"].append(what)
            else:
                kind = "as given" if name in self._given else "at a prior draw"
                parts[kind].append(_said(what, rest))
        said = (f"held {kind}: {', '.join(what)}" for kind, what in parts.items() if what)
        return "; ".join(said)


def _coordinates(
    bound: BoundModel, sites: Sequence[str], dims: Sequence[int] | None, row: int
) -> list[Coordinate]:
    if dims is not None:
        dims = check_list("dims", dims, "one or two dimensions")
        if not 1 <= len(dims) <= 2:
            raise ArgumentError(f"dims={dims!r}: expected one or two dimensions")
    names = list(sites) * 2 if len(sites) == 1 else list(sites)
    found = []
    for number, name in enumerate(names):
        value, position = bound.trace.nodes[name]["value"], bound.row_place(name)
        if position is not None:
            check_index("row", row, bound.rows)
        place = (...,) if position is None else (*[slice(None)] * position, row)
        labels = latent_labels(name, tuple(value[place].shape))
        if len(sites) == 1 and number >= min(len(labels), 2 if dims is None else len(dims)):
            continue
        default = number if len(sites) == 1 else 0
        dim = default if dims is None else dims[number] if number < len(dims) else -1
        if not 0 <= dim < len(labels):
            raise ArgumentError(
                f"dims={dims!r}: the site {name!r} has {len(labels)} dimensions; give one or two "
                "of one site, or one of each of two sites"
            )
        found.append(Coordinate(name, dim, labels[dim], place))
    if not found or len({c.label for c in found}) != len(found):
        raise ArgumentError(f"dims={dims!r}: expected one dimension, or two different ones")
    return found


def _shaped(name: str, value: Tensor, like: Tensor) -> Tensor:
    given = torch.as_tensor(value).to(like)
    if given.shape != like.shape:
        raise ShapeError(
            f"at[{name!r}] has shape {tuple(given.shape)}: expected {tuple(like.shape)}"
        )
    return given


def _said(what: str, values: Array) -> str:
    """Return what a site's values are: themselves if few, else how many and their range."""
    if values.size <= FEW:
        numbers = ", ".join(f"{v:.3g}".replace("-", "−") for v in values)
        return f"{what} = {numbers if values.size == 1 else f'({numbers})'}"
    low, high = (f"{v:.2g}".replace("-", "−") for v in (values.min(), values.max()))
    return f"{what} ({values.size} numbers, {low} to {high})"


def refined(
    density: Callable[[Array], Array], grids: Sequence[Array], height: Array, *, depth: float
) -> tuple[list[Array], Array]:
    """Return a log density where it is near its maximum on a grid fine enough to show it.

    Where little of the grid is within ``depth`` of the maximum, a narrow peak or ridge falls
    between its points: what cubic splines expect near the maximum is evaluated on a finer grid.

    Args:
        density: of points, of shape ``(n, number of grids)``.
        grids: values along each coordinate.
        height: the density on them, of the shape of all grids.
        depth: nats below the maximum that are of interest.

    Returns:
        The grids, finer or not, and the density on them.
    """
    top = height.max()
    if (height > top - depth).mean() >= NARROW:
        return list(grids), height
    fine, expected = _splines(grids, height)
    near = expected > top - 2 * depth
    expected[near] = density(mesh(fine)[near.ravel()])
    if not np.isfinite(height).all():
        # Far below the maximum or outside the support: who can tell.
        expected[~near] = -np.inf
    return fine, expected


def smooth(grids: Sequence[Array], height: Array) -> tuple[list[Array], Array]:
    """Return a density on a grid four times finer, for contours without corners.

    Nothing rises above the maximum. At the edge of a support, where splines would swing, the
    density is returned as it is.
    """
    if not np.isfinite(height).all():
        return list(grids), height
    fine, found = _splines(grids, height)
    return fine, np.minimum(found, height.max())


def mesh(grids: Sequence[Array]) -> Array:
    """Return all points of grids, of shape ``(n, number of grids)``."""
    return np.stack(np.meshgrid(*grids, indexing="ij"), -1).reshape(-1, len(grids))


def _splines(grids: Sequence[Array], height: Array) -> tuple[list[Array], Array]:
    """Return cubic splines through a density, on a grid that has the given points and more."""
    fine = [np.linspace(g[0], g[-1], FINER * (len(g) - 1) + 1) for g in grids]
    # Splines swing at a jump, so outside a support the nearest density goes on.
    nearest = ndimage.distance_transform_edt(
        ~np.isfinite(height), return_distances=False, return_indices=True
    )
    found = height[tuple(nearest)]
    for axis, (own, finer) in enumerate(zip(grids, fine, strict=True)):
        found = CubicSpline(own, found, axis=axis)(finer)
    return fine, found
