# SPDX-License-Identifier: Apache-2.0
"""Potentials convex in x and arbitrary in a context: what conditional Brenier maps are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from pyro_idvae._abstract import AbstractOrFinal
from pyro_idvae._checks import (
    check_count,
    check_hidden_dims,
    check_last_dim,
    check_same_kind,
    check_window,
    inverse_softplus,
)
from pyro_idvae.potentials.base import ConvexPotential
from pyro_idvae.potentials.closed_form import ClosedFormPotential, Coefficients, rescaling
from pyro_idvae.potentials.learnable import LearnablePotential
from pyro_idvae.potentials.ridge import ridge_hessian_factor, rise, rise_integral, single_width
from pyro_idvae.potentials.spectrum import weighted_squared_norm


class RidgeAtContext(ClosedFormPotential):
    """A ridge potential whose coefficients are given; it owns no parameters."""

    def __init__(
        self,
        dim: int,
        weight: Tensor,
        *,
        gain: Tensor,
        bias: Tensor,
        out: Tensor,
        alpha: Tensor,
        shift: Tensor,
        curvature: tuple[float, float] | None,
    ) -> None:
        super().__init__(dim)
        self.weight, self.gain, self.bias, self.out = weight, gain, bias, out
        self.alpha, self.offset, self.curvature = alpha, shift, curvature

    def _activations(self, x: Tensor) -> Tensor:
        return linear(self.gain * x, self.weight) + self.bias

    def _coefficients(self) -> Coefficients:
        if self.curvature is None:
            return Coefficients(self.alpha, None, self.offset)
        floor, ceiling = self.curvature
        _, high = self._curvature_bounds()
        scale = rescaling(ceiling - floor, high)
        return Coefficients(torch.full_like(high, floor), scale, self.offset)

    def _coefficients_like(self) -> Tensor:
        return self.offset

    def _value(self, x: Tensor) -> Tensor:
        return (self.out * rise_integral(self._activations(x))).sum(-1)

    def _gradient(self, x: Tensor) -> Tensor:
        value, _ = rise(self._activations(x))
        return self.gain * ((self.out * value) @ self.weight)

    def _gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        return self._gradient(x), self._hessian_product(x, eye)

    def _hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        factor = ridge_hessian_factor(self._activations(x), self.out)
        gain = self.gain.unsqueeze(-1)
        return gain * (self.weight.mT @ (factor.unsqueeze(-1) * (self.weight @ (gain * matrix))))

    def _curvature_bounds(self) -> tuple[Tensor, Tensor]:
        high = weighted_squared_norm(self.out, self.weight * self.gain.unsqueeze(-2))
        return torch.zeros_like(high), high


class ConditionedPotential(ConvexPotential):
    """φ(·; u) at given contexts u; it owns no parameters.

    Made by :meth:`PartiallyConvexPotential.condition`. Each call evaluates the network of u anew,
    from the parameters as they are then; ``evaluated()`` does so once for many calls. Its bounds
    have the shape of the context's batch.

    Example:
        >>> import torch
        >>> from pyro_idvae.potentials import PartiallyConvexPotential
        >>> potential = PartiallyConvexPotential(2, context_dim=3).condition(torch.ones(5, 3))
        >>> potential.hessian(torch.zeros(5, 2)).shape
        torch.Size([5, 2, 2])
    """

    def __init__(self, potential: PartiallyConvexPotential, context: Tensor) -> None:
        super().__init__(potential.dim)
        self._potential = (potential,)  # in a tuple: its parameters are not this module's
        self.context = context

    def evaluated(self) -> ConvexPotential:
        """Return the ridge whose coefficients the network gives now."""
        (potential,) = self._potential
        return potential.at(self.context)

    def dependencies(self) -> tuple[Tensor, ...]:
        """Return the parameters of φ and the context."""
        (potential,) = self._potential
        return (*potential.parameters(), self.context)

    def forward(self, x: Tensor) -> Tensor:
        """Return φ(x; u), of shape ``batch``."""
        return self.evaluated()(x)  # type: ignore[no-any-return]

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient in x, of shape ``batch + (dim,)``."""
        return self.evaluated().gradient(x)

    def gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient and Hessian in x."""
        return self.evaluated().gradient_and_hessian(x)

    def hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return the Hessian in x times a matrix, of shape ``batch + (dim, k)``."""
        return self.evaluated().hessian_product(x, matrix)

    def strong_convexity(self) -> Tensor:
        """Return α(u), of the context's batch shape."""
        return self.evaluated().strong_convexity()

    def smoothness(self) -> Tensor:
        """Return M(u), of the context's batch shape."""
        return self.evaluated().smoothness()


class PartiallyConvexPotential(AbstractOrFinal, nn.Module):
    r"""φ(x; u), convex in x for every context u.

    .. math:: \varphi(x; u) = \tfrac{\alpha(u)}{2}|x|^2
        + \sum_j w_j(u)\, S\big(W_j\cdot(m(u)\odot x) + b_j(u)\big) + c(u)\cdot x

    with w(u) > 0 and α(u) ≥ the floor; α, w, m, b, c are outputs of one network of u, which starts
    as a constant. S is the antiderivative used by :class:`RidgePotential`.

    Args:
        dim: dimension d of x.
        context_dim: dimension of the context u.
        hidden_dims: the width of the one convex hidden layer, as a list of one.
        context_hidden_dims: widths of the network of u.
        strong_convexity: floor of α(u), above 0.
        smoothness: ceiling M, kept for every u; None leaves it to the parameters.

    Example:
        >>> import torch
        >>> from pyro_idvae.potentials import PartiallyConvexPotential
        >>> potential = PartiallyConvexPotential(2, context_dim=3, hidden_dims=[16])
        >>> potential.gradient(torch.zeros(5, 2), torch.ones(5, 3)).shape
        torch.Size([5, 2])
        >>> potential.condition(torch.ones(5, 3)).smoothness().shape
        torch.Size([5])

    Reference:
        Amos, Xu & Kolter, *Input Convex Neural Networks*, ICML 2017 (PICNN).
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        hidden_dims: Sequence[int] | None = None,
        *,
        context_hidden_dims: Sequence[int] = (64,),
        strong_convexity: float = 0.1,
        smoothness: float | None = None,
    ) -> None:
        super().__init__()
        self.dim = check_count("dim", dim)
        self.context_dim = check_count("context_dim", context_dim)
        self.floor, self.ceiling = check_window(
            "strong_convexity", strong_convexity, "smoothness", smoothness
        )
        width = max(64, self.dim) if hidden_dims is None else single_width(hidden_dims)
        self.weight = nn.Parameter(torch.randn(width, dim) / dim**0.5)
        self.bias = nn.Parameter(torch.randn(width))
        self.raw_out = nn.Parameter(inverse_softplus(torch.full((width,), dim / width)))
        excess = 0 if self.ceiling is not None else 1
        if excess:
            start = torch.tensor(LearnablePotential.initial_excess)
            self.raw_excess = nn.Parameter(inverse_softplus(start))
        self._sizes = [self.dim, width, width, self.dim, excess]
        widths = [self.context_dim, *check_hidden_dims(context_hidden_dims)]
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            layers += [nn.Linear(inner, outer), nn.Softplus()]
        last = nn.Linear(widths[-1], sum(self._sizes))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*layers, last)

    def condition(self, context: Tensor) -> ConditionedPotential:
        """Return φ(·; u) for contexts u of shape ``batch + (context_dim,)``.

        The network of u is evaluated whenever what is returned is called, so that one conditioned
        potential serves while the parameters train.
        """
        check_last_dim("context", context, self.context_dim)
        check_same_kind("context", context, "the potential", self.weight)
        return ConditionedPotential(self, context)

    def at(self, context: Tensor) -> RidgeAtContext:
        """Return φ(·; u) with the network evaluated once, now; see :meth:`condition`."""
        gain, bias, out, shift, excess = self.network(context).split(self._sizes, dim=-1)
        if self.ceiling is None:
            alpha = self.floor + softplus(self.raw_excess + excess.squeeze(-1))
            curvature = None
        else:
            alpha = shift.new_full(shift.shape[:-1], self.floor)
            curvature = (self.floor, self.ceiling)
        return RidgeAtContext(
            self.dim,
            self.weight.view_as(self.weight),  # a view: what is conditioned owns no parameter
            gain=1 + gain,
            bias=self.bias + bias,
            out=softplus(self.raw_out + out),
            alpha=alpha,
            shift=shift,
            curvature=curvature,
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return φ(x; u), of shape ``batch``."""
        return self.condition(context)(x)  # type: ignore[no-any-return]

    def gradient(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the gradient in x, of shape ``batch + (dim,)``."""
        return self.condition(context).gradient(x)

    def hessian(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the Hessian in x, of shape ``batch + (dim, dim)``."""
        return self.condition(context).hessian(x)

    def gradient_and_hessian(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient and Hessian in x."""
        return self.condition(context).gradient_and_hessian(x)

    def strong_convexity(self, context: Tensor) -> Tensor:
        """Return α(u), of the context's batch shape."""
        return self.condition(context).strong_convexity()

    def smoothness(self, context: Tensor) -> Tensor:
        """Return M(u), of the context's batch shape."""
        return self.condition(context).smoothness()
