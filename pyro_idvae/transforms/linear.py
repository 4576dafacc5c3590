# SPDX-License-Identifier: Apache-2.0
"""Injective linear maps of full rank, with a floor under their singular values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_idvae._checks import check_last_dim, check_options, check_same_kind, check_window
from pyro_idvae._precision import full_precision
from pyro_idvae.transforms.injection import Injection


class InjectiveLinear(Injection):
    r"""f(z) = QΛz + b with QᵀQ = I and every entry of the diagonal Λ at least a floor.

    Q is the QR factor of a free matrix, taken in the forward pass and with a positive diagonal of
    R, so that it is a smooth function of the parameters.

    Args:
        latent_dim: K.
        data_dim: D, at least K.
        min_singular_value: floor of Λ, above 0.
        max_singular_value: ceiling of Λ; None for none; if it is the floor, Λ is that constant.
        bias: whether there is a learned b.

    Raises:
        NotInjectiveError: for K > D.

    Example:
        >>> import torch
        >>> from pyro_idvae.transforms import InjectiveLinear
        >>> linear = InjectiveLinear(2, 5, min_singular_value=1.0)
        >>> linear(torch.zeros(3, 2)).shape, linear.inv(torch.zeros(3, 5)).shape
        (torch.Size([3, 5]), torch.Size([3, 2]))
    """

    def __init__(
        self,
        latent_dim: int,
        data_dim: int,
        *,
        min_singular_value: float = 1.0,
        max_singular_value: float | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(latent_dim, data_dim)
        self.floor, self.ceiling = check_window(
            "min_singular_value", min_singular_value, "max_singular_value", max_singular_value
        )
        self.raw_basis = nn.Parameter(torch.randn(data_dim, latent_dim))
        if self.ceiling != self.floor:
            start = 1.0 if self.ceiling is None else 0.0
            self.raw_singular = nn.Parameter(torch.full((latent_dim,), start))
        self.bias = nn.Parameter(torch.zeros(data_dim)) if bias else None

    def singular_values(self) -> Tensor:
        """Return the diagonal of Λ, of shape ``(K,)`` and in no order."""
        if self.ceiling == self.floor:
            return self.raw_basis.new_full((self.latent_dim,), self.floor)
        if self.ceiling is None:
            return self.floor + softplus(self.raw_singular)
        return self.floor + (self.ceiling - self.floor) * self.raw_singular.sigmoid()

    def basis(self) -> Tensor:
        """Return Q, of shape ``(D, K)``."""
        basis, triangle = torch.linalg.qr(self.raw_basis)
        signs: Tensor = torch.where(triangle.diagonal() < 0, -1.0, 1.0).to(basis.dtype)
        oriented: Tensor = basis * signs
        return oriented

    def matrix(self) -> Tensor:
        """Return QΛ, of shape ``(D, K)``."""
        return self.basis() * self.singular_values()

    def _call(self, x: Tensor) -> Tensor:
        check_same_kind("z", x, "the map", self.raw_basis)
        return nn.functional.linear(x, self.matrix(), self.bias)

    def _inverse(self, y: Tensor) -> Tensor:
        check_last_dim("x", y, self.data_dim)
        check_same_kind("x", y, "the map", self.raw_basis)
        centred = y if self.bias is None else y - self.bias
        return (centred @ self.basis()) / self.singular_values()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return Σ log Λ, expanded to ``batch``."""
        return self.singular_values().log().sum().expand(x.shape[:-1])

    def jacobian(self, z: Tensor) -> Tensor:
        """Return QΛ, expanded to ``batch + (D, K)``."""
        return self.matrix().expand(*z.shape[:-1], self.data_dim, self.latent_dim)

    @full_precision()
    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest singular value."""
        with torch.no_grad():
            values = self.singular_values()
        return float(values.min()), float(values.max())


def injective_linear(latent_dim: int, data_dim: int, **options: Any) -> InjectiveLinear:
    """Make an :class:`InjectiveLinear` map; ``options`` are its further arguments.

    Example:
        >>> from pyro_idvae.transforms import injective_linear
        >>> linear = injective_linear(2, 5, min_singular_value=3.0, max_singular_value=3.0)
        >>> linear.lipschitz_bounds()
        (3.0, 3.0)
    """
    check_options(InjectiveLinear, options)
    return InjectiveLinear(latent_dim, data_dim, **options)
