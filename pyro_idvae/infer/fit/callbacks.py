# SPDX-License-Identifier: Apache-2.0
"""What a user may add to the loop of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.fit.result import FitResult
from pyro_idvae.programs.run import Program


@dataclass
class Progress:
    """Where a fit is. Losses are negative ELBOs, or its objective's, in nats per data point.

    Attributes:
        model: the model.
        guide: its guide.
        result: what the fit has done so far: losses, validation losses, parameters.
        num_epochs: at which the fit ends if nothing ends it before.
        kl_warmup: epochs at whose end the weight of the latents' KL is 1.
        epoch: number of the epoch under way or just done, from 0.
        step: optimiser steps done, over all epochs.
        loss: of the last step.
        stopping: whether :meth:`stop` was called.
    """

    model: Program
    guide: Program
    result: FitResult
    num_epochs: int
    kl_warmup: int
    epoch: int = 0
    step: int = 0
    loss: float = float("nan")
    stopping: bool = field(default=False, repr=False)

    def stop(self) -> None:
        """End the fit after this epoch; ``result.stopped_early`` says so."""
        self.stopping = True


class Callback:
    """Called by :func:`fit` on every step, on every epoch and at the end: write what you need.

    A callback that has ``state_dict()`` and ``load_state_dict(state)``, of numbers, strings,
    tensors and lists and dicts of them, is part of checkpoints, and of what ``resume`` goes on
    from.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> class Print(idvae.Callback):
        ...     def on_epoch(self, progress):
        ...         print("epoch", progress.epoch + 1, "of", progress.num_epochs)
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(20, 5)
        >>> options = {"num_epochs": 2, "progress": False, "callbacks": [Print()]}
        >>> _ = idvae.fit(vae.model, vae.guide, x, **options)
        epoch 1 of 2
        epoch 2 of 2
    """

    def on_step(self, progress: Progress) -> None:
        """Act after an optimiser step."""

    def on_epoch(self, progress: Progress) -> None:
        """Act after an epoch and its validation, before its checkpoint is written."""

    def on_end(self, progress: Progress) -> None:
        """Act at the end, whatever ended the fit, when the best weights have been restored."""


class Callbacks:
    """Several callbacks as one.

    Args:
        callbacks: objects with any of the methods of :class:`Callback`.

    Raises:
        ArgumentError: for one that has none of them.
    """

    METHODS = ("on_step", "on_epoch", "on_end")

    def __init__(self, callbacks: Sequence[Any]) -> None:
        if not isinstance(callbacks, (list, tuple)):
            raise ArgumentError(
                f"callbacks is a {type(callbacks).__name__}: expected a list of idvae.Callback"
            )
        for callback in callbacks:
            found = any(callable(getattr(callback, name, None)) for name in self.METHODS)
            if isinstance(callback, type) or not found:
                raise ArgumentError(
                    f"callbacks has {callback!r}: expected objects with methods {self.METHODS}, as "
                    "idvae.Callback has them"
                )
        self.callbacks = list(callbacks)

    def call(self, name: str, progress: Progress) -> None:
        """Call a method of each that has it."""
        for callback in self.callbacks:
            method = getattr(callback, name, None)
            if method is not None:
                method(progress)

    def state(self) -> list[Any]:
        """Return the state of each; None for one without."""
        return [c.state_dict() if hasattr(c, "state_dict") else None for c in self.callbacks]

    def load(self, states: Sequence[Any]) -> None:
        """Set the states, in the order of the callbacks; missing ones begin anew."""
        for callback, state in zip(self.callbacks, states, strict=False):
            if state is not None and hasattr(callback, "load_state_dict"):
                callback.load_state_dict(state)

    def described(self) -> list[str]:
        """Return what they are."""
        return [type(callback).__name__ for callback in self.callbacks]
