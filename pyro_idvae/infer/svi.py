# SPDX-License-Identifier: Apache-2.0
"""Stochastic variational inference: the fit loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from tqdm.auto import tqdm

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError, NonFiniteLossError
from pyro_idvae.infer.batches import Arguments, Batches, check_batches, row_count, split_data
from pyro_idvae.infer.objective import (
    check_minibatch,
    kl_weight,
    non_finite_sites,
    sampled_kl,
    subsampled_size,
)
from pyro_idvae.infer.parameters import Program, check_sites, claim_parameters, run_pair

OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


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


class _Trainer:
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
        try:
            loss = self.loss(arguments, weight, backward=True)
        except ValueError as error:
            # Pyro's argument checks meet bad parameters before the loss does.
            self.last_or_raise(arguments, error)
            raise
        used = [t for t in self.tensors if t.grad is not None]
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(used, limit)) if used else 0.0
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.fail(arguments, f"the loss is {loss:g} and the gradient norm is {norm:g}")
        self.last_good.take()
        if isinstance(self.optimizer, PyroOptim):
            self.optimizer(used)
        else:
            self.optimizer.step()
        self.steps += 1
        return loss

    def last_or_raise(self, arguments: Arguments, error: ValueError) -> None:
        """Raise NonFiniteLossError if an error of Pyro's checks came from numbers not finite."""
        if self.steps > 0 and non_finite_sites(self.model, self.guide, arguments):
            self.fail(arguments, str(error).splitlines()[0], error)

    def fail(self, arguments: Arguments, what: str, cause: Exception | None = None) -> None:
        """Restore the last good parameters and raise."""
        sites = non_finite_sites(self.model, self.guide, arguments)
        if self.steps > 0:
            self.last_good.restore()
        where = f"at the sites {sites}" if sites else "though every site's log density is finite"
        raise NonFiniteLossError(
            f"step {self.steps}: {what}, {where}. The parameters are those of the last finite "
            "step: lower the learning rate, set max_grad_norm, or check the data's scale",
            step=self.steps,
            sites=sites,
            result=self.result,
        ) from cause


def _set_mode(programs: Iterable[Any], training: bool) -> None:
    for program in programs:
        if isinstance(program, nn.Module):
            program.train(training)


def _make_optimizer(optimizer: Any, tensors: list[Tensor]) -> Any:
    if optimizer is None:
        return torch.optim.Adam(tensors, lr=1e-3)
    if isinstance(optimizer, PyroOptim):
        return optimizer
    if isinstance(optimizer, torch.optim.Optimizer) or not callable(optimizer):
        raise ArgumentError(
            f"optimizer is a {type(optimizer).__name__}: pass a pyro.optim optimiser or a function "
            "of the parameters, e.g. functools.partial(torch.optim.Adam, lr=1e-3)"
        )
    return optimizer(tensors)


def fit(
    model: Program,
    guide: Program,
    data: Any,
    *,
    elbo: Any = None,
    optimizer: OptimizerFactory | PyroOptim | None = None,
    num_epochs: int = 100,
    batch_size: int | None = None,
    validation: Any = None,
    patience: int | None = None,
    restore_best: bool = True,
    kl_warmup: int = 0,
    max_grad_norm: float | None = 100.0,
    seed: int | None = None,
    progress: bool = True,
    resume: FitResult | None = None,
) -> FitResult:
    r"""Fit model and guide by stochastic variational inference.

    The objective is the negative ELBO *per data point*, in nats, so learning rates and
    ``max_grad_norm`` do not depend on the batch size. A batch of B of N rows stands for all: this
    is the ELBO of a plate of size N with the batch's sites scaled by N/B, divided by N. It needs
    every latent inside the plate; a latent outside raises. A model that subsamples a plate itself
    is left alone.

    Any callable model and guide will do: Pyro functions, ``PyroModule`` objects, autoguides.

    Args:
        model: the model, called with a batch's arguments.
        guide: the guide, called the same way.
        data: a Tensor; a tuple (positional) or dict (keyword) of arguments with the same number of
            rows; a ``Dataset`` or a ``DataLoader`` of such.
        elbo: a Pyro ELBO; ``Trace_ELBO()`` by default.
        optimizer: a function of the parameters, e.g. ``partial(torch.optim.Adam, lr=1e-3)`` (the
            default), or a ``pyro.optim`` optimiser.
        num_epochs: passes over the data.
        batch_size: rows a step; None for all.
        validation: a share of the rows between 0 and 1, or data like ``data``.
        patience: stop after this many epochs without a better validation loss.
        restore_best: end with the parameters of the epoch with the best validation loss.
        kl_warmup: epochs over which the weight of the latents' KL rises linearly to 1.
        max_grad_norm: longer gradients are shortened to this; None for never.
        seed: seed of Pyro's and torch's random numbers and of the batches.
        progress: show a progress bar with the ELBO and KL per data point.
        resume: an earlier result of the same pair, to go on with its optimiser.

    Returns:
        A :class:`FitResult`; the parameters are changed in place.

    Raises:
        DataError: for data that are empty or not finite.
        SiteMismatchError: if the guide's sites are not the model's.
        NonFiniteLossError: at the first loss or gradient that is not finite; the parameters are
            those of the last good step.
        ArgumentError: for an argument out of range, or a latent outside the plate.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(100, 5)
        >>> result = idvae.fit(vae.model, vae.guide, x, num_epochs=3, seed=0, progress=False)
        >>> result.num_epochs
        3
    """
    check_count("num_epochs", num_epochs)
    check_count("kl_warmup", kl_warmup, minimum=0)
    if max_grad_norm is not None:
        check_real("max_grad_norm", max_grad_norm, above=0.0)
    if patience is not None:
        check_count("patience", patience)
        if validation is None:
            raise ArgumentError("patience needs validation: pass a share such as validation=0.1")
    base_seed = 0 if seed is None else check_count("seed", seed, minimum=0)
    train, held_out = split_data(data, batch_size, validation, base_seed)
    like = next(
        (p for m in (model, guide) if isinstance(m, nn.Module) for p in m.parameters()), None
    )
    for batches in (train, held_out):
        if batches is not None:
            check_batches(model, batches, like)
    args, kwargs = train.first()
    if seed is not None:
        pyro.set_rng_seed(seed)
    # First of all: a run before this would take another model's values for this one's names.
    parameters = claim_parameters(model, guide, args, kwargs)
    with torch.no_grad():
        model_trace, guide_trace = run_pair(model, guide, args, kwargs)
    check_sites(model_trace, guide_trace)
    full_size = subsampled_size(model_trace)
    if train.batch_size < train.num_rows and full_size is None:
        check_minibatch(model_trace, train.batch_size)
    result = resume or FitResult()
    result.parameters = parameters
    result.stopped_early = False
    if not result.parameters:
        raise ArgumentError("model and guide have no parameters: there is nothing to fit")
    if result.optimizer is None:
        result.optimizer = _make_optimizer(optimizer, list(result.parameters.values()))
    if seed is not None:
        pyro.set_rng_seed(seed)
    trainer = _Trainer(
        model,
        guide,
        elbo=elbo or Trace_ELBO(),
        optimizer=result.optimizer,
        max_grad_norm=max_grad_norm,
        result=result,
        full_size=full_size,
    )
    modules = [m for m in (model, guide) if isinstance(m, nn.Module)]
    modes = [module.training for module in modules]
    try:
        _run(
            trainer,
            train,
            held_out,
            num_epochs=num_epochs,
            kl_warmup=kl_warmup,
            patience=patience,
            restore_best=restore_best,
            seed=base_seed,
            progress=progress,
        )
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
    return result


def _run(
    trainer: _Trainer,
    train: Batches,
    held_out: Batches | None,
    *,
    num_epochs: int,
    kl_warmup: int,
    patience: int | None,
    restore_best: bool,
    seed: int,
    progress: bool,
) -> None:
    result = trainer.result
    wall, cpu = time.perf_counter(), time.process_time()
    done = result.num_epochs
    best = min(result.validation_losses, default=math.inf)
    best_snapshot = Snapshot(trainer.tensors)
    generator = torch.Generator().manual_seed(seed + done)
    programs = (trainer.model, trainer.guide)
    bar = tqdm(range(done, done + num_epochs), desc="fit", unit="epoch", disable=not progress)
    try:
        for epoch in bar:
            _set_mode(programs, True)
            weight = 1.0 if kl_warmup == 0 else min(1.0, (epoch + 1) / kl_warmup)
            total, rows = 0.0, 0
            for arguments in train.batches(generator):
                size = trainer.divisor(arguments)
                total += trainer.step(arguments, weight) * size
                rows += size
            result.losses.append(total / rows)
            result.kl.append(sampled_kl(trainer.model, trainer.guide, arguments, size))
            shown = {"ELBO": f"{-result.losses[-1]:.2f}", "KL": f"{result.kl[-1]:.2f} nats"}
            if held_out is None:
                result.best_epoch = epoch
                bar.set_postfix(shown)
                continue
            _set_mode(programs, False)
            result.validation_losses.append(_validate(trainer, held_out, seed))
            bar.set_postfix({**shown, "validation ELBO": f"{-result.validation_losses[-1]:.2f}"})
            if result.validation_losses[-1] < best:
                best, result.best_epoch = result.validation_losses[-1], epoch
                best_snapshot.take()
            elif patience is not None and epoch - result.best_epoch >= patience:
                result.stopped_early = True
                break
        if held_out is not None and restore_best and math.isfinite(best):
            best_snapshot.restore()
        else:
            result.best_epoch = result.num_epochs - 1
    finally:
        bar.close()
        result.wall_time += time.perf_counter() - wall
        result.cpu_time += time.process_time() - cpu


def _validate(trainer: _Trainer, batches: Batches, seed: int) -> float:
    """Return the validation loss on the same random numbers in each epoch."""
    total, rows = 0.0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for arguments in batches.batches(None):
            size = trainer.divisor(arguments)
            total += trainer.loss(arguments, 1.0, backward=False) * size
            rows += size
    return total / rows
