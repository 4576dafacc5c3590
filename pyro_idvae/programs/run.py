# SPDX-License-Identifier: Apache-2.0
"""Running a model and a guide, whatever callables they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_idvae.errors import (
    ArgumentError,
    ConvergenceError,
    DataError,
    NoCertificateError,
    SiteMismatchError,
)
from pyro_idvae.programs.arguments import Arguments, named_arguments, tensors_of

Program = Callable[..., Any]
"""A Pyro model or guide: any callable."""

TYPED = (ArgumentError, ConvergenceError, DataError, NoCertificateError, SiteMismatchError)
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a program may raise on data that it was not written for."""


def modules_of(*programs: Any) -> list[nn.Module]:
    """Return those of the programs that are modules."""
    return [program for program in programs if isinstance(program, nn.Module)]


def owners_of(*programs: Any) -> list[nn.Module]:
    """Return the modules behind programs: themselves, or whose bound methods they are."""
    # Pyro's own examples pass methods of a module as model and guide.
    return modules_of(*(getattr(program, "__self__", program) for program in programs))


def run_pair(model: Program, guide: Program | None, arguments: Arguments) -> tuple[Any, Any]:
    """Run the guide, then the model on the guide's draws; return both traces."""
    args, kwargs = arguments
    if guide is None:
        return poutine.trace(model).get_trace(*args, **kwargs), None
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    replayed = poutine.replay(model, trace=guide_trace)
    return poutine.trace(replayed).get_trace(*args, **kwargs), guide_trace


def dry_run(model: Program, guide: Program | None, arguments: Arguments) -> tuple[Any, Any]:
    """Run both as :func:`run_pair` does, without gradients and in evaluation mode."""
    with torch.no_grad(), evaluating(model, guide):
        return run_pair(model, guide, arguments)


@contextmanager
def evaluating(*programs: Any) -> Iterator[None]:
    """Put modules in evaluation mode; each of their parts gets its own mode back."""
    modules = owners_of(*programs)
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def frozen(program: Program) -> Iterator[None]:
    """Hold a module's parameters constant, for sampling latents."""
    wanted = [p for module in modules_of(program) for p in module.parameters() if p.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def silent(program: Program) -> Iterator[None]:
    """Run a model with its parameters held constant, in evaluation mode, unvalidated."""
    with frozen(program), evaluating(program), pyro.validation_enabled(False):
        yield


def undisturbed(arguments: Arguments) -> AbstractContextManager[None]:
    """Leave the random state of the data's devices as it was found."""
    devices = sorted({t.device.index for t in tensors_of(arguments) if t.is_cuda})
    context: AbstractContextManager[None] = torch.random.fork_rng(devices=devices)
    return context


@contextmanager
def explained(role: str, arguments: Arguments) -> Iterator[None]:
    """Say of an error in a program's first run which data it was run on.

    Args:
        role: what messages call the program.
        arguments: the data.

    Raises:
        ArgumentError: from the program's own error, unless that is one of ours.
    """
    try:
        yield
    except TYPED:
        raise
    except FAILURES as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise ArgumentError(
            f"{role} cannot be run on {describe(arguments)}: {type(error).__name__}: {reason}. "
            "Pass data of the shapes and types that it was written for"
        ) from error


def describe(arguments: Arguments) -> str:
    """Return what the arguments are, for messages: types and shapes by name."""
    parts = []
    for name, value in named_arguments(arguments).items():
        if isinstance(value, Tensor):
            kind = str(value.dtype).removeprefix("torch.")
            parts.append(f"{name} of shape {tuple(value.shape)} and type {kind}")
        else:
            parts.append(f"{name}, a {type(value).__name__}")
    return ", ".join(parts) or "nothing"


@contextmanager
def gradients() -> Iterator[None]:
    """Let gradients be recorded, whatever context the caller is in; also a decorator."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
