# SPDX-License-Identifier: Apache-2.0
"""How to draw from a guide: all rows at once, or in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from pyro_idvae._checks import check_count, check_seed
from pyro_idvae.infer.draws import Draws, draw_guide
from pyro_idvae.infer.ranks import agreed_seed, shared
from pyro_idvae.infer.rowwise.blocks import Block, blocks_of
from pyro_idvae.infer.shares import Portion, Shares
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.dependence import guide_dependences, prior_dependences
from pyro_idvae.programs.rows_apart import check_rows_apart
from pyro_idvae.programs.side_by_side import guide_draws

DRAWS_AT_ONCE = 2**18
"""Draws times rows of a block, where nobody has said how many rows."""


@dataclass(frozen=True)
class GuideSampling:
    """How to draw; the arguments of :func:`from_guide` that are not about the output."""

    num_samples: int
    block_size: int | None = None
    seed: int | None = None
    progress: bool = False
    kernel: ClassVar[str] = "svi"
    independent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("num_samples", self.num_samples)
        if self.block_size is not None:
            check_count("block_size", self.block_size)
        if self.seed is not None:
            check_seed(self.seed)

    @property
    def shape(self) -> tuple[int, int]:
        """One chain, and the number of draws."""
        return 1, self.num_samples

    def draws(self, bound: BoundModel) -> tuple[Shares, list[Draws]]:
        """Return draws in the parts that are this process's: one part if no block size is given.

        Raises:
            ArgumentError: as :meth:`begin`.
        """
        if self.block_size is None:
            self._seed()
            return Shares.whole(bound), [draw_guide(bound, self.num_samples)]
        self.begin(bound)
        blocks = self.blocks(bound)
        portions: list[Portion] = []
        drawn: list[Draws] = []

        def draw(own: Sequence[Block]) -> list[None]:
            for block in own:
                portions.append(Portion.of(bound, block))
                drawn.append(portions[-1].run(draw_guide, self.num_samples))
            return [None] * len(own)

        shared(blocks, draw)
        return Shares(bound, portions, blocks), drawn

    def begin(self, bound: BoundModel) -> None:
        """Check that rows stand apart, and seed torch's generators.

        Raises:
            ArgumentError: if they do not.
        """
        check_rows_apart(bound, "leave out block_size and store")
        # Once for all blocks, so that all have the same statistics.
        prior_dependences(bound)
        guide_dependences(bound)
        self._seed()

    def _seed(self) -> None:
        if self.seed is not None:
            torch.manual_seed(self.seed)

    def blocks(self, bound: BoundModel) -> list[Block]:
        """Return the blocks of the data points."""
        size = self.block_size or max(1, DRAWS_AT_ONCE // self.num_samples)
        device = next(iter(bound.values().values())).device
        return blocks_of(bound.rows, size, agreed_seed(self.seed), device)

    def of_block(self, bound: BoundModel, block: Block) -> tuple[Portion, Values, Values]:
        """Return draws of a block and log q, with model and guide on its rows."""
        portion = Portion.of(bound, block)
        values, log_q = portion.run(guide_draws, self.num_samples)
        drawn = {name: value.unsqueeze(0) for name, value in values.items()}
        return portion, drawn, {"log_q": log_q.unsqueeze(0)}

    def said(self) -> dict[str, Any]:
        """Return the options, in words and numbers."""
        return {"kernel": self.kernel, "num_samples": self.num_samples}
