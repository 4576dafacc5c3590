# SPDX-License-Identifier: Apache-2.0
"""Stochastic variational inference: the fit loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor
from tqdm.auto import tqdm

from pyro_idvae import _upstream
from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.fit.batches import Batches, check_batches, split_data
from pyro_idvae.infer.fit.result import FitResult
from pyro_idvae.infer.fit.trainer import Snapshot, Trainer
from pyro_idvae.programs.arguments import row_count
from pyro_idvae.programs.parameters import claim_parameters
from pyro_idvae.programs.plates import check_amortised, check_minibatch, subsampled_size
from pyro_idvae.programs.run import Program, modules_of
from pyro_idvae.programs.sites import check_sites

OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


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
    every site inside the plate and a guide that reads the data; anything else raises. A model that
    subsamples a plate itself is left alone.

    Parts in evaluation mode stay so, and parameters that do not require grad stay as they are.

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
        ArgumentError: for an argument out of range, a site outside the plate of a minibatch, a
            guide that cannot run on other rows, or two modules under one parameter name.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(100, 5)
        >>> result = idvae.fit(vae.model, vae.guide, x, num_epochs=3, seed=0, progress=False)
        >>> result.num_epochs
        3
    """
    _check_options(num_epochs, kl_warmup, max_grad_norm, patience, validation)
    base_seed = 0 if seed is None else check_count("seed", seed, minimum=0)
    train, held_out = split_data(data, batch_size, validation, base_seed)
    like = next((p for m in modules_of(model, guide) for p in m.parameters()), None)
    for batches in (train, held_out):
        if batches is not None:
            check_batches(model, batches, like)
    first = train.first()
    if seed is not None:
        pyro.set_rng_seed(seed)
    own = [p for m in modules_of(model, guide) for p in m.parameters()]
    held_fixed = [p for p in own if not p.requires_grad]
    parameters, model_trace, guide_trace, _ = claim_parameters(model, guide, first)
    for fixed in held_fixed:
        fixed.requires_grad_(False)  # Pyro's store makes what it holds trainable
    check_sites(model_trace, guide_trace)
    full_size = subsampled_size(model_trace)
    if row_count(first) < train.num_rows and full_size is None:
        check_minibatch(model, guide, first, model_trace, train.num_rows)
    elif held_out is not None and full_size is None:
        check_amortised(model, guide, first)
    result = resume or FitResult()
    result.parameters = {name: p for name, p in parameters.items() if p.requires_grad}
    result.stopped_early = False
    if not result.parameters:
        raise ArgumentError("model and guide have no parameters: there is nothing to fit")
    if resume is None:
        result.optimizer = _make_optimizer(optimizer, list(result.parameters.values()))
    else:
        _check_resume(result, optimizer)
    if seed is not None:
        pyro.set_rng_seed(seed)
    trainer = Trainer(
        model,
        guide,
        elbo=elbo or Trace_ELBO(),
        optimizer=result.optimizer,
        max_grad_norm=max_grad_norm,
        result=result,
        full_size=full_size,
    )
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
    return result


def _check_options(
    num_epochs: int,
    kl_warmup: int,
    max_grad_norm: float | None,
    patience: int | None,
    validation: Any,
) -> None:
    check_count("num_epochs", num_epochs)
    check_count("kl_warmup", kl_warmup, minimum=0)
    if max_grad_norm is not None:
        check_real("max_grad_norm", max_grad_norm, above=0.0)
    if patience is not None:
        check_count("patience", patience)
        if validation is None:
            raise ArgumentError("patience needs validation: pass a share such as validation=0.1")


def _check_resume(result: FitResult, optimizer: Any) -> None:
    """Raise unless the result's optimiser has the parameters that are to be trained."""
    if optimizer is not None:
        raise ArgumentError("resume goes on with its own optimiser: leave out optimizer")
    old = result.optimizer
    if isinstance(old, PyroOptim):
        known = {id(parameter) for parameter in _upstream.optimized_tensors(old)}
    else:
        known = {id(p) for group in getattr(old, "param_groups", []) for p in group["params"]}
    missing = sorted(name for name, p in result.parameters.items() if id(p) not in known)
    if missing:
        raise ArgumentError(
            f"resume: its optimiser does not have the parameters {missing}: it is the result of "
            "another pair, or the parameter store was cleared since. Fit without resume"
        )


def _run(
    trainer: Trainer,
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
    bar = tqdm(range(done, done + num_epochs), desc="fit", unit="epoch", disable=not progress)
    try:
        for epoch in bar:
            weight = 1.0 if kl_warmup == 0 else min(1.0, (epoch + 1) / kl_warmup)
            result.losses.append(trainer.epoch(train, weight, generator))
            result.kl.append(trainer.kl())
            shown = {"ELBO": f"{-result.losses[-1]:.2f}", "KL": f"{result.kl[-1]:.2f} nats"}
            if held_out is None:
                result.best_epoch = epoch
                bar.set_postfix(shown)
                continue
            validation = trainer.validate(held_out, seed)
            result.validation_losses.append(validation)
            bar.set_postfix({**shown, "validation ELBO": f"{-validation:.2f}"})
            if validation < best:
                best, result.best_epoch = validation, epoch
                best_snapshot.take()
            elif patience is not None and epoch - max(result.best_epoch, done - 1) >= patience:
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
