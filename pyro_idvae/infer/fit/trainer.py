# SPDX-License-Identifier: Apache-2.0
"""Epochs, steps and validation, and the way back when a loss is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from pyro_idvae import _upstream
from pyro_idvae.errors import DataError, NonFiniteLossError
from pyro_idvae.infer.fit.batches import Batches
from pyro_idvae.infer.fit.exchange import Exchange
from pyro_idvae.infer.fit.objective import non_finite_sites, sampled_kl
from pyro_idvae.infer.fit.optimizers import NamedOptimizer
from pyro_idvae.infer.fit.result import FitResult
from pyro_idvae.infer.objectives.weighted import tell
from pyro_idvae.programs.arguments import Arguments, named_arguments, placed, row_count
from pyro_idvae.programs.run import Program, evaluating

Item = TypeVar("Item")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield so many items at a time; fewer at the end."""
    rest = iter(items)
    while found := list(islice(rest, size)):
        yield found


class Snapshot:
    """A copy of the parameters to go back to."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.copies = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def take(self) -> None:
        """Remember the parameters as they are."""
        _upstream.copy_all(self.copies, self.parameters)

    @torch.no_grad()
    def restore(self) -> None:
        """Set the parameters to what is remembered."""
        _upstream.copy_all(self.parameters, self.copies)


class Trainer:
    """Takes a model and guide through epochs, and goes back when a loss is not finite.

    Args:
        model: the model.
        guide: its guide.
        elbo: a Pyro ELBO.
        optimizer: with its parameters' names.
        max_grad_norm: longer gradients are shortened to this; None for never.
        parameters: that are trained, by name.
        full_size: of a plate that the model itself subsamples; None if there is none.
        accumulate: batches of one step.
        exchange: the processes that train together; None for one.
    """

    def __init__(
        self,
        model: Program,
        guide: Program,
        *,
        elbo: Any,
        optimizer: NamedOptimizer,
        max_grad_norm: float | None,
        parameters: Mapping[str, Tensor],
        full_size: int | None,
        accumulate: int = 1,
        exchange: Exchange | None = None,
    ) -> None:
        self.model, self.guide, self.elbo = model, guide, elbo
        self.optimizer, self.max_grad_norm, self.result = optimizer, max_grad_norm, FitResult()
        self.parameters = dict(parameters)
        self.tensors = list(parameters.values())
        self.last_good = Snapshot(self.tensors)
        self.full_size, self.accumulate, self.exchange = full_size, accumulate, exchange
        self.device = self.tensors[0].device
        self.devices = sorted({t.device.index for t in self.tensors if t.is_cuda})
        self.steps = 0
        self.last_batch: Arguments = ((), {})
        self.shared_last = True

    def restart(self, steps: int) -> None:
        """Go on after so many steps, the parameters as they are now."""
        self.steps = steps
        self.last_good.take()

    def divisor(self, arguments: Arguments) -> int:
        """Return the number of data points that the ELBO of a batch stands for."""
        return self.full_size or row_count(arguments)

    def epoch(
        self,
        batches: Batches,
        number: int,
        generator: torch.Generator,
        after_step: Callable[[float], bool],
    ) -> float | None:
        """Take a step on each batch; return the mean loss per data point.

        Args:
            batches: the training data.
            number: of the epoch, from 0.
            generator: shuffles the batches.
            after_step: called with the loss of each step; tells whether to go on.

        Returns:
            The loss; None if the epoch was broken off with batches left.
        """
        total, rows, going = 0.0, 0, True
        tell(self.elbo, "begin_epoch", number)
        batches.begin_epoch(number)
        if self.exchange is not None:
            self.exchange.begin_epoch(number)
        for parts in batched(batches.batches(generator), self.accumulate):
            if not going:
                return None
            own = [placed(part, self.device) for part in parts if part is not None]
            loss, size, going = self.step(own)
            total += loss * size
            rows += size
            # Of several processes each learns at the next step what another was asked.
            going &= after_step(loss) or self.exchange is not None
        if rows == 0:
            raise DataError("data gave no batch: a loader can be gone through once each epoch")
        return total / rows

    def validate(self, batches: Batches, seed: int) -> float:
        """Return the loss on held-out data, with the same random numbers for the same seed."""
        total, rows = 0.0, 0
        with torch.random.fork_rng(devices=self.devices), evaluating(self.model, self.guide):
            torch.manual_seed(seed)
            for share in batches.batches(None):
                if share is None:
                    continue
                arguments = placed(share, self.device)
                size = self.divisor(arguments)
                loss = partial(self.loss, arguments, backward=False)
                total += size * self.guarded(arguments, loss)
                rows += size
        if self.exchange is None:
            return total / rows
        # Shares of the rows, or all of them: what follows from it is the same for all.
        return self.exchange.mean(total / rows, rows, self.tensors[0])

    def probe(self, arguments: Arguments) -> float:
        """Return a number that is another one for other programs, parameters or data."""
        with torch.random.fork_rng(devices=self.devices), evaluating(self.model, self.guide):
            torch.manual_seed(0)
            return self.loss(placed(arguments, self.device), backward=False)

    def loss(self, arguments: Arguments, *, backward: bool) -> float:
        """Return the loss of a batch per data point, leaving gradients if wanted."""
        (args, kwargs), model, guide = arguments, self.model, self.guide
        divisor = self.divisor(arguments)
        if not backward:
            with torch.no_grad():
                return float(self.elbo.loss(model, guide, *args, **kwargs)) / divisor
        for tensor in self.tensors:
            tensor.grad = None
        loss = float(self.elbo.loss_and_grads(model, guide, *args, **kwargs)) / divisor
        _upstream.divide_all([t.grad for t in self.tensors if t.grad is not None], divisor)
        return loss

    def step(self, parts: Sequence[Arguments]) -> tuple[float, int, bool]:
        """Take one optimiser step, or go back to the last good parameters and raise.

        Args:
            parts: this process's share of the batches of the step, perhaps none.

        Returns:
            The loss per data point, of how many, and whether to go on.
        """
        loss, size, going = *self.gradients(parts), True
        self.shared_last = size > 0
        arguments = self.last_batch
        if self.exchange is not None:
            loss, size, stop = self.exchange.gradients(self.tensors, loss, size)
            going = not stop
        used = [t for t in self.tensors if t.grad is not None]
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(used, limit)) if used else 0.0
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"the loss is {loss:g} and the gradient norm is {norm:g}"
            self.fail(what, self.culprits(arguments), arguments)
        self.last_good.take()
        self.optimizer.step(used)
        self.steps += 1
        return loss, size, going

    def gradients(self, parts: Sequence[Arguments]) -> tuple[float, int]:
        """Leave the gradients of some batches, per data point; return the loss, and of how many."""
        sums: list[Tensor | None] = [None] * len(self.tensors)
        total, rows = 0.0, 0
        for part in parts:
            self.last_batch = part
            loss = self.guarded(part, partial(self.loss, part, backward=True))
            size = self.divisor(part)
            if len(parts) == 1:
                return loss, size
            total, rows = total + loss * size, rows + size
            for place, tensor in enumerate(self.tensors):
                before, own = sums[place], tensor.grad
                if own is not None:
                    sums[place] = own * size if before is None else before.add_(own, alpha=size)
        for tensor, found in zip(self.tensors, sums, strict=True):
            tensor.grad = None if found is None else found / rows
        return total / max(rows, 1), rows

    def guarded(self, arguments: Arguments, function: Callable[[], float]) -> float:
        """Call a function of model and guide; go back if Pyro's checks meet bad parameters."""
        try:
            return function()
        except (ValueError, LinAlgError) as error:
            sites = self.culprits(arguments)
            if self.steps > 0 and sites != []:
                self.fail(str(error).splitlines()[0], sites, arguments, error)
            raise

    def culprits(self, arguments: Arguments) -> list[str] | None:
        """Return the sites that are not finite; None if the model cannot even be run."""
        try:
            return non_finite_sites(self.model, self.guide, arguments)
        except LinAlgError:
            return None

    def kl(self) -> float:
        """Return log q − log p of the latents per data point, from one draw of the last batch."""
        arguments = self.last_batch
        divisor = self.divisor(arguments)
        # With a small last batch a process may have had no share of it.
        counted = divisor if self.shared_last else 0
        found = self.guarded(
            arguments, lambda: sampled_kl(self.model, self.guide, arguments, divisor, self.devices)
        )
        if self.exchange is None:
            return found
        return self.exchange.mean(found, counted, self.tensors[0])

    def fail(
        self,
        what: str,
        sites: list[str] | None,
        arguments: Arguments,
        cause: Exception | None = None,
    ) -> None:
        """Restore the last good parameters and raise."""
        if self.steps > 0:
            self.last_good.restore()
        where = f"at the sites {sites}" if sites else "in the gradient or the parameters"
        bad = [
            name
            for name, value in named_arguments(arguments).items()
            if isinstance(value, Tensor) and not bool(value.isfinite().all())
        ]
        remedy = (
            f"the batch has entries that are not finite in {bad}: clean the data"
            if bad
            else "lower the learning rate, set max_grad_norm, or check the data's scale"
        )
        raise NonFiniteLossError(
            f"step {self.steps}: {what}, {where}. The parameters are those of the last finite "
            f"step: {remedy}",
            step=self.steps,
            sites=sites or [],
            result=self.result,
        ) from cause
