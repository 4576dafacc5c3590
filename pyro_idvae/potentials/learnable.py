# SPDX-License-Identifier: Apache-2.0
"""Potentials with parameters: a floor and, if wanted, a ceiling on their curvature."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_idvae._abstract import may_override
from pyro_idvae._checks import check_window, inverse_softplus
from pyro_idvae.potentials.closed_form import ClosedFormPotential, Coefficients, rescaling


class LearnablePotential(ClosedFormPotential):
    r"""A convex potential with parameters, a floor and, if wanted, a ceiling on its curvature.

    .. math:: \varphi(x) = \tfrac{\alpha}{2}|x|^2 + s\,\psi(x) + c\cdot x

    with ψ convex. Without a ceiling, s = 1 and α = floor + softplus(r) is learned above the floor.
    With one, both ends are pinned: α is the floor and ψ is rescaled by
    s = (ceiling − floor) / (bound of ψ's curvature), so that ``strong_convexity()`` and
    ``smoothness()`` are the two numbers asked for, whatever the parameters; only where they make ψ
    flat to the last digit is ``smoothness()`` less.

    Subclasses write the mathematics of ψ alone: ``_value``, ``_gradient``,
    ``_gradient_and_hessian``, ``_hessian_product`` and ``_curvature_bounds``. They may override
    ``evaluated``, ``dependencies`` and ``extra_repr``.

    Args:
        dim: dimension d of the argument.
        strong_convexity: floor of α, above 0.
        smoothness: ceiling M, at least the floor; None leaves it to the parameters.

    Raises:
        TypeError: for an abstract class, or a subclass that overrides what is final.
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

    @may_override
    def extra_repr(self) -> str:
        """Name what distinguishes this potential."""
        return f"dim={self.dim}, strong_convexity={self.floor:g}, smoothness={self.ceiling}"

    def _coefficients(self) -> Coefficients:
        if self.ceiling is None:
            return Coefficients(self.floor + softplus(self.raw_excess), None, self.shift)
        _, high = self._curvature_bounds()
        alpha = self.shift.new_tensor(self.floor)
        return Coefficients(alpha, rescaling(self.ceiling - self.floor, high), self.shift)

    def _coefficients_like(self) -> Tensor:
        return self.shift
