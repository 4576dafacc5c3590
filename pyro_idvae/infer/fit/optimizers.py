# SPDX-License-Identifier: Apache-2.0
"""Optimisers and schedules of both libraries, their states by the parameters' names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError

OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], Any]


class NamedOptimizer:
    """An optimiser, and perhaps its schedule, that knows its parameters by name.

    Args:
        parameters: by name.
        optimizer: a ``pyro.optim`` optimiser, one of torch's, or a function that makes one of the
            parameters; Adam with a learning rate of 1e-3 if None.
        scheduler: a function that makes a schedule of torch's optimiser, or a schedule.

    Raises:
        ArgumentError: for anything else.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        optimizer: Any,
        scheduler: Any = None,
    ) -> None:
        self.parameters = dict(parameters)
        self.optimizer = _make_optimizer(optimizer, list(parameters.values()))
        self.is_pyro = isinstance(self.optimizer, PyroOptim)
        self.scheduler = self._make_scheduler(scheduler)
        if not self.is_pyro:
            known = {id(p): name for name, p in self.parameters.items()}
            others = (
                p for g in self.optimizer.param_groups for p in g["params"] if id(p) not in known
            )
            known.update({id(p): f"other {i}" for i, p in enumerate(others)})
            self.names = known

    @classmethod
    def existing(
        cls, parameters: Mapping[str, Tensor], optimizer: Any, scheduler: Any
    ) -> NamedOptimizer:
        """Return one of an optimiser and a schedule that are there already."""
        if isinstance(optimizer, PyroOptim):
            return cls(parameters, optimizer)
        return cls(
            parameters, lambda _: optimizer, None if scheduler is None else lambda _: scheduler
        )

    def _make_scheduler(self, scheduler: Any) -> Any:
        if scheduler is None:
            return self.optimizer if isinstance(self.optimizer, PyroLRScheduler) else None
        if self.is_pyro:
            raise ArgumentError(
                "scheduler goes with an optimiser of torch: wrap one of Pyro's as pyro.optim does, "
                "e.g. pyro.optim.ExponentialLR"
            )
        if not callable(scheduler):
            raise ArgumentError(
                f"scheduler is a {type(scheduler).__name__}: pass a function of the optimiser, "
                "e.g. functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.99)"
            )
        made = scheduler(self.optimizer)
        if not callable(getattr(made, "step", None)):
            raise ArgumentError(
                f"scheduler returned a {type(made).__name__}: expected one of "
                "torch.optim.lr_scheduler"
            )
        return made

    @property
    def torch_scheduler(self) -> Any:
        """The schedule of torch's optimiser; those of Pyro are their own optimiser."""
        return None if self.is_pyro else self.scheduler

    def step(self, used: list[Tensor]) -> None:
        """Step the parameters that have gradients."""
        if self.is_pyro:
            self.optimizer(used)
        else:
            self.optimizer.step()

    def end_epoch(self, loss: float) -> None:
        """Step the schedule, if there is one.

        Args:
            loss: what a schedule that waits for a plateau is to see.
        """
        if self.scheduler is None:
            return
        kind = getattr(self.scheduler, "pt_scheduler_constructor", type(self.scheduler))
        self.scheduler.step(*([loss] if kind is ReduceLROnPlateau else []))

    def state(self) -> dict[str, Any]:
        """Return the state by parameters' names: the tensors themselves, which go on changing."""
        if self.is_pyro:
            objects = _upstream.optimizers_of(self.optimizer)
            waiting = _upstream.waiting_states(self.optimizer)
            found = {n: state for n, state in waiting.items() if n in self.parameters}
            for name, parameter in self.parameters.items():
                if parameter in objects:
                    found[name] = _pyro_state(objects[parameter])
            return {"kind": self.kind, "parameters": found}
        groups = []
        for group in self.optimizer.param_groups:
            names = [self.names[id(p)] for p in group["params"]]
            groups.append({**group, "params": names})
        found = {self.names[id(p)]: own for p, own in self.optimizer.state.items()}
        schedule = None if self.scheduler is None else self.scheduler.state_dict()
        return {
            "kind": self.kind,
            "parameters": found,
            "groups": groups,
            "scheduler": schedule,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that :meth:`state` returned.

        Args:
            state: whose tensors are not shared with anything.

        Raises:
            ArgumentError: if it is the state of another optimiser, or of other parameters.
        """
        if state["kind"] != self.kind:
            raise ArgumentError(
                f"the state is of {state['kind']}, the optimiser is {self.kind}: pass the same "
                "optimizer and scheduler"
            )
        if self.is_pyro:
            objects = _upstream.optimizers_of(self.optimizer)
            waiting = {}
            for name, own in state["parameters"].items():
                target = objects.get(self.parameters[name])
                if target is None:
                    waiting[name] = own
                else:
                    _load_pyro_state(target, own)
            for name, parameter in self.parameters.items():
                if name not in state["parameters"]:
                    objects.pop(parameter, None)  # not stepped yet, then
            self.optimizer.set_state(waiting)
            return
        index: dict[str, int] = {}
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                index[self.names[id(p)]] = len(index)
        own_groups = [
            [self.names[id(p)] for p in group["params"]] for group in self.optimizer.param_groups
        ]
        groups = state["groups"]
        if [list(group["params"]) for group in groups] != own_groups:
            raise ArgumentError(
                f"the optimiser has groups of the parameters {own_groups}, the state is of one "
                f"with {[list(group['params']) for group in groups]}: pass the same optimizer"
            )
        self.optimizer.load_state_dict(
            {
                "state": {index[name]: own for name, own in state["parameters"].items()},
                "param_groups": [
                    {**group, "params": [index[name] for name in group["params"]]}
                    for group in groups
                ],
            }
        )
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])

    @property
    def kind(self) -> str:
        """What the optimiser and its schedule are, in a word or two."""
        said = self.described()
        return " with ".join(str(said[k]) for k in ("optimizer", "scheduler") if said[k])

    def described(self) -> dict[str, Any]:
        """Return what the optimiser is, in JSON, before its first step."""
        if self.is_pyro:
            kind = self.optimizer.pt_optim_constructor
            schedule = getattr(self.optimizer, "pt_scheduler_constructor", None)
            given = self.optimizer.pt_optim_args
            options = given if isinstance(given, dict) else getattr(given, "__name__", "a function")
            more = getattr(self.optimizer, "kwargs", {})
            return {
                "optimizer": f"pyro {kind.__name__}",
                "options": str(options),
                "scheduler": None if schedule is None else f"{schedule.__name__} {more}",
            }
        options = [
            {k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups
        ]
        return {
            "optimizer": type(self.optimizer).__name__,
            "options": str(options),
            "scheduler": None if self.scheduler is None else type(self.scheduler).__name__,
        }


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
    made = optimizer(tensors)
    if not isinstance(made, torch.optim.Optimizer):
        raise ArgumentError(
            f"optimizer returned a {type(made).__name__}: expected a torch.optim optimiser"
        )
    if isinstance(made, torch.optim.LBFGS):
        raise ArgumentError(
            "optimizer is LBFGS, which evaluates a loss several times a step: pass one that needs "
            "a gradient only, e.g. functools.partial(torch.optim.Adam, lr=1e-3)"
        )
    return made


def _pyro_state(target: Any) -> dict[str, Any]:
    """Return the state of one parameter's optimiser, or of its scheduler with it."""
    if hasattr(target, "optimizer"):
        return {"scheduler": target.state_dict(), "optimizer": target.optimizer.state_dict()}
    found: dict[str, Any] = target.state_dict()
    return found


def _load_pyro_state(target: Any, state: Mapping[str, Any]) -> None:
    if hasattr(target, "optimizer"):
        target.load_state_dict(state["scheduler"])
        target.optimizer.load_state_dict(state["optimizer"])
    else:
        target.load_state_dict(state)
