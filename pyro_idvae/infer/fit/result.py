# SPDX-License-Identifier: Apache-2.0
"""What a fit leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from pyro_idvae.infer.fit.state import FitState


@dataclass
class FitResult:
    """What :func:`fit` did. Losses are negative ELBOs, or its objective's, in nats per data point.

    It can be pickled: all but ``optimizer`` and ``scheduler``, whose states are kept by the names
    of the parameters. To resume from it then, pass ``fit`` the same two.

    Attributes:
        losses: training loss of each epoch, including the KL warm-up's weight.
        validation_losses: validation loss of each epoch, with full weight; empty without one. Of an
            objective what its ``loss`` says.
        kl: KL(q ‖ p) of the latents in nats per data point after each epoch, one Monte-Carlo draw
            on the epoch's last batch.
        best_epoch: epoch, from 0, whose parameters the model has now.
        wall_time: seconds on the clock.
        cpu_time: seconds of processor time, over all threads.
        stopped_early: whether patience ran out, or a callback ended the fit.
        interrupted: whether Ctrl-C ended the fit before its last epoch.
        parameters: the unconstrained parameters, by their names in Pyro's parameter store.
        optimizer: of torch or Pyro.
        scheduler: of torch, or None.
        state: weights, optimiser and random numbers after the last epoch: what
            ``fit(..., resume=result)`` goes on from.
    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    best_epoch: int = 0
    wall_time: float = 0.0
    cpu_time: float = 0.0
    stopped_early: bool = False
    interrupted: bool = False
    parameters: dict[str, Tensor] = field(default_factory=dict, repr=False)
    optimizer: Any = field(default=None, repr=False)
    scheduler: Any = field(default=None, repr=False)
    state: FitState | None = field(default=None, repr=False)

    @property
    def num_epochs(self) -> int:
        """Epochs done."""
        return len(self.losses)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: an optimiser would bring parameters that are nobody's."""
        parameters = {name: value.detach().clone() for name, value in self.parameters.items()}
        return {**vars(self), "parameters": parameters, "optimizer": None, "scheduler": None}
