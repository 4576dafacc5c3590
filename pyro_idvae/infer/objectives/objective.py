# SPDX-License-Identifier: Apache-2.0
"""What the remedies have in common: an ELBO of Pyro's, made of one formula."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pyro.infer import Trace_ELBO, is_validation_enabled
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae._abstract import AbstractOrFinal, may_override, must_write
from pyro_idvae._checks import check_count
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.run import Run, particles, run_guide, run_model
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program


class Objective(AbstractOrFinal, Trace_ELBO):
    r"""A loss of runs of model and guide, for :func:`fit`, Pyro's ``SVI`` and ``ELBOModule``.

    A subclass writes :meth:`of_run`, with gradients along the guide's draws: all of them must be
    reparametrised. KLs are in closed form where there is one. Sums heed each site's scale, so a
    minibatch stands for all data as under Pyro's ELBOs.

    ``loss_and_grads`` is a training step, and so is ``differentiable_loss`` where gradients are
    recorded: schedules and multipliers move on. ``loss`` evaluates: they stay as they are.

    Args:
        num_particles: draws of the guide, over which the loss is averaged.
        vectorize_particles: whether they are made side by side, in a plate left of all others.
        max_plate_nesting: how deeply plates nest; found by a run if it is needed.

    Attributes:
        exempt: laws of :class:`ObjectiveTestCase` that the objective does not obey, and why.
    """

    exempt: Mapping[str, str] = {}

    def __init__(
        self,
        *,
        num_particles: int = 1,
        vectorize_particles: bool = False,
        max_plate_nesting: float = math.inf,
    ) -> None:
        if not isinstance(vectorize_particles, bool):
            raise ArgumentError(f"vectorize_particles={vectorize_particles!r}: expected a bool")
        if max_plate_nesting != math.inf:
            check_count("max_plate_nesting", max_plate_nesting, minimum=0)
        super().__init__(  # type: ignore[no-untyped-call]
            num_particles=check_count("num_particles", num_particles),
            vectorize_particles=vectorize_particles,
            max_plate_nesting=max_plate_nesting,
        )

    @must_write
    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the loss of a run, in nats, of all data that the batch stands for.

        Args:
            run: of the pair.
            training: whether a step is taken by it.
        """
        raise NotImplementedError

    @may_override
    def of_runs(self, runs: Sequence[Run], *, training: bool) -> Tensor:
        """Return the loss of all particles' runs: their mean."""
        total: Any = sum(self.of_run(run, training=training) for run in runs)
        return total / self.num_particles  # type: ignore[no-any-return]

    @may_override
    def runs(
        self, model: Program, guide: Program, arguments: Arguments, *, training: bool
    ) -> Iterator[Run]:
        """Yield the runs that the loss is made of."""
        for one_model, one_guide in particles(self, model, guide, arguments):
            yield self.run_on(one_model, one_guide, arguments, run_guide(one_guide, arguments))

    @may_override
    def advance(self, runs: Sequence[Run]) -> None:
        """Move schedules and multipliers on, after the loss of a training step."""

    @may_override
    def restart(self) -> None:
        """Forget all steps: :func:`fit` does it where it does not go on."""

    @may_override
    def state_dict(self) -> dict[str, Any]:
        """Return what changes from step to step: numbers and tensors."""
        return {}

    @may_override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state_dict` returned."""

    @may_override
    def attach(self, arguments: Arguments) -> None:
        """Take note of the training data: :func:`fit` passes them before the first step."""

    @may_override
    def trained_guide(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Program:
        """Return the guide that was trained, to be judged: the one given, unless others are used.

        Args:
            model: the model.
            guide: the guide that was passed to the objective.
            *args: the training data, for objectives whose guide depends on all of them.
            **kwargs: the same, by name.
        """
        return guide

    def run_on(self, model: Program, guide: Program, arguments: Arguments, guide_trace: Any) -> Run:
        """Run the model on a run of the guide."""
        model_trace = run_model(model, guide_trace, arguments)
        return Run(model, guide, arguments, guide_trace, model_trace, type(self).__name__)

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Return the loss, without gradients and without a step."""
        with torch.no_grad():
            return self._total(model, guide, (args, kwargs), training=False).item()

    def differentiable_loss(
        self, model: Program, guide: Program, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the loss as a tensor; it counts as a step where gradients are recorded."""
        return self._total(model, guide, (args, kwargs), training=torch.is_grad_enabled())

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Return the loss, its gradients in the parameters."""
        loss = self._total(model, guide, (args, kwargs), training=True)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return loss.item()

    def _total(
        self, model: Program, guide: Program, arguments: Arguments, *, training: bool
    ) -> Tensor:
        runs = list(self.runs(model, guide, arguments, training=training))
        loss = self.of_runs(runs, training=training)
        if is_validation_enabled():
            for run in runs:
                _upstream.check_traces(run.model_trace, run.guide_trace, self.max_plate_nesting)
        if training:
            self.advance(runs)
        return loss


def options_of(objective: Any) -> dict[str, Any]:
    """Return the options of an objective in JSON: its numbers and words, no state.

    Args:
        objective: one of ours, or another ELBO.
    """
    found: dict[str, Any] = {}
    state = objective.state_dict() if hasattr(objective, "state_dict") else {}
    for name, value in vars(objective).items():
        if name.startswith("_") or name in state:
            continue
        if isinstance(value, Tensor) and value.dim() == 0:
            found[name] = float(value)
        elif isinstance(value, (bool, int, float, str)):
            found[name] = value
        elif hasattr(value, "loss_and_grads"):
            found[name] = f"{type(value).__name__} {options_of(value)}"
        elif name == "schedule":
            found[name] = repr(value) if hasattr(value, "__dataclass_fields__") else _name(value)
    return dict(sorted(found.items()))


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
