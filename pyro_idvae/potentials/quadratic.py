# SPDX-License-Identifier: Apache-2.0
"""The quadratic potential: its Brenier map is a symmetric positive definite linear map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_idvae.potentials.learnable import LearnablePotential
from pyro_idvae.potentials.spectrum import largest_eigenvalue


class QuadraticPotential(LearnablePotential):
    r"""φ(x) = ½ xᵀ(αI + s·BᵀB)x + c·x, so that ∇φ(x) = (αI + s·BᵀB)x + c.

    Args:
        dim: dimension d of the argument.
        strong_convexity: floor of α, above 0.
        smoothness: ceiling of the largest eigenvalue; None leaves it to the parameters.

    Example:
        >>> import torch
        >>> from pyro_idvae.potentials import QuadraticPotential
        >>> potential = QuadraticPotential(3, strong_convexity=1.0)
        >>> potential.hessian(torch.zeros(5, 3)).shape
        torch.Size([5, 3, 3])
    """

    def __init__(
        self, dim: int, *, strong_convexity: float = 0.1, smoothness: float | None = None
    ) -> None:
        super().__init__(dim, strong_convexity=strong_convexity, smoothness=smoothness)
        self.root = nn.Parameter(torch.randn(dim, dim) / dim**0.5)

    def _value(self, x: Tensor) -> Tensor:
        return 0.5 * (x @ self.root.mT).square().sum(-1)

    def _gradient(self, x: Tensor) -> Tensor:
        return (x @ self.root.mT) @ self.root

    def _gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gram = self.root.mT @ self.root
        return self._gradient(x), gram.expand(*x.shape[:-1], self.dim, self.dim)

    def _hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        return self.root.mT @ (self.root @ matrix)

    def _curvature_bounds(self) -> tuple[Tensor, Tensor]:
        gram = self.root.mT @ self.root
        low = torch.linalg.eigvalsh(gram)[..., 0].clamp_min(0.0)
        return low, largest_eigenvalue(gram)
