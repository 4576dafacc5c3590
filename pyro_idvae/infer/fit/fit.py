# SPDX-License-Identifier: Apache-2.0
"""Stochastic variational inference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyro
import torch
from pyro.optim import PyroOptim

from pyro_idvae._checks import check_path
from pyro_idvae._precision import training_precision
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.enumerated import check_enumeration
from pyro_idvae.infer.fit.batches import TensorBatches, check_batches, split_data
from pyro_idvae.infer.fit.callbacks import Callbacks
from pyro_idvae.infer.fit.checkpoints import Checkpoints
from pyro_idvae.infer.fit.identity import data_identity, model_identity
from pyro_idvae.infer.fit.loop import train
from pyro_idvae.infer.fit.objective import check_objective, chosen, described, prepare
from pyro_idvae.infer.fit.optimizers import OptimizerFactory, SchedulerFactory
from pyro_idvae.infer.fit.options import FitOptions
from pyro_idvae.infer.fit.pair import PairTensors
from pyro_idvae.infer.fit.preparation import (
    alike,
    at_first,
    check_together,
    claimed,
    make_optimizer,
    newest_of,
    others_left_alone,
    together,
)
from pyro_idvae.infer.fit.result import FitResult
from pyro_idvae.infer.fit.run import Run
from pyro_idvae.infer.fit.trainer import Trainer
from pyro_idvae.infer.objectives.weighted import innermost, tell
from pyro_idvae.infer.ranks import first_finds
from pyro_idvae.programs.door import where_weights_are
from pyro_idvae.programs.plates import subsampled_size
from pyro_idvae.programs.run import Program, gradients


@gradients()
def fit(
    model: Program,
    guide: Program,
    data: Any,
    *,
    elbo: Any = None,
    objective: Any = None,
    optimizer: OptimizerFactory | PyroOptim | None = None,
    scheduler: SchedulerFactory | None = None,
    num_epochs: int = 100,
    batch_size: int | None = None,
    accumulate: int = 1,
    validation: Any = None,
    patience: int | None = None,
    restore_best: bool = True,
    kl_warmup: int = 0,
    max_grad_norm: float | None = 100.0,
    callbacks: Sequence[Any] = (),
    seed: int | None = None,
    progress: bool = True,
    resume: FitResult | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int = 1,
    keep: int = 3,
) -> FitResult:
    r"""Fit model and guide by stochastic variational inference.

    The objective is the negative ELBO *per data point*, in nats, or a remedy for posterior collapse
    in its place, so learning rates and ``max_grad_norm`` do not depend on the batch size. A batch
    of B of N rows stands for all: this is the ELBO of a plate of size N with the batch's sites
    scaled by N/B, divided by N. It needs every site inside the plate and a guide that reads the
    data; anything else raises. A model that subsamples a plate itself is left alone.

    Parts in evaluation mode stay so, and parameters that do not require grad stay as they are.

    Any callable model and guide will do: Pyro functions, ``PyroModule`` objects, autoguides.

    Ctrl-C ends the fit after the step under way: what the epoch had done is undone, the best
    parameters are restored, and ``result.interrupted`` says so. Ctrl-C again raises
    ``KeyboardInterrupt``.

    Args:
        model: the model, called with a batch's arguments.
        guide: the guide, called the same way.
        data: a Tensor; a tuple (positional) or dict (keyword) of arguments with the same number of
            rows; a ``Dataset`` or a ``DataLoader`` of such.
        elbo: a Pyro ELBO; ``Trace_ELBO()`` by default.
        objective: a remedy for posterior collapse instead: a name, such as ``"free_bits"``, or one
            made by :func:`make_objective`. It begins anew unless the fit goes on.
        optimizer: a function of the parameters, e.g. ``partial(torch.optim.Adam, lr=1e-3)`` (the
            default), or a ``pyro.optim`` optimiser.
        scheduler: a function of torch's optimiser that returns a schedule, e.g.
            ``partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.99)``; stepped after each
            epoch, as those of ``pyro.optim`` are.
        num_epochs: passes over the data: further ones with ``resume``, all of them with
            ``checkpoint``.
        batch_size: rows a batch; None for all. A ``DataLoader`` has its own.
        accumulate: batches whose gradients make one step: what fits memory is a batch, what is
            stepped on is ``accumulate`` of them.
        validation: a share of the rows between 0 and 1, or data like ``data``.
        patience: stop after this many epochs without a better validation loss.
        restore_best: end with the parameters of the epoch with the best validation loss.
        kl_warmup: epochs over which the weight of the latents' KL rises linearly to 1.
        max_grad_norm: longer gradients are shortened to this; None for never.
        callbacks: called on every step, on every epoch and at the end: :class:`Callback`,
            :class:`StopOnPlateau`.
        seed: seed of Pyro's and torch's random numbers and of the batches. The states of numpy's
            and Python's generators are put back at the end.
        progress: show a progress bar with the ELBO and KL per data point.
        resume: an earlier result of the same pair, to go on from its last epoch with its optimiser
            and random numbers: ten epochs are five and five, bit for bit.
        checkpoint: a folder to keep the fit in. A fit that is there already, of the same model,
            data and options, goes on: with the parameters and losses of one that was never ended,
            bit for bit. SIGTERM writes a checkpoint, of the last whole epoch, and ends the
            process.
        every: epochs from one checkpoint to the next.
        keep: checkpoints kept: the newest.

    Returns:
        A :class:`FitResult`; the parameters are changed in place.

    Raises:
        DataError: for data that are empty or not finite.
        ShapeError: for observations of another shape than their distribution.
        SiteMismatchError: if the guide's sites are not the model's.
        NonFiniteLossError: at the first loss or gradient that is not finite; the parameters are
            those of the last good step.
        CheckpointError: if the folder cannot be written to, is in use, or holds a fit of another
            model, data or options.
        ArgumentError: for an argument out of range, a site outside the plate of a minibatch, a
            guide that cannot run on other rows, sites to enumerate under an ELBO that does not, two
            modules under one parameter name, or ``elbo`` with ``objective``.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(100, 5)
        >>> result = idvae.fit(vae.model, vae.guide, x, num_epochs=3, seed=0, progress=False)
        >>> result.num_epochs
        3
        >>> idvae.fit(
        ...     vae.model, vae.guide, x, num_epochs=2, resume=result, progress=False
        ... ).num_epochs
        5
    """
    options = FitOptions(
        num_epochs=num_epochs,
        batch_size=batch_size,
        patience=patience,
        restore_best=restore_best,
        kl_warmup=kl_warmup,
        max_grad_norm=max_grad_norm,
        seed=seed,
        progress=progress,
        every=every,
        keep=keep,
        accumulate=accumulate,
    )
    called = Callbacks(callbacks)
    elbo = chosen(elbo, objective, kl_warmup)
    folder = None if checkpoint is None else check_path("checkpoint", checkpoint)
    check_together(options, validation, resume, checkpoint)
    if resume is not None and resume.state is not None:
        check_objective(elbo, resume.state.objective, "resume")
    base_seed = resume.state.seed if resume is not None and resume.state is not None else seed or 0
    whole, held_out = split_data(data, batch_size, validation, base_seed)
    train_on = whole.shared()
    for batches in (train_on, held_out):
        if batches is not None:
            check_batches(model, guide, batches)
    first = where_weights_are(train_on.first(), model, guide)
    with (
        training_precision(),
        others_left_alone(any(given is not None for given in (seed, resume, checkpoint))),
    ):
        if seed is not None:
            pyro.set_rng_seed(seed)
        claim = claimed(model, guide, train_on, held_out, first)
        check_enumeration(innermost(elbo), claim.model_trace, claim.guide_trace)
        prepare(elbo, model, guide, first)
        tell(elbo, "attach", train_on.arguments if isinstance(train_on, TensorBatches) else first)
        if resume is None:
            tell(elbo, "restart")
        trained = {name: p for name, p in claim.parameters.items() if p.requires_grad}
        if not trained:
            raise ArgumentError("model and guide have no parameters: there is nothing to fit")
        named = make_optimizer(trained, optimizer, scheduler, resume)
        pair = PairTensors(model, guide, claim.parameters)
        exchange = together(claim.model_trace, base_seed)
        alike(exchange, pair)
        trainer = Trainer(
            model,
            guide,
            elbo=elbo,
            optimizer=named,
            max_grad_norm=max_grad_norm,
            parameters=trained,
            full_size=subsampled_size(claim.model_trace),
            accumulate=accumulate,
            exchange=exchange,
        )
        generator = torch.Generator().manual_seed(base_seed)
        run = Run(trainer, pair, train_on, held_out, called, base_seed, generator)
        if resume is not None:
            run.go_on(resume, "resume")
        if folder is None:
            end = run.result.num_epochs + num_epochs
            train(run, options, end, None)
            alike(exchange, pair)
            return run.result
        identity = {
            "pair": model_identity(pair, claim, model, guide),
            "data": data_identity(train_on),
            "validation": data_identity(held_out),
            "elbo": described(elbo.elbo if kl_warmup else elbo),
            **named.described(),
            **options.described(),
        }
        with at_first(exchange, partial(Checkpoints, folder, keep, identity)) as checkpoints:
            found, probed = first_finds(partial(newest_of, checkpoints))
            if found is not None:
                run.go_on(found, str(folder), probed=probed)
            train(run, options, num_epochs, checkpoints, terminate=True)
        alike(exchange, pair)
        return run.result
