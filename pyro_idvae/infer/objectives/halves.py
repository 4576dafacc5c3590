# SPDX-License-Identifier: Apache-2.0
"""Which parameters are the guide's, and which are the model's alone; gradients for some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_idvae.infer.objectives.run import run_guide, run_model
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program, evaluating, modules_of, undisturbed


class Halves:
    """The parameters of a pair: those that the guide has, and those that the model alone has.

    Those of modules are known by themselves, those of ``pyro.param`` and ``pyro.module`` statements
    by their names in the store, found out by a run of both.

    Args:
        model: the model.
        guide: its guide.
        arguments: to run them on.
    """

    def __init__(self, model: Program, guide: Program, arguments: Arguments) -> None:
        with torch.no_grad(), poutine.block(), undisturbed(arguments), evaluating(model, guide):
            with poutine.trace(param_only=True) as of_guide:
                guide_trace = run_guide(guide, arguments)
            with poutine.trace(param_only=True) as of_model:
                run_model(model, guide_trace, arguments)
        self._names = list(of_guide.trace.nodes), list(of_model.trace.nodes)
        self._modules = modules_of(guide), modules_of(model)

    def of_guide(self) -> list[Tensor]:
        """Return the parameters of the guide as they are now, unconstrained."""
        return _distinct(self._names[0], self._modules[0])

    def of_model(self) -> list[Tensor]:
        """Return those of the model alone."""
        shared = {id(p) for p in self.of_guide()}
        return [p for p in _distinct(self._names[1], self._modules[1]) if id(p) not in shared]


def _distinct(names: list[str], modules: list[nn.Module]) -> list[Tensor]:
    stored = dict(pyro.get_param_store().named_parameters())
    found = [stored[name] for name in names if name in stored]
    found += [p for module in modules for p in module.parameters()]
    return list({id(p): p for p in found if p.requires_grad}.values())


def for_some(loss: Tensor, wanted: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Return the same loss with gradients in some parameters only.

    Args:
        loss: with gradients in all.
        wanted: those that are to have one.
        others: those that are to have none: not even zeros, of which an optimiser with momentum
            would make a step.
    """
    for parameter in others:
        parameter.grad = None
    slopes = torch.autograd.grad(loss, list(wanted), allow_unused=True)
    value: Any = loss.detach()
    for parameter, slope in zip(wanted, slopes, strict=True):
        if slope is not None:
            part = (parameter * slope).sum()
            value = value + (part - part.detach())
    return value  # type: ignore[no-any-return]
