# SPDX-License-Identifier: Apache-2.0
"""Bounds on what single latents, and directions of several, know: as stored with the draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

Array = np.ndarray[Any, Any]

FIELDS = ("mean", "variance", "size")
SCOPES = ("row", "all")


@dataclass(frozen=True, eq=False)
class Bound:
    """Means over draws that bound divergences from the prior from above, in nats.

    Attributes:
        mean: of shape ``(rows, series)``.
        variance: of one draw.
        size: effective draws.
    """

    mean: Array
    variance: Array
    size: Array

    def take(self, rows: Array) -> Bound:
        """Return those of some rows; of the one row there is, that."""
        kept = slice(None) if len(self.mean) == 1 else rows
        return Bound(self.mean[kept], self.variance[kept], self.size[kept])

    @classmethod
    def join(cls, parts: Sequence[Bound]) -> Bound:
        """Return those of the rows of several parts."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*map(_fields, parts), strict=True)))

    def limits(self, confidence: float) -> tuple[Array, Array, Array]:
        """Return the mean over rows with its one-sided lower and upper limits."""
        rows = len(self.mean)
        parts = self.variance / self.size / rows**2
        squared = parts.sum(0)
        share = (parts**2 / np.maximum(self.size - 1.0, 1.0)).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            degrees = np.where(share > 0, squared**2 / share, self.size.max(0))
        margin = stdtrit(np.maximum(degrees, 1.0), confidence) * np.sqrt(squared)
        mean = self.mean.mean(0)
        return mean, mean - margin, mean + margin


def _fields(bound: Bound) -> tuple[Array, Array, Array]:
    return bound.mean, bound.variance, bound.size


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions of several latents together.

    Attributes:
        labels: of the coordinates.
        local: whether they are of each row.
        loadings: unit vectors, of shape ``(directions, coordinates)``, in prior sds.
        bound: of shape ``(rows, directions)``.
    """

    labels: tuple[str, ...]
    local: bool
    loadings: Array
    bound: Bound


def bounds_in(stats: Any, sites: Sequence[str], dim: str | None) -> dict[str, Bound]:
    """Return the bounds of sites in the group ``sample_stats``."""
    found = {}
    for site in sites:
        names = [f"limit_{field}_{site}" for field in FIELDS]
        if all(name in stats for name in names):
            found[site] = Bound(*(_by_row(stats[name], dim) for name in names))
    return found


def directions_in(stats: Any, dim: str | None) -> tuple[Directions, ...]:
    """Return the directions in the group ``sample_stats``."""
    found = []
    for scope in SCOPES:
        if f"loadings_{scope}" in stats:
            loadings = stats[f"loadings_{scope}"]
            parts = [_by_row(stats[f"limit_{field}_direction_{scope}"], dim) for field in FIELDS]
            labels = tuple(map(str, loadings[f"coordinate_{scope}"].values))
            found.append(Directions(labels, scope == "row", loadings.values, Bound(*parts)))
    return tuple(found)


def _by_row(array: Any, dim: str | None) -> Array:
    """Return an array of shape (rows, series)."""
    if dim in array.dims:
        values = np.asarray(array.transpose(dim, ...).values)
        return values.reshape(len(values), -1)
    return np.asarray(array.values).reshape(1, -1)


def bounds_of(sites: Mapping[str, Any], places: Mapping[str, int | None]) -> dict[str, Bound]:
    """Return the bounds of sites from arrays of the sites' shapes.

    Args:
        sites: mean, variance and size by site.
        places: which of a site's dimensions the rows are, if any.
    """
    found = {}
    for name, moments in sites.items():
        place = places[name]
        parts = [a[None] if place is None else np.moveaxis(a, place, 0) for a in moments]
        found[name] = Bound(*(part.reshape(len(part), -1) for part in parts))
    return found
