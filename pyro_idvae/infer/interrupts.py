# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C after sampling: the first one does not lose the draws."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pyro_idvae.programs.as_found import as_found

Found = TypeVar("Found")


def warn_caller(message: str) -> None:
    """Warn at the user's line, however deep in the package this is said."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        ("pyro_idvae.", "contextlib")
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def common(chains: Sequence[Sequence[Found]]) -> list[Sequence[Found]]:
    """Return chains of one length: of what an interrupt has left, the cut with the most draws.

    Example:
        >>> from pyro_idvae.infer.interrupts import common
        >>> common(["abcd", "efg", "h", ""])
        ['abc', 'efg']
    """
    lengths = sorted(map(len, chains), reverse=True)
    _, length = max((number * length, length) for number, length in enumerate(lengths, 1))
    return [chain[:length] for chain in chains if len(chain) >= length]


class Steps:
    """What is computed of draws after the sampling, and what of it an interrupt leaves out.

    The first interrupt, which may have ended the sampling, is taken: what is needed is computed
    all the same, what is only wanted is not. The second is raised.

    Args:
        program: the model, put back as it was after an interrupt.
        interrupted: whether the first interrupt has been; None if each is to be raised.
    """

    def __init__(self, program: Any = None, interrupted: bool | None = None) -> None:
        self.program, self.raises = program, interrupted is None
        self.interrupted = bool(interrupted)
        self.left_out: list[str] = []

    def needed(self, step: Callable[[], Found]) -> Found:
        """Return what a step gives; an interrupt begins it again."""
        if not (self.raises or self.interrupted):
            try:
                with as_found(self.program):
                    return step()
            except KeyboardInterrupt:
                self.interrupted = True
        return step()

    def wanted(self, what: str, step: Callable[[], Found], otherwise: Found) -> Found:
        """Return what a step gives, or something else once there was an interrupt."""
        if self.raises:
            return step()
        if not self.interrupted:
            try:
                with as_found(self.program):
                    return step()
            except KeyboardInterrupt:
                self.interrupted = True
        self.left_out.append(what)
        return otherwise
