# SPDX-License-Identifier: Apache-2.0
"""A function of tensors as a graph of tensor operations, split at what stays the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from pyro_idvae import _upstream

Function = Callable[..., Any]


class CapturedFunction:
    """The operations of ``function(moving, *fixed)``, recorded once.

    What depends on the fixed tensors and on parameters alone is computed once by :meth:`bind`;
    the rest is called again and again without the Python that made it.

    Args:
        function: a function of tensors without control flow that depends on their values.
        moving: an example of the tensor that changes from call to call.
        fixed: examples of the tensors that do not.
    """

    def __init__(self, function: Function, moving: Tensor, fixed: Sequence[Tensor]) -> None:
        self.traced = _upstream.record(function, moving, *fixed)
        places = [n for n in self.traced.graph.nodes if n.op == "placeholder"]
        self.inputs, self.fixed = places[0], places[1:]
        self.depends = {self.inputs}
        for node in self.traced.graph.nodes:
            if any(source in self.depends for source in node.all_input_nodes):
                self.depends.add(node)
        self.moving, self.boundary = self._moving_part()

    def _moving_part(self) -> tuple[fx.GraphModule, list[fx.Node]]:
        """Return the part that depends on the moving input, and the nodes it is fed from."""
        nodes = [n for n in self.traced.graph.nodes if n in self.depends and n is not self.inputs]
        boundary = list(
            dict.fromkeys(s for n in nodes for s in n.all_input_nodes if s not in self.depends)
        )
        graph = fx.Graph()
        known = {source: graph.placeholder(source.name) for source in [self.inputs, *boundary]}
        seen: dict[tuple[Any, str, str], fx.Node] = {}
        for node in nodes:
            if node.target is torch.ops.aten.detach.default:
                known[node] = known[node.args[0]]
                continue
            copy = graph.node_copy(node, lambda source: known[source])
            key = (copy.target, str(copy.args), str(copy.kwargs))
            if node.op == "call_function" and key in seen:
                graph.erase_node(copy)
                known[node] = seen[key]
                continue
            seen[key] = known[node] = copy
        graph.eliminate_dead_code()
        return fx.GraphModule(self.traced, graph), boundary

    @torch.no_grad()
    def bind(self, fixed: Sequence[Tensor]) -> list[Tensor]:
        """Return what the moving part is fed with besides its input."""
        values: dict[fx.Node, Any] = dict(zip(self.fixed, fixed, strict=True))
        for node in self.traced.graph.nodes:
            if node in self.depends or node.op in ("placeholder", "output"):
                continue
            if node.op == "get_attr":
                values[node] = getattr(self.traced, str(node.target))
                continue
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: values[source])
            values[node] = node.target(*args, **kwargs)
        return [values[node].detach() for node in self.boundary]
