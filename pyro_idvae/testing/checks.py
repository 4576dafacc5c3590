# SPDX-License-Identifier: Apache-2.0
"""What the laws have in common: errors, refusals, copies, and what has parameters at all."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return max abs(found − wanted) / max abs(wanted)."""
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).abs().max() / wanted.abs().max())


def mixed_error(found: Tensor, wanted: Tensor) -> float:
    """Return max abs(found − wanted) / (1 + max abs(wanted)), for what may be 0."""
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).abs().max() / (1 + wanted.abs().max()))


def plain_function(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a bound method, which ``torch.jit.trace`` refuses."""

    def function(x: Tensor) -> Any:
        return method(x)

    return function


def check_raises(
    kinds: type[Exception] | tuple[type[Exception], ...],
    words: str,
    function: Callable[..., Any],
    *args: Any,
) -> None:
    """Fail unless ``function(*args)`` raises one of the kinds with these words in its message."""
    message = None
    try:
        function(*args)
    except kinds as error:
        message = str(error)
    assert message is not None, "bad input was accepted"
    assert words in message, message


def parameters_of(thing: object) -> list[nn.Parameter]:
    """Return the parameters of a module; none of what is no module."""
    return list(thing.parameters()) if isinstance(thing, nn.Module) else []


def in_double(thing: Any) -> Any:
    """Return a module in double precision; what is no module has none."""
    return thing.double() if isinstance(thing, nn.Module) else thing


def move_parameters(thing: object) -> None:
    """Add noise to every parameter, as an optimiser would: in place."""
    with torch.no_grad():
        for parameter in parameters_of(thing):
            parameter.add_(0.1 * torch.randn_like(parameter))


def _can_be_pickled(thing: object) -> bool:
    """Tell whether all classes can be imported: Python pickles them by name."""
    parts = thing.modules() if isinstance(thing, nn.Module) else [thing]
    for kind in map(type, parts):
        found: Any = sys.modules.get(kind.__module__)
        for name in kind.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is not kind:
            return False
    return True


def copies_of(thing: Any) -> list[Any]:
    """Return a deep copy and, unless a class lives in a function or a notebook, a pickled one."""
    copies = [copy.deepcopy(thing)]
    if _can_be_pickled(thing):
        copies.append(pickle.loads(pickle.dumps(thing)))
    return copies
