# SPDX-License-Identifier: Apache-2.0
"""What a fit leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class FitResult:
    """What :func:`fit` did. Losses are negative ELBOs in nats per data point.

    Attributes:
        losses: training loss of each epoch, including the KL warm-up's weight.
        validation_losses: validation loss of each epoch, with full weight; empty without one.
        kl: KL(q ‖ p) of the latents in nats per data point after each epoch, one Monte-Carlo draw
            on the epoch's last batch.
        best_epoch: epoch, from 0, whose parameters the model has now.
        wall_time: seconds on the clock.
        cpu_time: seconds of processor time, over all threads.
        stopped_early: whether patience ran out.
        parameters: the unconstrained parameters, by their names in Pyro's parameter store.
        optimizer: for ``fit(..., resume=result)``.
    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    best_epoch: int = 0
    wall_time: float = 0.0
    cpu_time: float = 0.0
    stopped_early: bool = False
    parameters: dict[str, Tensor] = field(default_factory=dict, repr=False)
    optimizer: Any = field(default=None, repr=False)

    @property
    def num_epochs(self) -> int:
        """Epochs done."""
        return len(self.losses)
