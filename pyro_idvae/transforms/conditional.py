# SPDX-License-Identifier: Apache-2.0
"""Brenier maps whose potential depends on a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro.distributions.conditional import ConditionalTransformModule
from torch import Tensor, nn
from torch.distributions import Transform

from pyro_idvae._abstract import AbstractOrFinal
from pyro_idvae._checks import check_options
from pyro_idvae.errors import ArgumentError
from pyro_idvae.potentials import PartiallyConvexPotential
from pyro_idvae.transforms.brenier_map import Brenier


class ConditionalBrenier(AbstractOrFinal, nn.Module):
    """Bijections y = ∇ₓφ(x; u), one for every context u.

    A module that counts as a Pyro ``ConditionalTransformModule`` without being derived from it:
    that one's metaclass is refused by ``PyroModule[...]`` and ``to_pyro_module_``.

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
        super().__init__()
        if not isinstance(potential, PartiallyConvexPotential):
            raise ArgumentError(
                f"potential is a {type(potential).__name__}: expected a PartiallyConvexPotential"
            )
        check_options(Brenier, options)
        self.potential = potential
        self.options = options

    def condition(self, context: Tensor) -> Brenier:
        """Return the Brenier map for contexts of shape ``batch + (context_dim,)``.

        The network of u is evaluated whenever that map is called, once a call: one conditioned
        map serves while the parameters train.
        """
        return Brenier(self.potential.condition(context), **self.options)

    @property
    def inv(self) -> InverseConditionalBrenier:
        """The inverse bijections, for flows that are trained in that direction."""
        return InverseConditionalBrenier(self)


class InverseConditionalBrenier(nn.Module):
    """The inverses of a :class:`ConditionalBrenier`, which it shares the parameters of.

    Args:
        forward_map: what it inverts.
    """

    def __init__(self, forward_map: ConditionalBrenier) -> None:
        super().__init__()
        self.forward_map = forward_map

    def condition(self, context: Tensor) -> Transform:
        """Return the inverse Brenier map for contexts of shape ``batch + (context_dim,)``."""
        return self.forward_map.condition(context).inv

    @property
    def inv(self) -> ConditionalBrenier:
        """The bijections themselves."""
        return self.forward_map


ConditionalTransformModule.register(ConditionalBrenier)
ConditionalTransformModule.register(InverseConditionalBrenier)


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
