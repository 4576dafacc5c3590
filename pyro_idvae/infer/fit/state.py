# SPDX-License-Identifier: Apache-2.0
"""A fit between two epochs: all that the next one depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pyro_idvae.errors import CheckpointError
from pyro_idvae.infer.fit.container import WEIGHTS
from pyro_idvae.infer.fit.random_state import RandomState, from_text, to_text
from pyro_idvae.infer.fit.saving import BEST, prefixed, section
from pyro_idvae.infer.fit.trees import copied, pack, unpack

STATE = "state/"


@dataclass(frozen=True, eq=False)
class FitState:
    """What a fit goes on from.

    Attributes:
        weights: the pair's tensors after the last epoch, by name.
        best: those after the epoch with the best validation loss; empty without validation.
        optimizer: the state of the optimiser and its schedule, by parameters' names.
        objective: the state of the objective.
        callbacks: the states of the callbacks.
        random: of the global generators.
        order: of the generators that shuffle the data.
        seed: that splits the data and draws the validation's random numbers.
        steps: of the optimiser, so far.
        epochs: done.
        probe: the loss of some rows under the pair's weights, with the random numbers of one seed;
            None for a loader, whose rows come in its own order.
    """

    weights: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: Any
    objective: Any
    callbacks: list[Any]
    random: RandomState
    order: list[Tensor]
    seed: int
    steps: int
    epochs: int
    probe: float | None

    def copy(self) -> FitState:
        """Return one whose optimiser's tensors may be changed; weights are only ever read."""
        return replace(
            self,
            optimizer=copied(self.optimizer),
            objective=copied(self.objective),
            callbacks=copied(self.callbacks),
        )

    def as_content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return this as tensors and JSON."""
        tensors = prefixed(WEIGHTS, self.weights) | prefixed(BEST, self.best)
        parts = {
            name: pack(f"{STATE}{name}", getattr(self, name), tensors)
            for name in ("optimizer", "objective", "callbacks")
        }
        said = {
            **parts,
            "random": self.random.as_json(),
            "order": [to_text(state) for state in self.order],
            "seed": self.seed,
            "steps": self.steps,
            "epochs": self.epochs,
            "probe": self.probe,
        }
        return tensors, said

    @classmethod
    def from_content(cls, tensors: dict[str, Tensor], said: Mapping[str, Any]) -> FitState:
        """Return what :meth:`as_content` made tensors and JSON of."""
        try:
            return cls(
                weights=section(WEIGHTS, tensors),
                best=section(BEST, tensors),
                optimizer=unpack(said["optimizer"], tensors),
                objective=unpack(said["objective"], tensors),
                callbacks=unpack(said["callbacks"], tensors),
                random=RandomState.from_json(said["random"]),
                order=[from_text(text) for text in said["order"]],
                seed=said["seed"],
                steps=said["steps"],
                epochs=said["epochs"],
                probe=said["probe"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the state of the fit cannot be read: {error!r}") from error
