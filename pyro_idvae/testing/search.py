# SPDX-License-Identifier: Apache-2.0
"""Adversarial search for the pairs of points that a map brings closest or pulls furthest apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def lipschitz_search(
    function: Callable[[Tensor], Tensor],
    dim: int,
    *,
    num_starts: int = 64,
    num_steps: int = 200,
    scales: tuple[float, ...] = (0.1, 1.0, 10.0, 1000.0),
    seed: int = 0,
) -> tuple[float, float]:
    r"""Search for the extremes of ‖f(z) − f(z')‖ / ‖z − z'‖ by gradient steps from many starts.

    Args:
        function: f, from ``(n, dim)`` to ``(n, m)``, in float64.
        dim: dimension of z.
        num_starts: pairs for each scale and each of the two extremes.
        num_steps: Adam steps.
        scales: sizes of the region around the origin that the pairs start in.
        seed: seed of the starts.

    Returns:
        The smallest and the largest ratio met on the way.

    Example:
        >>> import torch
        >>> from pyro_idvae.testing import lipschitz_search
        >>> matrix = torch.diag(torch.tensor([1.0, 3.0])).double()
        >>> low, high = lipschitz_search(lambda z: z @ matrix, 2)
        >>> round(low, 3), round(high, 3)
        (1.0, 3.0)
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (2 * len(scales) * num_starts, dim)
    scale = torch.tensor(scales, dtype=torch.double).repeat_interleave(2 * num_starts)
    scale = scale.unsqueeze(-1)
    sign = torch.tensor([1.0, -1.0], dtype=torch.double).repeat(len(scales) * num_starts)
    middle = torch.randn(shape, generator=generator, dtype=torch.double).requires_grad_()
    offset = torch.randn(shape, generator=generator, dtype=torch.double).requires_grad_()
    length = torch.randn(shape[0], 1, generator=generator, dtype=torch.double).requires_grad_()
    optimizer = torch.optim.Adam([middle, offset, length], lr=0.05)
    low, high = float("inf"), 0.0
    with torch.enable_grad():
        for _ in range(num_steps):
            step = offset / offset.norm(dim=-1, keepdim=True) * length.exp() * scale
            start = middle * scale
            ratio = (function(start + step) - function(start - step)).norm(dim=-1) / (
                2 * step
            ).norm(dim=-1)
            low = min(low, ratio.min().item())
            high = max(high, ratio.max().item())
            optimizer.zero_grad()
            (sign * ratio.log()).sum().backward()
            optimizer.step()
    return low, high
