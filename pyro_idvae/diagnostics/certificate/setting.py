# SPDX-License-Identifier: Apache-2.0
"""What a likelihood stands in, when it is certified."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_idvae.diagnostics.certificate.prior import Prior
from pyro_idvae.programs.observed import RowCounts


class Setting(NamedTuple):
    """What a likelihood stands in."""

    prior: Prior
    rows: RowCounts
    assumptions: tuple[str, ...]
    latent: Any = None
    """The node of the latent site, where there is a model."""
    options: dict[str, Any] = {}  # noqa: RUF012

    def draws(self, count: int, latent_dim: int, like: Tensor) -> Tensor:
        """Return draws of the prior, of shape ``(count, K)``.

        Args:
            count: how many.
            latent_dim: K.
            like: of whose type and device they are.
        """
        shape = (count, latent_dim)
        if self.prior.standard:
            return torch.randn(shape, dtype=like.dtype, device=like.device)
        fn = self.latent["fn"]
        values = self.latent["value"].shape[:-1].numel()
        z: Tensor = fn.sample((-(-count // values),)).reshape(-1, latent_dim)[:count]
        return z.to(like)
