# SPDX-License-Identifier: Apache-2.0
"""Packed log densities of enumerated runs, and their contraction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from pyro.ops import packed
from pyro.ops.contract import contract_to_tensor
from pyro.ops.rings import LogRing
from torch import Tensor


class Factors:
    """The log densities of a run under ``poutine.enum``, ready to be multiplied and summed.

    Stands in for packed tensors, whose dimensions have the letters in ``_pyro_dims``, and for
    ``pyro.ops.contract``, which sums a discrete site out inside the plates it stands in.

    Args:
        trace: the run, its log densities computed.
    """

    def __init__(self, trace: Any) -> None:
        trace.pack_tensors()
        self.trace = trace
        self.terms: dict[str, Any] = {}
        self.sizes: dict[str, int] = {}
        for name, site in trace.nodes.items():
            if site["type"] != "sample":
                continue
            for frame in site["cond_indep_stack"]:
                if frame.vectorized:
                    self.sizes[trace.plate_to_symbol[frame.name]] = int(frame.size)
            factor = site["packed"]
            term = packed.scale_and_mask(factor["unscaled_log_prob"], mask=factor["mask"])
            self.terms[name] = term
            self.sizes.update(zip(term._pyro_dims, term.shape, strict=True))

    def symbol(self, name: str) -> str | None:
        """Return the letter of a site's enumerated dimension, for ``_enumerate_symbol``."""
        found: str | None = self.trace.nodes[name]["infer"].get("_enumerate_symbol")
        return found

    def depends_on(self, name: str, others: Sequence[str]) -> bool:
        """Tell whether a site's density varies with the values of enumerated sites."""
        return any(self.symbol(other) in self.terms[name]._pyro_dims for other in others)

    def _plates(self, name: str) -> frozenset[str]:
        frames = self.trace.nodes[name]["cond_indep_stack"]
        return frozenset(self.trace.plate_to_symbol[f.name] for f in frames if f.vectorized)

    def total(self, names: Sequence[str], plate: str | None) -> Tensor:
        """Return the log of the product of some sites' densities, the discrete ones summed out.

        Args:
            names: the sites; enumerated ones among them are summed out.
            plate: the plate to keep; all are multiplied out if None.

        Returns:
            A tensor of shape ``(plate size,)`` or ``()``.
        """
        tree: OrderedDict[frozenset[str], list[Any]] = OrderedDict()
        for name in names:
            tree.setdefault(self._plates(name), []).append(self.terms[name])
        summed = {symbol for symbol in map(self.symbol, names) if symbol is not None}
        kept = frozenset() if plate is None else frozenset([self.trace.plate_to_symbol[plate]])
        ring = LogRing(dim_to_size=self.sizes)
        found: Tensor = contract_to_tensor(tree, summed, target_ordinal=kept, ring=ring)
        return found

    def probabilities(self, name: str, names: Sequence[str]) -> Tensor:
        """Return p(value | the rest) of an enumerated site, of shape ``plates + (values,)``.

        The gradient of the log of a sum with respect to the log of its terms is their shares.
        """
        dims = self.terms[name]._pyro_dims
        whole = self.terms
        try:
            with torch.enable_grad():
                leaf: Any = whole[name].detach().requires_grad_()
                leaf._pyro_dims = dims
                self.terms = {**whole, name: leaf}
                (share,) = torch.autograd.grad(self.total(names, None), leaf)
        finally:
            self.terms = whole
        site = self.trace.nodes[name]
        symbol = self.symbol(name)
        share = share.movedim(dims.index(symbol), -1) if symbol in dims else share.unsqueeze(-1)
        frames = sorted((f for f in site["cond_indep_stack"] if f.vectorized), key=lambda f: f.dim)
        found: Tensor = share.reshape([*(int(f.size) for f in frames), share.shape[-1]])
        return found
