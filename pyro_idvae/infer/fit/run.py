# SPDX-License-Identifier: Apache-2.0
"""A fit under way, and its state between two epochs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError, CheckpointError
from pyro_idvae.infer.fit.batches import Batches, LoaderBatches
from pyro_idvae.infer.fit.callbacks import Callbacks
from pyro_idvae.infer.fit.objective import load_objective, objective_state
from pyro_idvae.infer.fit.pair import PairTensors
from pyro_idvae.infer.fit.random_state import RandomState
from pyro_idvae.infer.fit.result import FitResult
from pyro_idvae.infer.fit.state import FitState
from pyro_idvae.infer.fit.trainer import Trainer
from pyro_idvae.infer.fit.trees import copied

PROBE_TOLERANCE = 1e-4
"""By which losses of one pair may differ, relative to themselves."""


@dataclass
class Run:
    """A fit under way.

    Attributes:
        trainer: takes steps.
        pair: the tensors that are trained, and those that go with them.
        train: the training data.
        held_out: the validation data, or None.
        callbacks: of the user.
        seed: that splits the data and draws the validation's random numbers.
        generator: shuffles the training data.
        best: the pair's tensors after the best epoch; empty without validation.
        since: no epoch before this one counts for patience.
        result: what the fit has done.
    """

    trainer: Trainer
    pair: PairTensors
    train: Batches
    held_out: Batches | None
    callbacks: Callbacks
    seed: int
    generator: torch.Generator
    best: dict[str, Tensor] = field(default_factory=dict)
    since: int = -1

    result: FitResult = field(default_factory=FitResult)

    def __post_init__(self) -> None:
        self._adopt(self.result)

    def _adopt(self, result: FitResult) -> None:
        """Let a result be this run's."""
        optimizer = self.trainer.optimizer
        result.parameters = dict(self.trainer.parameters)
        result.optimizer, result.scheduler = optimizer.optimizer, optimizer.torch_scheduler
        self.result = self.trainer.result = result

    def go_on(self, result: FitResult, where: str, *, probed: bool = False) -> None:
        """Go on where an earlier fit ended.

        Args:
            result: of the earlier fit, with its state.
            where: what to call its place.
            probed: whether the loss under its weights must be what it was.
        """
        state = result.state
        if state is None:
            raise ArgumentError(f"{where} has no state to go on from")
        if probed:
            self.check_probe(state, where)
        self.restore(state, where)
        self._adopt(result)
        # Whoever goes on after patience ran out has new patience.
        self.since = result.num_epochs - 1 if result.stopped_early else -1
        result.stopped_early = result.interrupted = False

    @property
    def _generators(self) -> list[torch.Generator]:
        return [self.generator, *self.train.generators]

    def state(self, *, probed: bool = False) -> FitState:
        """Return what the next epoch depends on, in copies.

        Args:
            probed: whether to run the pair to know it by its loss.
        """
        return FitState(
            weights=self.pair.copy(),
            best=self.best,
            optimizer=copied(self.trainer.optimizer.state()),
            objective=copied(objective_state(self.trainer.elbo)),
            callbacks=copied(self.callbacks.state()),
            random=RandomState.now(self.trainer.devices),
            order=[generator.get_state() for generator in self._generators],
            seed=self.seed,
            steps=self.trainer.steps,
            epochs=self.result.num_epochs,
            probe=self._probe() if probed else None,
        )

    def _probe(self) -> float | None:
        if isinstance(self.train, LoaderBatches):
            return None
        return self.trainer.probe(self.train.alone().first())

    def check_probe(self, state: FitState, where: str) -> None:
        """Raise if this pair's loss under a state's weights is not what it was.

        The pair keeps its own weights.

        Raises:
            CheckpointError: for another model, guide or objective of the same shapes.
        """
        before, own = self.pair.copy(), copied(objective_state(self.trainer.elbo))
        self.pair.load(where, state.weights)
        load_objective(self.trainer.elbo, copied(state.objective))
        found = self._probe()
        self.pair.load(where, before)
        load_objective(self.trainer.elbo, own)
        if state.probe is None or found is None:
            return
        if abs(found - state.probe) > PROBE_TOLERANCE * (1 + abs(found)):
            raise CheckpointError(
                f"{where} is of another model or guide of the same shapes: under its weights the "
                f"loss of the same rows was {state.probe:.6g} nats per data point and is "
                f"{found:.6g}. Give this one a folder of its own"
            )

    def restore(self, state: FitState, where: str) -> None:
        """Go to a state.

        Args:
            state: of this run or of an equal one.
            where: what to call its place.

        Raises:
            CheckpointError: if its weights are not those of this pair.
            ArgumentError: if data or optimiser are of another kind.
        """
        if len(state.order) != len(self._generators):
            raise ArgumentError(
                f"{where} is of data shuffled by {len(state.order)} generators, these are by "
                f"{len(self._generators)}: pass a loader made in the same way"
            )
        own = state.copy()
        self.pair.load(where, own.weights)
        self.trainer.optimizer.load(own.optimizer)
        load_objective(self.trainer.elbo, own.objective)
        self.callbacks.load(own.callbacks)
        own.random.restore()
        for generator, order in zip(self._generators, own.order, strict=True):
            generator.set_state(order)
        self.best = own.best
        self.trainer.restart(own.steps)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best validation loss, from 0; −1 if there is none."""
        losses = self.result.validation_losses
        if not losses or not math.isfinite(min(losses)):
            return -1
        return self.result.num_epochs - len(losses) + losses.index(min(losses))
