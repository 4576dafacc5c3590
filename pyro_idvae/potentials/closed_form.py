# SPDX-License-Identifier: Apache-2.0
"""Potentials put together from closed forms: their checks and bounds in one place."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_idvae._abstract import must_write
from pyro_idvae._checks import check_last_dim, check_same_kind
from pyro_idvae.errors import ShapeError
from pyro_idvae.potentials.base import ConvexPotential


class Coefficients(NamedTuple):
    """What surrounds the convex part: φ(x) = α/2·|x|² + s·ψ(x) + c·x."""

    alpha: Tensor
    """α, of shape ``batch`` (often a scalar)."""
    scale: Tensor | None
    """s, of the same shape; None stands for 1."""
    shift: Tensor
    """c, of shape ``batch + (dim,)``."""


def rescaling(gap: float, high: Tensor) -> Tensor:
    """Return the s that gives s·ψ the curvature ``gap``, for ψ of curvature ``high``.

    At most the root of the largest number, so that neither s·ψ nor its derivatives overflow: where
    ψ is all but flat, s·ψ is flatter than asked for.
    """
    least = max(torch.finfo(high.dtype).tiny, gap * torch.finfo(high.dtype).max ** -0.5)
    # By logarithms: a quotient's derivative holds 1/high², which overflows.
    return gap * (-high.clamp_min(least).log()).exp()


class ClosedFormPotential(ConvexPotential):
    r"""A strongly convex function put together from the closed forms of its convex part ψ.

    .. math:: \varphi(x) = \tfrac{\alpha}{2}|x|^2 + s\,\psi(x) + c\cdot x

    Subclasses write ψ and its derivatives, and where α, s and c come from.
    """

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
        """Return ∇²φ(x)·V, of shape ``batch + (dim, k)``, without forming the Hessian."""
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

    @must_write
    def _coefficients(self) -> Coefficients:
        """Return α, s and c."""
        raise NotImplementedError

    @must_write
    def _coefficients_like(self) -> Tensor:
        """Return any tensor of the potential's dtype and device."""
        raise NotImplementedError

    @must_write
    def _value(self, x: Tensor) -> Tensor:
        """Return ψ(x), of shape ``batch``."""
        raise NotImplementedError

    @must_write
    def _gradient(self, x: Tensor) -> Tensor:
        """Return ∇ψ(x), of shape ``batch + (dim,)``."""
        raise NotImplementedError

    @must_write
    def _gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∇ψ(x) and ∇²ψ(x)."""
        raise NotImplementedError

    @must_write
    def _hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        """Return ∇²ψ(x)·V for V of shape ``batch + (dim, k)``."""
        raise NotImplementedError

    @must_write
    def _curvature_bounds(self) -> tuple[Tensor, Tensor]:
        """Return (low, high) with low·I ⪯ ∇²ψ(x) ⪯ high·I for every x."""
        raise NotImplementedError
