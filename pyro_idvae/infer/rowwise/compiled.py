# SPDX-License-Identifier: Apache-2.0
"""A function of tensors and named tuples of them, compiled at its first call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from pyro_idvae import _upstream

KEPT = 64
"""Compiled functions kept for the next sampler of the same operations."""

_compiled: OrderedDict[str, Callable[..., Any]] = OrderedDict()


class Compiled:
    """Calls a function by a recording of it that ``torch.compile`` has compiled.

    A recording, as torch.compile gives up on one function compiled for many models.

    Args:
        function: of tensors, tuples of tensors and nested named tuples of them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled: Callable[..., Any] | None = None
        self.result: Any = None

    def __call__(self, *parts: Any) -> Any:
        """Call the function; its arguments must have the shapes of the first call."""
        tensors = _flat(parts)
        if self.compiled is None:
            self.compiled = self._compile(parts, tensors)
        return _built(self.result, iter(self.compiled(*tensors)))

    def _compile(self, parts: Any, tensors: list[Tensor]) -> Callable[..., Any]:
        """Return the compiled function; the same operations on the same shapes only once."""

        def flat_function(*given: Tensor) -> tuple[Tensor, ...]:
            found = self.function(*_built(parts, iter(given)))
            # Only the nesting is kept: what is recorded with is not to be held on to.
            self.result = _built(found, repeat(torch.empty(0)))
            return tuple(_flat(found))

        graph = _upstream.record(flat_function, *tensors)
        kinds = [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]
        key = f"{graph.code}{kinds}"
        closed = all(node.op != "get_attr" for node in graph.graph.nodes)
        if closed and key in _compiled:
            return _compiled[key]
        compiled: Callable[..., Any] = torch.compile(graph, dynamic=False)
        if closed:
            _compiled[key] = compiled
            while len(_compiled) > KEPT:
                _compiled.popitem(last=False)
        return compiled


def _flat(value: Any) -> list[Tensor]:
    """Return the tensors of nested tuples in order."""
    return [value] if isinstance(value, Tensor) else [t for part in value for t in _flat(part)]


def _built(like: Any, tensors: Iterator[Tensor]) -> Any:
    """Return tensors in the nesting of something else."""
    if isinstance(like, Tensor):
        return next(tensors)
    parts = [_built(part, tensors) for part in like]
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
