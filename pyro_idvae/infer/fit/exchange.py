# SPDX-License-Identifier: Apache-2.0
"""What the processes of one fit tell each other: gradients, losses, requests to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from pyro_idvae.infer.ranks import Ranks
from pyro_idvae.infer.rowwise.stream import seed_of

LEAST_BITS = 32
"""Of the numbers that count rows."""


class Agreed(NamedTuple):
    """What all processes together come to in a step."""

    loss: float
    """Mean over data points."""
    rows: int
    stop: bool
    """Whether any process was asked to end."""


class Vectors:
    """What travels in a step: a vector of gradients for each type of numbers, one with a head.

    To begin a message takes longer than to send some thousand numbers with it.

    Args:
        tensors: the parameters.
        head: how many other numbers there are to send.
    """

    def __init__(self, tensors: Sequence[Tensor], head: int) -> None:
        types = {t.dtype for t in tensors}
        types |= set() if any(torch.finfo(t).bits >= LEAST_BITS for t in types) else {torch.float32}
        widest = max(sorted(types, key=str), key=lambda t: torch.finfo(t).bits)
        self.whole: list[Tensor] = []
        parts: dict[int, Tensor] = {}
        for dtype in sorted(types, key=str):
            own = [place for place, t in enumerate(tensors) if t.dtype == dtype]
            sizes = [tensors[place].numel() for place in own]
            sizes.append(head if dtype == widest else 0)
            vector = torch.zeros(sum(sizes), dtype=dtype, device=tensors[0].device)
            *split, last = vector.split(sizes)
            parts |= {i: part.view(tensors[i].shape) for i, part in zip(own, split, strict=True)}
            self.whole.append(vector)
            if dtype == widest:
                self.head = last
        self.parts = [parts[place] for place in range(len(tensors))]


class Exchange:
    """The processes of one fit, each with its share of each batch.

    Gradients are means over the data points of all shares; they are summed once for each step,
    whatever objective made them.

    Args:
        ranks: which process this is.
        seed: of the random numbers, which every process has its own of in each epoch.
    """

    def __init__(self, ranks: Ranks, seed: int) -> None:
        self.ranks, self.seed = ranks, seed
        self.stop = False
        self.vectors: Vectors | None = None

    def begin_epoch(self, number: int) -> None:
        """Seed torch's generators for an epoch: what follows does not depend on what was drawn."""
        torch.manual_seed(seed_of(self.seed, number, self.ranks.rank, self.ranks.size))

    def gradients(self, tensors: Sequence[Tensor], loss: float, rows: int) -> Agreed:
        """Set gradients to those of the data points of all shares.

        Args:
            tensors: with the gradients of this share, per data point of it.
            loss: of this share, per data point.
            rows: data points of this share, perhaps none.
        """
        known = [float(t.grad is not None) for t in tensors]
        # A share without rows has no loss, and is no reason for a sum that is not finite.
        said = [float(rows), loss * rows if rows else 0.0, float(self.stop), *known]
        if self.vectors is None:
            self.vectors = Vectors(tensors, len(said))
        vectors = self.vectors
        vectors.head.copy_(torch.tensor(said))
        for tensor, part in zip(tensors, vectors.parts, strict=True):
            if tensor.grad is None or not rows:
                part.zero_()
            else:
                torch.mul(tensor.grad, rows, out=part)
        for vector in vectors.whole:
            distributed.all_reduce(vector)
        total, whole, stop, *counts = vectors.head.tolist()
        for tensor, part, count in zip(tensors, vectors.parts, counts, strict=True):
            if not count:
                tensor.grad = None
            elif tensor.grad is None:
                tensor.grad = part / total
            else:
                torch.div(part, total, out=tensor.grad)
        return Agreed(whole / total, int(total), bool(stop))

    def mean(self, value: float, rows: int, like: Tensor) -> float:
        """Return the mean of a number over the data points of all shares."""
        both = torch.tensor([value * rows, float(rows)], dtype=torch.float64, device=like.device)
        distributed.all_reduce(both)
        return float(both[0] / both[1])

    def any(self, asked: bool, like: Tensor) -> bool:
        """Tell whether any process was asked for something."""
        flag = torch.tensor(float(asked), device=like.device)
        distributed.all_reduce(flag)
        return bool(flag)

    def same(self, tensors: Mapping[str, Tensor]) -> None:
        """Set tensors to those of the first process."""
        with torch.no_grad():
            for _, tensor in sorted(tensors.items()):
                whole = tensor.detach().contiguous()
                distributed.broadcast(whole, 0)
                tensor.copy_(whole)
