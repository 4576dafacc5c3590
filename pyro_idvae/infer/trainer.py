# SPDX-License-Identifier: Apache-2.0
"""One optimiser step at a time, and the way back when a loss is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from pyro_idvae.errors import NonFiniteLossError
from pyro_idvae.infer.batches import Arguments, row_count
from pyro_idvae.infer.objective import (
    kl_weight,
    non_finite_sites,
    sampled_kl,
)
from pyro_idvae.infer.programs import Program


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


class Snapshot:
    """A copy of the parameters to go back to."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.copies = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def take(self) -> None:
        """Remember the parameters as they are."""
        torch._foreach_copy_(self.copies, self.parameters)

    @torch.no_grad()
    def restore(self) -> None:
        """Set the parameters to what is remembered."""
        torch._foreach_copy_(self.parameters, self.copies)


class Trainer:
    """One run of the loop: what each step needs."""

    def __init__(
        self,
        model: Program,
        guide: Program,
        *,
        elbo: Any,
        optimizer: Any,
        max_grad_norm: float | None,
        result: FitResult,
        full_size: int | None,
    ) -> None:
        self.model, self.guide, self.elbo = model, guide, elbo
        self.optimizer, self.max_grad_norm, self.result = optimizer, max_grad_norm, result
        self.tensors = list(result.parameters.values())
        self.last_good = Snapshot(self.tensors)
        self.full_size = full_size
        self.devices = sorted({t.device.index for t in self.tensors if t.is_cuda})
        self.steps = 0

    def divisor(self, arguments: Arguments) -> int:
        """Return the number of data points that the ELBO of a batch stands for."""
        return self.full_size or row_count(arguments)

    def loss(self, arguments: Arguments, weight: float, *, backward: bool) -> float:
        """Return the −ELBO of a batch per data point, leaving gradients if wanted."""
        args, kwargs = arguments
        model, guide = kl_weight(self.model, weight), kl_weight(self.guide, weight)
        divisor = self.divisor(arguments)
        if not backward:
            with torch.no_grad():
                return float(self.elbo.loss(model, guide, *args, **kwargs)) / divisor
        for tensor in self.tensors:
            tensor.grad = None
        loss = float(self.elbo.loss_and_grads(model, guide, *args, **kwargs)) / divisor
        torch._foreach_div_([t.grad for t in self.tensors if t.grad is not None], divisor)
        return loss

    def step(self, arguments: Arguments, weight: float) -> float:
        """Take one optimiser step, or go back to the last good parameters and raise."""
        loss = self.guarded(arguments, lambda: self.loss(arguments, weight, backward=True))
        used = [t for t in self.tensors if t.grad is not None]
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(used, limit)) if used else 0.0
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"the loss is {loss:g} and the gradient norm is {norm:g}"
            self.fail(what, self.culprits(arguments))
        self.last_good.take()
        if isinstance(self.optimizer, PyroOptim):
            self.optimizer(used)
        else:
            self.optimizer.step()
        self.steps += 1
        return loss

    def guarded(self, arguments: Arguments, function: Callable[[], float]) -> float:
        """Call a function of model and guide; go back if Pyro's checks meet bad parameters."""
        try:
            return function()
        except (ValueError, LinAlgError) as error:
            sites = self.culprits(arguments)
            if self.steps > 0 and sites != []:
                self.fail(str(error).splitlines()[0], sites, error)
            raise

    def culprits(self, arguments: Arguments) -> list[str] | None:
        """Return the sites that are not finite; None if the model cannot even be run."""
        try:
            return non_finite_sites(self.model, self.guide, arguments)
        except LinAlgError:
            return None

    def kl(self, arguments: Arguments) -> float:
        """Return log q − log p of the latents per data point, from one draw of a batch."""
        divisor = self.divisor(arguments)
        return self.guarded(
            arguments, lambda: sampled_kl(self.model, self.guide, arguments, divisor, self.devices)
        )

    def fail(self, what: str, sites: list[str] | None, cause: Exception | None = None) -> None:
        """Restore the last good parameters and raise."""
        if self.steps > 0:
            self.last_good.restore()
        where = f"at the sites {sites}" if sites else "in the gradient or the parameters"
        raise NonFiniteLossError(
            f"step {self.steps}: {what}, {where}. The parameters are those of the last finite "
            "step: lower the learning rate, set max_grad_norm, or check the data's scale",
            step=self.steps,
            sites=sites or [],
            result=self.result,
        ) from cause
