# SPDX-License-Identifier: Apache-2.0
"""A model's data in parts, each with random numbers of its own, and who has which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

from pyro_idvae.infer.ranks import shared
from pyro_idvae.infer.rowwise.blocks import Block
from pyro_idvae.infer.rowwise.stream import Stream
from pyro_idvae.programs.bound_model import BoundModel

Found = TypeVar("Found")


class Portion(NamedTuple):
    """Some data points: a model that is bound to them, and what is drawn from for them."""

    bound: BoundModel
    stream: Stream | None = None
    """None for torch's generators as they are."""
    share: float = 1.0
    """Of all data points."""

    @classmethod
    def of(cls, bound: BoundModel, block: Block) -> Portion:
        """Return a block of a model's data points, without those that only fill it.

        A guide comes along, if there is one.
        """
        whole = block.kept == bound.rows
        own = bound if whole else bound.on_rows(block.rows[: block.kept], with_guide=True)
        return cls(own, block.stream, block.kept / bound.rows)

    def run(self, step: Callable[..., Found], *given: Any) -> Found:
        """Return what a function of the model and other things gives."""
        with nullcontext() if self.stream is None else self.stream.drawing():
            return step(self.bound, *given)


class Shares:
    """The parts that this process has.

    Args:
        bound: the model on all of the data.
        portions: its parts.
        blocks: those of all processes; None if every process has all of the data.
    """

    def __init__(
        self,
        bound: BoundModel,
        portions: Sequence[Portion],
        blocks: Sequence[Block] | None = None,
    ) -> None:
        self.bound, self.portions, self.blocks = bound, portions, blocks

    @classmethod
    def whole(cls, bound: BoundModel) -> Shares:
        """Return all of the data as one part."""
        return cls(bound, [Portion(bound)])

    def at_stage(self, stage: int) -> Shares:
        """Return the same parts with the random numbers of a later pass over all of them."""
        later = [
            portion._replace(
                stream=None if portion.stream is None else portion.stream.at_stage(stage)
            )
            for portion in self.portions
        ]
        return Shares(self.bound, later, self.blocks)

    def here(self, step: Callable[..., Found], *given: Sequence[Any]) -> list[Found]:
        """Return what a function of a part's model, and of what is given for it, gives for each.

        All processes call this together: one that fails tells the others.
        """
        if self.blocks is None:
            return self._each(step, given)
        found: list[Found] = []

        def of(own: Sequence[Block]) -> list[None]:
            found.extend(self._each(step, given))
            return [None] * len(own)

        shared(self.blocks, of)
        return found

    def _each(self, step: Callable[..., Found], given: Sequence[Sequence[Any]]) -> list[Found]:
        return [
            portion.run(step, *own) for portion, *own in zip(self.portions, *given, strict=True)
        ]

    def everywhere(self, step: Callable[..., Found], *given: Sequence[Any]) -> Sequence[Found]:
        """Return the same of the parts of all processes, in the order of the data."""
        if self.blocks is None:
            return self._each(step, given)
        return shared(self.blocks, lambda _: self._each(step, given))
