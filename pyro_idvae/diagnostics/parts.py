# SPDX-License-Identifier: Apache-2.0
"""Draws of many rows, read some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.reading import checked_groups, data_dim_of, is_whole

Array = np.ndarray[Any, Any]

NUMBERS_AT_ONCE = 2**23
"""Draws of single latents that are in memory at once."""
BY_ROW = ("posterior", "log_likelihood", "log_prior", "prior")
"""Groups all of whose variables must have rows, for rows to be looked at apart."""


class Parts:
    """The latents of draws, in parts of their rows.

    Args:
        readers: functions that return the draws of a part, each as long as it is wanted.
    """

    def __init__(self, readers: Sequence[Callable[[], Latents]]) -> None:
        self.readers = readers

    def __iter__(self) -> Iterator[Latents]:
        for reader in self.readers:
            yield reader()

    @classmethod
    def held(cls, parts: Sequence[Latents]) -> Parts:
        """Return parts that are in memory."""
        return cls([partial(_itself, part) for part in parts])

    @classmethod
    def of(cls, data: Any, name: str = "data", *, rows: int | None = None) -> Parts:
        """Return the latents of ArviZ data, as many rows at a time as memory is for.

        Draws in which anything is of all rows together are one part.

        Args:
            data: as for :meth:`Latents.of`.
            name: of the argument, for messages.
            rows: of a part; found if None.

        Raises:
            ArgumentError: as :meth:`Latents.of` does, of the first part at once.
        """
        (parts,) = cls.together({name: data}, rows=rows)
        return parts

    @classmethod
    def together(cls, data: Mapping[str, Any], *, rows: int | None = None) -> list[Parts]:
        """Return the latents of several ArviZ data, each part of them all of the same rows.

        They are one part each where that cannot be.

        Args:
            data: by name of the argument, for messages.
            rows: of a part; found if None.
        """
        sources = [Source.of(value, name) for name, value in data.items()]
        steps = {rows or source.affordable() for source in sources if source.apart}
        counts = {source.length for source in sources}
        if not all(source.apart for source in sources) or len(counts) > 1:
            return [source.whole() for source in sources]
        return [source.by_rows(min(steps)) for source in sources]


def _itself(part: Latents) -> Latents:
    return part


class Source(NamedTuple):
    """Draws, and what is needed to read some rows of them.

    Attributes:
        name: of the argument, for messages.
        groups: datasets by group; or the latents themselves.
        dim: the dimension of rows; None if there is none.
        apart: whether rows stand by themselves.
    """

    name: str
    groups: Mapping[str, Any] | Latents
    dim: str | None
    apart: bool

    @classmethod
    def of(cls, data: Any, name: str) -> Source:
        """Return what ArviZ data are read from; nothing is read."""
        if isinstance(data, Latents):
            return cls(name, data, data.data_dim, False)
        groups = checked_groups(data, name)
        dim = data_dim_of(groups)
        return cls(name, groups, dim, dim is not None and _by_row(groups, dim))

    @property
    def length(self) -> int:
        """The number of rows; 1 if latents have none."""
        if isinstance(self.groups, Latents):
            return max(len(self.groups.points), 1)
        return int(self.groups["posterior"].sizes.get(self.dim, 1))

    def affordable(self) -> int:
        """Return how many rows to read at once: whole chunks, where they are stored in chunks."""
        posterior: Any = self.groups["posterior"]  # type: ignore[index]
        one = sum(v.size // max(v.sizes[self.dim], 1) for v in posterior.values())
        step = max(1, NUMBERS_AT_ONCE // max(one, 1))
        first = next(iter(posterior.values()))
        chunks = first.encoding.get("chunks")
        size = chunks[first.dims.index(self.dim)] if chunks else 1
        return int(max(step // size, 1) * size)

    def latents(self, rows: slice | None = None) -> Latents:
        """Return the latents of some rows; of all, where rows do not stand by themselves.

        Raises:
            ArgumentError: as :meth:`Latents.of` does.
        """
        if isinstance(self.groups, Latents):
            return self.groups
        kept = self.groups
        if rows is not None and self.apart:
            kept = {
                group: data.isel({self.dim: rows}) if self.dim in data.dims else data
                for group, data in kept.items()
            }
            if rows.start and "sample_stats" in kept:
                stats = kept["sample_stats"]
                if "diverging" in stats and self.dim not in stats["diverging"].dims:
                    # Divergences of all rows together count once, with the first part.
                    kept = {**kept, "sample_stats": stats.drop_vars("diverging")}
        return Latents.of_groups(kept, self.name)

    def whole(self) -> Parts:
        """Return all rows as one part, read at once."""
        return Parts.held([self.latents()])

    def by_rows(self, step: int) -> Parts:
        """Return as many rows at a time."""
        if step >= self.length:
            return self.whole()
        return Parts(
            [
                partial(self.latents, slice(first, min(first + step, self.length)))
                for first in range(0, self.length, step)
            ]
        )


def observations(data: Any) -> dict[str, Array]:
    """Return what draws are given, all rows of it, by site."""
    if isinstance(data, Latents):
        return dict(data.observed)
    groups = checked_groups(data, "data")
    return {str(n): v.values for n, v in groups.get("observed_data", {}).items()}


def _by_row(groups: Mapping[str, Any], dim: str) -> bool:
    """Tell whether rows stand by themselves, and latents are no labels."""
    variables = [v for group in BY_ROW for v in groups.get(group, {}).values()]
    stats: Any = groups.get("sample_stats", {})
    variables += [stats["log_q"]] if "log_q" in stats else []
    return all(dim in v.dims for v in variables) and not any(
        is_whole(v.isel({dim: slice(0, 1)}).values) for v in groups["posterior"].values()
    )
