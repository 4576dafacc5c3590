# SPDX-License-Identifier: Apache-2.0
"""A model bound to its data in double precision, and the world left as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_idvae.programs.arguments import Arguments, tensors_of, with_tensors
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.run import Program, owners_of, undisturbed


@contextmanager
def bound_alone(model: Program, arguments: Arguments) -> Iterator[BoundModel]:
    """Bind a model in double precision, if it allows that, else in its own.

    Near settings have distances that single precision rounds to 0. The model is copied, and its
    data and parameters cast; one that holds tensors of its own elsewhere may refuse. The random
    state, the parameter store and the default type are found as they were.
    """
    state = pyro.get_param_store().get_state()
    dtype = torch.get_default_dtype()
    with undisturbed(arguments):
        # What is wrong in its own type too is raised below.
        with suppress(RuntimeError, TypeError, ValueError):
            twin, data, twins = _double_model(model), _double_data(arguments), _double_state(state)
            with _world(torch.float64, twins):
                BoundModel(twin, None, data)
            model, arguments, state, dtype = twin, data, twins, torch.float64
        with _world(dtype, state):
            yield BoundModel(model, None, arguments)


@contextmanager
def _world(dtype: torch.dtype, state: Any) -> Iterator[None]:
    """Run with a default type and a parameter store of its own."""
    before = torch.get_default_dtype()
    own: Any = {name: dict(entries) for name, entries in state.items()}
    with pyro.get_param_store().scope(own):
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def _double_model(model: Program) -> Program:
    twin = copy.deepcopy(model)
    for module in owners_of(twin):
        module.double()
    return twin


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _double_data(arguments: Arguments) -> Arguments:
    return with_tensors(arguments, tuple(map(_double, tensors_of(arguments))))


def _double_state(state: Any) -> Any:
    params = {n: _double(p.detach()).requires_grad_() for n, p in state["params"].items()}
    return {"params": params, "constraints": state["constraints"]}
