# SPDX-License-Identifier: Apache-2.0
"""Draws of rows that are sampled side by side, block by block into a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from pyro_idvae.arviz_io import Variable
from pyro_idvae.infer.arviz import DIRECTIONS
from pyro_idvae.infer.chain_mass import ChainMass
from pyro_idvae.infer.draws import Draws, evaluated, predictive, shape_of
from pyro_idvae.infer.groups import (
    TOTALS,
    direction_variables,
    groups_of,
    labels_of,
    total_of,
    totalled,
)
from pyro_idvae.infer.limits import (
    Limits,
    LimitSums,
    add_directions,
    find_directions,
    limit_sums,
    replacing_of,
)
from pyro_idvae.infer.ranks import Ranks, first_finds, shared
from pyro_idvae.infer.rowwise.blocks import Block
from pyro_idvae.infer.shares import Portion
from pyro_idvae.infer.store.journal import Journal
from pyro_idvae.infer.store.layout import Layout
from pyro_idvae.infer.store.order import Order
from pyro_idvae.programs.bound_model import BoundModel, Values


class RowStore:
    """The sampling of a model's rows into a store, by one process or several.

    Args:
        journal: the store.
        order: what is sampled, and what of it is wanted.
        blocks: all data points.
    """

    def __init__(self, journal: Journal, order: Order, blocks: Sequence[Block]) -> None:
        self.journal, self.order, self.blocks = journal, order, blocks
        self.bound, self.sampling, self.names = order.bound, order.sampling, order.names
        self.layout = Layout(
            journal.draws,
            rows=self.bound.rows,
            block_size=len(blocks[0].rows),
            data_dim=self.names.data_dim,
        )

    def run(self, done: Sequence[int]) -> None:
        """Sample what is not done, then what is of all rows.

        Args:
            done: numbers of the blocks that are, the same for all processes.

        Raises:
            KeyboardInterrupt: at Ctrl-C; what is whole by then is in the store.
        """
        left = sorted(set(range(len(self.blocks))) - set(done))
        shared(left, self._sample)
        if self.sampling.independent:
            first_finds(lambda: self._close({}))
            return
        if self.order.num_limit_draws != 0:
            self._add_directions()
        self._add_totals()

    def _sample(self, numbers: Sequence[int]) -> list[None]:
        shown = self.sampling.progress and Ranks.here().speaks
        what = "guide" if self.sampling.independent else "vectorized HMC"
        for number in tqdm(numbers, desc=what, unit="block", disable=not shown):
            portion, values, stats = self.sampling.of_block(self.bound, self.blocks[number])
            if shape_of(values) != self.sampling.shape:
                raise KeyboardInterrupt
            draws, new = portion.run(self._finished, values, stats, portion.share)
            groups = groups_of(portion.bound, draws, new, self.names)
            record = self.journal.record
            self.layout.prepare(groups, labels_of(self.names, []), record["attrs"])
            self.layout.write(groups, self._rows(number).start)
            self.journal.mark(number, Ranks.here().rank)
        return [None] * len(numbers)

    def _finished(
        self, bound: BoundModel, values: Values, stats: Values, share: float
    ) -> tuple[Draws, Values | None]:
        """Return draws with all that is known of them by themselves, and new observations."""
        order, sampling = self.order, self.sampling
        method, independent = sampling.kernel, sampling.independent
        draws = evaluated(bound, values, stats, independent=independent, method=method)
        draws = draws.with_prior(bound, order.num_prior_samples)
        if order.num_limit_draws != 0:
            draws = draws.with_coordinate_limits(bound, order.num_limit_draws, share=share)
        new = predictive(bound, values) if order.posterior_predictive else None
        return draws, new

    def _rows(self, number: int) -> slice:
        first = number * len(self.blocks[0].rows)
        return slice(first, first + self.blocks[number].kept)

    def _each(self, step: Callable[[int], Any]) -> Sequence[Any]:
        """Return what a function of a block's number gives for each block, on all processes."""
        return shared(range(len(self.blocks)), lambda own: [step(number) for number in own])

    def _read(self, group: str, name: str, number: int) -> Any:
        return self.layout.read(group, name, self._rows(number))

    def _means(self, number: int) -> dict[str, Any]:
        """Return the mean bounds of a block's coordinates, as stored."""
        names = self.bound.latents
        means = {n: self._read("sample_stats", f"limit_mean_{n}", number) for n in names}
        return {name: mean for name, mean in means.items() if mean is not None}

    def _with_replaced(self, number: int, step: Callable[..., Any]) -> Any:
        """Return what a function of a block's draws, in which latents are replaced, gives."""
        block = self.blocks[number]
        portion = Portion.of(self.bound, block._replace(stream=block.stream.at_stage(DIRECTIONS)))
        like = portion.bound.values()
        values = {
            name: torch.as_tensor(self._read("posterior", name, number)).to(value)
            for name, value in like.items()
        }
        mass, size = (
            self._read("sample_stats", name, number) for name in ("chain_mass", "chain_mass_size")
        )
        device = next(iter(like.values())).device
        known = None
        if mass is not None:
            known = ChainMass(*(torch.as_tensor(part).to(device) for part in (mass, size)))
        return portion.run(
            lambda bound: step(replacing_of(bound, values, known, self.order.num_limit_draws))
        )

    def _add_directions(self) -> None:
        """Write the bounds of directions, which are those of all rows."""

        def sums(number: int) -> LimitSums:
            return limit_sums(self.bound, self._means(number))

        found = find_directions(
            self.bound,
            self._each(sums),
            lambda step: self._each(lambda number: self._with_replaced(number, step)),
        )
        if not found:
            return
        nothing = direction_variables(self.names, [one.without_bounds() for one in found])
        first_finds(lambda: self.layout.extend(nothing, labels_of(self.names, found)))

        def bounded(number: int) -> None:
            limits = self._with_replaced(
                number, lambda replacing: add_directions(Limits({}), replacing, found)
            )
            variables = direction_variables(self.names, limits.directions)
            self.layout.write({"sample_stats": variables}, self._rows(number).start)

        self._each(bounded)

    def _add_totals(self) -> None:
        """Write the statistics of all rows together."""

        def totals(number: int) -> dict[str, Any]:
            rows = {name: self._read("sample_stats", f"row_{name}", number) for name in TOTALS}
            return {name: total_of(name, torch.as_tensor(v)).numpy() for name, v in rows.items()}

        parts = self._each(totals)
        found = {name: Variable(totalled(name, [p[name] for p in parts]), ()) for name in TOTALS}
        first_finds(lambda: self._close(found))

    def _close(self, totals: dict[str, Variable]) -> None:
        self.layout.extend(totals, {})
        self.layout.close()
        self.journal.close()
