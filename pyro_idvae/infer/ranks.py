# SPDX-License-Identifier: Apache-2.0
"""Processes that share work, as ``torchrun`` starts them: who does what, and who knows it then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import distributed

from pyro_idvae.errors import RankError
from pyro_idvae.infer.rowwise.stream import (
    drawn_seed,
    generator_states,
    set_generator_states,
)

Part = TypeVar("Part")
Found = TypeVar("Found")


class Ranks(NamedTuple):
    """Which of how many processes this one is."""

    rank: int
    size: int

    @classmethod
    def here(cls) -> Ranks:
        """Return those of ``torch.distributed``; one process, if its group was not started."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls(0, 1)
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def speaks(self) -> bool:
        """Whether this is the one process that shows how far the work is."""
        return self.rank == 0


class _Report(NamedTuple):
    """What a process says at the end of its share."""

    parts: int
    """Of all processes together, as this one counts them."""
    found: list[Any]
    failure: str | None


def shared(
    parts: Sequence[Part], work: Callable[[Sequence[Part]], Sequence[Found]]
) -> Sequence[Found]:
    """Return what is found of each part, in their order, on every process.

    Parts go to the processes in turn. All call this together, or wait for those that do not.

    Args:
        parts: of the work, the same on all processes.
        work: a function of some of the parts that returns one thing for each, or for the first
            ones if an interrupt ended it; things that can be pickled, on the processor.

    Raises:
        RankError: if another process failed, or has other parts.
        KeyboardInterrupt: if an interrupt ended the work of one of several processes.
    """
    rank, size = Ranks.here()
    if size == 1:
        return work(parts)
    own, found, error = parts[rank::size], [], None
    try:
        found = list(work(own))
        reason = None if len(found) == len(own) else "interrupted"
    except KeyboardInterrupt:
        reason = "interrupted"
    except Exception as failure:  # the others must hear of whatever it is
        error, reason = failure, f"{type(failure).__name__}: {failure}"
    reports = _gathered(_Report(len(parts), found, reason))
    if error is not None:
        raise error
    if any(report.failure == "interrupted" for report in reports):
        raise KeyboardInterrupt
    whole: list[Any] = [None] * len(parts)
    for place, report in enumerate(reports):
        if report.failure is not None:
            raise RankError(f"process {place} of {size} failed with {report.failure}")
        if report.parts != len(parts):
            raise RankError(
                f"process {place} of {size} has {report.parts} blocks of rows, this one, {rank}, "
                f"{len(parts)}: give all of them the same data and options"
            )
        whole[place::size] = report.found
    return whole


def first_finds(step: Callable[[], Found]) -> Found:
    """Return on every process what a function gives on the first, where alone it is called.

    Raises:
        RankError: on the others, if it failed.
    """
    (found,) = shared([None], lambda own: [step() for _ in own])
    return found


def draw_alike(seed: int | None) -> None:
    """Seed torch's generators; or let all processes go on from those of the first one.

    Args:
        seed: None to go on.
    """
    if seed is not None:
        torch.manual_seed(seed)
    elif Ranks.here().size > 1:
        set_generator_states(first_finds(generator_states))


def agreed_seed(seed: int | None) -> int:
    """Return a seed that all processes have: the one given, or drawn by the first of them.

    Then all go on from the first one's generators, as it would by itself.

    Args:
        seed: the one given.
    """
    if seed is None:
        seed, states = first_finds(lambda: (drawn_seed(), generator_states()))
        if Ranks.here().size > 1:
            set_generator_states(states)
    return seed


def _gathered(report: _Report) -> list[_Report]:
    reports: list[Any] = [None] * Ranks.here().size
    distributed.all_gather_object(reports, report)
    return reports
