# SPDX-License-Identifier: Apache-2.0
"""What an autopsy looks at: a pair and its exact posterior, of all rows or of a block of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pyro_idvae.diagnostics.collapse import CollapseReport, report_on
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.mixing import mixed, some_rows
from pyro_idvae.infer.ranks import shared
from pyro_idvae.infer.rowwise.blocks import Block
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.programs.bound_model import BoundModel, Values

Array = np.ndarray[Any, Any]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Exact:
    """The exact posterior of some rows.

    Attributes:
        latents: its draws, chains weighed, without rows that cannot be.
        rows: the rows that are kept.
        values: the draws of all rows, chains weighed.
    """

    latents: Latents
    rows: Array
    values: Values

    def on(self, bound: BoundModel, first: int, stop: int) -> Exact:
        """Return that of the rows from one to another of a model's."""
        inside = np.flatnonzero((self.rows >= first) & (self.rows < stop))
        places = {name: 2 + (bound.row_place(name) or 0) for name in self.values}
        values = {n: v.narrow(places[n], first, stop - first) for n, v in self.values.items()}
        return Exact(some_rows(self.latents, inside), self.rows[inside] - first, values)


def exact_posterior(
    alone: BoundModel, sampling: Sampling, **limits: Any
) -> tuple[Exact, CollapseReport]:
    """Sample the exact posterior of a model's latents and report on it."""
    draws = sampling.run(alone)
    draws = draws.with_prior(alone, draws.shape[1]).with_limits(alone)
    latents = Latents.of_draws(alone, draws)
    found = mixed(latents)
    exact = Exact(found.latents, found.rows, draws.weighed(alone))
    return exact, report_on(latents, **limits)


@dataclass(frozen=True)
class Case:
    """A pair, its model alone, and the exact posterior.

    Attributes:
        bound: model and guide on their data.
        alone: the model.
        exact: the exact posterior.
        blocks: of the rows, which are looked at one by one; None for all of them at once.
    """

    bound: BoundModel
    alone: BoundModel
    exact: Exact
    blocks: Sequence[Block] | None = None

    def by_blocks(self, step: Callable[..., Found], *given: Sequence[Any]) -> list[Found]:
        """Return what a function of some rows gives for each block, or for all rows.

        Each block has random numbers of its own, and goes to one process.

        Args:
            step: a function of a case.
            *given: what else it takes, one of each for each block.
        """
        if self.blocks is None:
            return [step(self, *(one[0] for one in given))]
        blocks: Sequence[Block] = self.blocks

        def of(own: Sequence[int]) -> list[Found]:
            found = []
            for number in own:
                with blocks[number].stream.drawing():
                    found.append(step(self._on(blocks[number]), *(one[number] for one in given)))
            return found

        return list(shared(range(len(blocks)), of))

    def _on(self, block: Block) -> Case:
        rows = block.rows[: block.kept]
        first, stop = int(rows[0]), int(rows[-1]) + 1
        return Case(
            self.bound.on_rows(rows, with_guide=True),
            self.alone.on_rows(rows),
            self.exact.on(self.alone, first, stop),
        )
