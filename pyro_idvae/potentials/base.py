# SPDX-License-Identifier: Apache-2.0
"""The abstract convex potential: checks, strong convexity and smoothness in one place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_idvae._checks import (
    check_count,
    check_last_dim,
    check_same_kind,
    check_window,
    inverse_softplus,
)
from pyro_idvae.errors import ShapeError


class Coefficients(NamedTuple):
    """What surrounds the convex part: φ(x) = α/2·|x|² + s·ψ(x) + c·x."""

    alpha: Tensor
    """α, of shape ``batch`` (often a scalar)."""
    scale: Tensor | None
    """s, of the same shape; None stands for 1."""
    shift: Tensor
    """c, of shape ``batch + (dim,)``."""


class ConvexPotential(nn.Module, ABC):
    r"""A smooth, strongly convex function φ on R^d with closed-form derivatives.

    .. math:: \varphi(x) = \tfrac{\alpha}{2}|x|^2 + s\,\psi(x) + c\cdot x,
        \qquad \alpha I \preceq \nabla^2\varphi(x) \preceq M I

    with ψ convex. No derivative is taken by automatic differentiation, so every method works
    under ``no_grad``, ``inference_mode``, ``torch.vmap`` and ``torch.jit.trace`` and is itself
    differentiable in ``x`` and in the parameters.

    This root knows neither parameters nor floors; subclass :class:`LearnablePotential` to write
    a potential of your own, and inherit the tests of ``pyro_idvae.testing.PotentialLaws``.

    Args:
        dim: dimension d of the argument.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = check_count("dim", dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return φ(x), of shape ``batch``, for ``x`` of shape ``batch + (dim,)``."""
        x = self._checked(x)
        alpha, scale, shift = self._coefficients()
        value = self._value(x)
        if scale is not None:
            value = scale * value
        return 0.5 * alpha * x.square().sum(-1) + value + (shift * x).sum(-1)

    def gradient(self, x: Tensor) -> Tensor:
        """Return ∇φ(x), of the shape of ``x``: ``batch + (dim,)``."""
        x = self._checked(x)
        return self._assemble_gradient(x, self._gradient(x), self._coefficients())

    def hessian(self, x: Tensor) -> Tensor:
        """Return ∇²φ(x), of shape ``batch + (dim, dim)``, for ``x`` of ``batch + (dim,)``."""
        return self.gradient_and_hessian(x)[1]

    def gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∇φ(x) and ∇²φ(x) of shapes ``batch + (dim,)`` and ``batch + (dim, dim)``."""
        x = self._checked(x)
        coefficients = self._coefficients()
        gradient, hessian = self._gradient_and_hessian(x)
        alpha, scale, _ = coefficients
        if scale is not None:
            hessian = scale[..., None, None] * hessian
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        hessian = hessian + alpha[..., None, None] * eye
        return self._assemble_gradient(x, gradient, coefficients), hessian

    def hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return ∇²φ(x)·V without forming the Hessian.

        Args:
            x: points, of shape ``batch + (dim,)``.
            matrix: V, of shape ``batch + (dim, k)``.

        Returns:
            A tensor of shape ``batch + (dim, k)``.
        """
        x = self._checked(x)
        if matrix.dim() < 2 or matrix.shape[-2] != self.dim:
            raise ShapeError(
                f"matrix has shape {tuple(matrix.shape)}: expected batch + ({self.dim}, k)"
            )
        alpha, scale, _ = self._coefficients()
        product = self._hessian_product(x, matrix)
        if scale is not None:
            product = scale[..., None, None] * product
        return product + alpha[..., None, None] * matrix

    def strong_convexity(self) -> Tensor:
        """Return α: a lower bound of the Hessian's eigenvalues at every point (differentiable)."""
        alpha, scale, _ = self._coefficients()
        low, _ = self._curvature_bounds()
        return alpha + (low if scale is None else scale * low)

    def smoothness(self) -> Tensor:
        """Return M: an upper bound of the Hessian's eigenvalues at every point (differentiable)."""
        alpha, scale, _ = self._coefficients()
        _, high = self._curvature_bounds()
        return alpha + (high if scale is None else scale * high)

    @staticmethod
    def _assemble_gradient(x: Tensor, gradient: Tensor, coefficients: Coefficients) -> Tensor:
        alpha, scale, shift = coefficients
        if scale is not None:
            gradient = scale.unsqueeze(-1) * gradient
        return torch.addcmul(gradient + shift, alpha.unsqueeze(-1), x)

    def _checked(self, x: Tensor) -> Tensor:
        check_last_dim("x", x, self.dim)
        check_same_kind("x", x, "the potential", self._coefficients_like())
        return x

    @abstractmethod
    def _coefficients(self) -> Coefficients:
        """Return α, s and c."""

    @abstractmethod
    def _coefficients_like(self) -> Tensor:
        """Return any tensor of the potential's dtype and device."""

    @abstractmethod
    def _value(self, x: Tensor) -> Tensor:
        """Return ψ(x), of shape ``batch``."""

    @abstractmethod
    def _gradient(self, x: Tensor) -> Tensor:
        """Return ∇ψ(x), of shape ``batch + (dim,)``."""

    @abstractmethod
    def _gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∇ψ(x) and ∇²ψ(x)."""

    @abstractmethod
    def _hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return ∇²ψ(x)·V for V of shape ``batch + (dim, k)``."""

    @abstractmethod
    def _curvature_bounds(self) -> tuple[Tensor, Tensor]:
        """Return (low, high) with low·I ⪯ ∇²ψ(x) ⪯ high·I for every x."""


class LearnablePotential(ConvexPotential):
    r"""A convex potential with parameters, a floor and, if wanted, a ceiling on its curvature.

    Without a ceiling, α = floor + softplus(r) is learned above the floor. With one, both ends are
    pinned: α is the floor and ψ is rescaled by s = (ceiling − floor) / (bound of ψ's curvature),
    so that :meth:`strong_convexity` and :meth:`smoothness` are the two numbers asked for, whatever
    the parameters.

    Subclasses write the mathematics of ψ alone: ``_value``, ``_gradient``,
    ``_gradient_and_hessian``, ``_hessian_product`` and ``_curvature_bounds``.

    Args:
        dim: dimension d of the argument.
        strong_convexity: floor of α, above 0.
        smoothness: ceiling M, at least the floor; None leaves it to the parameters.
    """

    initial_excess = 0.5

    def __init__(
        self, dim: int, *, strong_convexity: float = 0.1, smoothness: float | None = None
    ) -> None:
        super().__init__(dim)
        self.floor, self.ceiling = check_window(
            "strong_convexity", strong_convexity, "smoothness", smoothness
        )
        self.shift = nn.Parameter(torch.zeros(self.dim))
        if self.ceiling is None:
            self.raw_excess = nn.Parameter(inverse_softplus(torch.tensor(self.initial_excess)))

    def extra_repr(self) -> str:
        """Name what distinguishes this potential."""
        return f"dim={self.dim}, strong_convexity={self.floor:g}, smoothness={self.ceiling}"

    def _coefficients(self) -> Coefficients:
        if self.ceiling is None:
            return Coefficients(self.floor + softplus(self.raw_excess), None, self.shift)
        _, high = self._curvature_bounds()
        tiny = torch.finfo(high.dtype).tiny
        low_shift = self.shift.new_tensor(self.floor)
        return Coefficients(
            low_shift, (self.ceiling - self.floor) / high.clamp_min(tiny), self.shift
        )

    def _coefficients_like(self) -> Tensor:
        return self.shift
