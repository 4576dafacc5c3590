# SPDX-License-Identifier: Apache-2.0
"""Brenier maps whose potential depends on a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro.distributions.conditional import ConditionalTransformModule
from torch import Tensor

from pyro_idvae.potentials import PartiallyConvexPotential
from pyro_idvae.transforms.brenier_map import Brenier


class ConditionalBrenier(ConditionalTransformModule):
    """Bijections y = ∇ₓφ(x; u), one for every context u.

    Args:
        potential: φ(·; u), convex in x.
        **options: further arguments of :class:`Brenier`.

    Example:
        >>> import torch, pyro.distributions as dist
        >>> from pyro_idvae.transforms import conditional_brenier
        >>> transform = conditional_brenier(2, context_dim=3)
        >>> base = dist.Normal(0.0, 1.0).expand([2]).to_event(1)
        >>> flow = dist.ConditionalTransformedDistribution(base, [transform])
        >>> flow.condition(torch.ones(5, 3)).sample(torch.Size([5])).shape
        torch.Size([5, 2])
    """

    def __init__(self, potential: PartiallyConvexPotential, **options: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.potential = potential
        self.options = options

    def condition(self, context: Tensor) -> Brenier:
        """Return the Brenier map for contexts of shape ``batch + (context_dim,)``."""
        return Brenier(self.potential.condition(context), **self.options)


def conditional_brenier(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sequence[int] | None = None,
    *,
    context_hidden_dims: Sequence[int] = (64,),
    strong_convexity: float = 0.1,
    smoothness: float | None = None,
    **options: Any,
) -> ConditionalBrenier:
    """Make a :class:`ConditionalBrenier`.

    Args:
        input_dim: dimension d of x.
        context_dim: dimension of the context u.
        hidden_dims: ``[h]``, the width of the convex layer; ``[max(64, d)]`` by default.
        context_hidden_dims: widths of the network of u.
        strong_convexity: floor α of the Jacobian's eigenvalues, for every u.
        smoothness: their ceiling M, for every u; None leaves it to the parameters.
        **options: further arguments of :class:`Brenier`.

    Example:
        >>> import torch
        >>> from pyro_idvae.transforms import conditional_brenier
        >>> transform = conditional_brenier(2, context_dim=3).condition(torch.ones(5, 3))
        >>> transform(torch.zeros(5, 2)).shape
        torch.Size([5, 2])
    """
    potential = PartiallyConvexPotential(
        input_dim,
        context_dim,
        hidden_dims,
        context_hidden_dims=context_hidden_dims,
        strong_convexity=strong_convexity,
        smoothness=smoothness,
    )
    return ConditionalBrenier(potential, **options)
