# SPDX-License-Identifier: Apache-2.0
"""What the processes of one fit tell each other: gradients, losses, requests to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from pyro_idvae.infer.ranks import Ranks
from pyro_idvae.infer.rowwise.stream import seed_of


class Agreed(NamedTuple):
    """What all processes together come to in a step."""

    loss: float
    """Mean over data points."""
    rows: int
    stop: bool
    """Whether any process was asked to end."""


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
        device = tensors[0].device
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in tensors]
        known = [float(t.grad is not None) for t in tensors]
        # A share without rows has no loss, and is no reason for a sum that is not finite.
        said = [float(rows), loss * rows if rows else 0.0, float(self.stop), *known]
        head = torch.tensor(said, dtype=torch.float64, device=device)
        distributed.all_reduce(head)
        total = float(head[0])
        for dtype in sorted({g.dtype for g in grads}, key=str):
            own = [g for g in grads if g.dtype == dtype]
            flat = torch.cat([g.reshape(-1) for g in own]).mul_(rows)
            distributed.all_reduce(flat)
            flat.div_(total)
            for grad, part in zip(own, flat.split([g.numel() for g in own]), strict=True):
                grad.copy_(part.reshape(grad.shape))
        for tensor, grad, count in zip(tensors, grads, head[3:].tolist(), strict=True):
            tensor.grad = grad if count else None
        return Agreed(float(head[1]) / total, int(total), bool(head[2]))

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
