# SPDX-License-Identifier: Apache-2.0
"""The isometry between R^(V−1) and the zero-sum vectors of R^V."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

from pyro_idvae._abstract import AbstractOrFinal
from pyro_idvae._checks import check_floating
from pyro_idvae.errors import ShapeError


class Helmert(AbstractOrFinal, Transform):
    r"""u ∈ R^{V−1} ↦ logits ∈ R^V with sum zero and ‖logits‖ = ‖u‖.

    .. math:: y = \sum_{k=1}^{V-1} u_k h_k,\qquad
        h_k = \frac{(1,\dots,1,-k,0,\dots,0)}{\sqrt{k(k+1)}}

    A softmax ignores a common shift of its logits, so V free logits are not identifiable; these
    V − 1 numbers are, and no category plays a special part. Costs O(V).

    Shapes: ``batch + (V−1,)`` to ``batch + (V,)``, for any V ≥ 2.

    Example:
        >>> import torch
        >>> from pyro_idvae.transforms import Helmert
        >>> logits = Helmert()(torch.tensor([1.0, 2.0]))
        >>> round(float(logits.sum()), 5), round(float(logits.norm()) ** 2, 4)
        (0.0, 5.0)
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Helmert)

    def __hash__(self) -> int:
        return hash(Helmert)

    @staticmethod
    def _counts(like: Tensor, size: int) -> tuple[Tensor, Tensor]:
        k = torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
        return k, (k * (k + 1)).rsqrt()

    def _call(self, x: Tensor) -> Tensor:
        self._check("u", x, 1)
        k, norm = self._counts(x, x.shape[-1])
        scaled = x * norm
        above = scaled.flip(-1).cumsum(-1).flip(-1)
        pad = torch.zeros_like(x[..., :1])
        return torch.cat([above, pad], -1) - torch.cat([pad, k * scaled], -1)

    def _inverse(self, y: Tensor) -> Tensor:
        self._check("logits", y, 2)
        k, norm = self._counts(y, y.shape[-1] - 1)
        return (y[..., :-1].cumsum(-1) - k * y[..., 1:]) * norm

    @staticmethod
    def _check(name: str, value: Tensor, minimum: int) -> None:
        check_floating(name, value)
        if value.dim() == 0 or value.shape[-1] < minimum:
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}: expected a last dimension of at least "
                f"{minimum}"
            )

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return zeros of shape ``batch``: an isometry keeps volume."""
        return torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and zeros."""
        return self(x), self.log_abs_det_jacobian(x)

    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (1, 1)."""
        return 1.0, 1.0

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        """Map ``batch + (V−1,)`` to ``batch + (V,)``."""
        return torch.Size([*shape[:-1], shape[-1] + 1])

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        """Map ``batch + (V,)`` to ``batch + (V−1,)``."""
        return torch.Size([*shape[:-1], shape[-1] - 1])

    def with_cache(self, cache_size: int = 1) -> Helmert:
        """Return itself: there is nothing to cache."""
        return self
