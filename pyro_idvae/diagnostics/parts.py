# SPDX-License-Identifier: Apache-2.0
"""Draws of many rows, read some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.reading import checked_groups, data_dim_of, is_whole

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
        if isinstance(data, Latents):
            return cls([lambda: data])
        groups = checked_groups(data, name)
        dim = data_dim_of(groups)
        step = None if dim is None or not _by_row(groups, dim) else rows or _affordable(groups, dim)
        count = 0 if step is None else groups["posterior"].sizes[dim]
        if step is None or step >= count:
            whole = Latents.of_groups(groups, name)
            return cls([lambda: whole])
        return cls(
            [
                partial(_some_rows, groups, str(dim), slice(first, min(first + step, count)), name)
                for first in range(0, count, step)
            ]
        )


def _some_rows(groups: Mapping[str, Any], dim: str, rows: slice, name: str) -> Latents:
    kept = {
        group: data.isel({dim: rows}) if dim in data.dims else data
        for group, data in groups.items()
    }
    return Latents.of_groups(kept, name)


def _by_row(groups: Mapping[str, Any], dim: str) -> bool:
    """Tell whether rows stand by themselves, and latents are no labels."""
    variables = [v for group in BY_ROW for v in groups.get(group, {}).values()]
    stats: Any = groups.get("sample_stats", {})
    variables += [stats["log_q"]] if "log_q" in stats else []
    return all(dim in v.dims for v in variables) and not any(
        is_whole(v.isel({dim: slice(0, 1)}).values) for v in groups["posterior"].values()
    )


def _affordable(groups: Mapping[str, Any], dim: str) -> int:
    """Return how many rows to read at once: whole chunks, where they are stored in chunks."""
    posterior = groups["posterior"]
    one = sum(v.size // max(v.sizes[dim], 1) for v in posterior.values())
    step = max(1, NUMBERS_AT_ONCE // max(one, 1))
    first = next(iter(posterior.values()))
    chunks = first.encoding.get("chunks")
    size = chunks[first.dims.index(dim)] if chunks else 1
    return int(max(step // size, 1) * size)
