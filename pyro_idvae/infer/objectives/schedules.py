# SPDX-License-Identifier: Apache-2.0
"""How the weight of a KL rises with the steps."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError


@dataclass(frozen=True)
class Linear:
    r"""Rises in a line, :math:`w_t = \min(1, (t + 1)/T)`.

    Args:
        length: steps T after which the weight is 1.

    Example:
        >>> from pyro_idvae.infer.objectives import Linear
        >>> [Linear(4)(step) for step in (0, 1, 3, 9)]
        [0.25, 0.5, 1.0, 1.0]
    """

    length: int

    def __post_init__(self) -> None:
        check_count("length", self.length)

    def __call__(self, step: int) -> float:
        """Return the weight of a step, counted from 0."""
        return min(1.0, (step + 1) / self.length)


@dataclass(frozen=True)
class Cyclical:
    r"""Rises several times, each time from nothing; 1 after the last cycle.

    .. math:: w_t = \min(1, \tau/R), \qquad \tau = \frac{t + 1 - c\,T/M}{T/M},

    with c the number of whole cycles before step t.

    Args:
        length: steps T of all cycles together.
        cycles: M.
        rise: share R of a cycle in which the weight rises.

    Example:
        >>> from pyro_idvae.infer.objectives import Cyclical
        >>> [Cyclical(8, cycles=2)(step) for step in (0, 1, 3, 4, 8)]
        [0.5, 1.0, 1.0, 0.5, 1.0]

    Reference:
        Fu et al., *Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing*,
        NAACL 2019.
    """

    length: int
    cycles: int = 4
    rise: float = 0.5

    def __post_init__(self) -> None:
        check_count("length", self.length)
        check_count("cycles", self.cycles)
        if not 0.0 < check_real("rise", self.rise, above=0.0) <= 1.0:
            raise ArgumentError(f"rise={self.rise!r}: expected a share of a cycle, at most 1")
        if self.cycles > self.length:
            raise ArgumentError(
                f"cycles={self.cycles} in length={self.length}: a cycle takes a step at least; "
                "lower cycles"
            )

    def __call__(self, step: int) -> float:
        """Return the weight of a step, counted from 0."""
        if step >= self.length:
            return 1.0
        cycle = self.length / self.cycles
        share = (step % cycle + 1) / cycle
        return min(1.0, share / self.rise)
