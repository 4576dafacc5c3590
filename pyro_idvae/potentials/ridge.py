# SPDX-License-Identifier: Apache-2.0
"""The ridge potential, the default: one layer of convex ridge functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from pyro_idvae._checks import check_count, check_hidden_dims, inverse_softplus
from pyro_idvae.errors import ArgumentError
from pyro_idvae.potentials.learnable import LearnablePotential
from pyro_idvae.potentials.spectrum import weighted_squared_norm

SHARPNESS = 0.5
"""s in σ(a) = (a + √(a²+s))/2; larger values smooth the kink more."""


def rise(a: Tensor) -> tuple[Tensor, Tensor]:
    """Return σ(a) = (a + √(a²+s))/2 and the root √(a²+s), without cancellation at a < 0."""
    root = (a.square() + SHARPNESS).sqrt()
    return a.relu() + (0.5 * SHARPNESS) / (a.abs() + root), root


def rise_integral(a: Tensor) -> Tensor:
    """Return the antiderivative (a² + a√(a²+s))/4 + (s/4)·asinh(a/√s) of σ."""
    value, _ = rise(a)
    return 0.5 * a * value + (0.25 * SHARPNESS) * torch.asinh(a * SHARPNESS**-0.5)


def ridge_hessian_factor(a: Tensor, weight: Tensor) -> Tensor:
    """Return w ⊙ σ′(a), where σ′ = σ / √(a²+s) lies in (0, 1)."""
    value, root = rise(a)
    return weight * (value / root)


def single_width(hidden_dims: Sequence[int]) -> int:
    """Return the width of the one hidden layer."""
    widths = check_hidden_dims(hidden_dims)
    if len(widths) != 1:
        raise ArgumentError(
            f"hidden_dims={list(hidden_dims)!r}: a ridge has one hidden layer; use ICNN for more"
        )
    return widths[0]


class RidgePotential(LearnablePotential):
    r"""One hidden layer of convex ridge functions.

    .. math:: \varphi(x) = \tfrac{\alpha}{2}|x|^2 + \sum_j w_j\,S(W_j\cdot x + b_j) + c\cdot x,
        \quad \nabla\varphi(x) = \alpha x + W^\top(w \odot \sigma(Wx + b)) + c,
        \quad \sigma(a) = \tfrac12\left(a + \sqrt{a^2 + \tfrac12}\right),\; S' = \sigma,\; w > 0

    Its smoothness is bounded by M = α + λ_max(Wᵀ diag(w) W), since 0 < σ′ < 1. Sums of convex ridge
    functions approximate every convex function of one variable but not of more: for that there is
    :class:`ICNN`.

    Args:
        dim: dimension d of the argument.
        hidden_dims: the width of the one hidden layer, as a list of one; ``[max(64, dim)]`` by
            default.
        strong_convexity: floor of α, above 0.
        smoothness: ceiling M; None leaves it to the parameters.

    Raises:
        ArgumentError: for floors, ceilings or widths out of range.

    Example:
        >>> import torch
        >>> from pyro_idvae.potentials import RidgePotential
        >>> potential = RidgePotential(2, hidden_dims=[16], strong_convexity=1.0, smoothness=4.0)
        >>> potential.strong_convexity().item(), round(potential.smoothness().item(), 4)
        (1.0, 4.0)
        >>> potential.gradient(torch.zeros(7, 2)).shape
        torch.Size([7, 2])
    """

    def __init__(
        self,
        dim: int,
        hidden_dims: Sequence[int] | None = None,
        *,
        strong_convexity: float = 0.1,
        smoothness: float | None = None,
    ) -> None:
        super().__init__(dim, strong_convexity=strong_convexity, smoothness=smoothness)
        width = (
            max(64, check_count("dim", dim)) if hidden_dims is None else single_width(hidden_dims)
        )
        self.weight = nn.Parameter(torch.randn(width, dim) / dim**0.5)
        self.bias = nn.Parameter(torch.randn(width))
        self.raw_out = nn.Parameter(inverse_softplus(torch.full((width,), dim / width)))

    def _value(self, x: Tensor) -> Tensor:
        return rise_integral(linear(x, self.weight, self.bias)) @ softplus(self.raw_out)

    def _gradient(self, x: Tensor) -> Tensor:
        value, _ = rise(linear(x, self.weight, self.bias))
        return (softplus(self.raw_out) * value) @ self.weight

    def _gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value, root = rise(linear(x, self.weight, self.bias))
        out = softplus(self.raw_out)
        factor = out * (value / root)
        hessian = (self.weight * factor.unsqueeze(-1)).mT @ self.weight
        return (out * value) @ self.weight, hessian

    def _hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        a = linear(x, self.weight, self.bias)
        factor = ridge_hessian_factor(a, softplus(self.raw_out))
        return self.weight.mT @ (factor.unsqueeze(-1) * (self.weight @ matrix))

    def _curvature_bounds(self) -> tuple[Tensor, Tensor]:
        high = weighted_squared_norm(softplus(self.raw_out), self.weight)
        return torch.zeros_like(high), high
