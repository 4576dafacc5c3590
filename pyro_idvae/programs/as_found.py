# SPDX-License-Identifier: Apache-2.0
"""A model, its guide and Pyro's globals, put back as they were after an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import pyro
from pyro import distributions, infer, poutine

from pyro_idvae import _upstream
from pyro_idvae._precision import full_precision
from pyro_idvae.programs.run import owners_of

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

VALIDATING = (distributions, infer, poutine)
"""The parts of Pyro that can be told to validate, or not to."""


@contextmanager
def as_found(*programs: Any) -> Iterator[None]:
    """Put back after an interrupt what may have been changed for a while.

    Modes and ``requires_grad`` of modules, the entries of Pyro's parameter store, its handlers and
    validation. Each place that changes them puts them back; but Ctrl-C may come just while it does.

    Args:
        programs: models and guides; what is no module, nor a method of one, is left alone.
    """
    store = pyro.get_param_store()
    modules = owners_of(*programs)
    modes = [(part, part.training) for module in modules for part in module.modules()]
    flags = [(p, p.requires_grad) for module in modules for p in module.parameters()]
    state, validation = store.get_state(), [part.is_validation_enabled() for part in VALIDATING]
    try:
        # A handler takes with it, when it ends by an exception, all that began after it.
        with _upstream.Handler():
            yield
    except KeyboardInterrupt:
        for part, mode in modes:
            part.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, validates in zip(VALIDATING, validation, strict=True):
            module.enable_validation(validates)
        store.clear()
        store.set_state(state)
        raise


def left_as_found(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make a function put back, after an interrupt, the programs among its arguments.

    It computes in full precision: what it draws and scores are densities.
    """

    @wraps(function)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with full_precision(), as_found(*args, *kwargs.values()):
            return function(*args, **kwargs)

    return guarded
