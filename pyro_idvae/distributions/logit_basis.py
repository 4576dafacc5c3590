# SPDX-License-Identifier: Apache-2.0
"""From V − 1 free numbers to the logits of V categories."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from pyro_idvae.transforms import Helmert
from pyro_idvae.transforms.householder import in_complement, of_complement

HELMERT = Helmert()


class LogitBasis(Protocol):
    """An injective affine map from V − 1 numbers to logits, a common shift apart."""

    def logits(self, eta: Tensor) -> Tensor:
        """Return the logits of parameters, of shape ``batch + (V,)``."""

    def directions(self, change: Tensor) -> Tensor:
        """Return what a change of the parameters changes the logits by."""

    def inverse(self, logits: Tensor) -> Tensor:
        """Return the parameters of logits, whatever their common shift."""

    def units(self, change: Tensor) -> Tensor:
        """Return the parameters of a change of the logits."""

    def least_share(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        """Return a lower bound of the information about any direction, within a radius."""


def least_share(logits: Tensor, reach: Tensor) -> Tensor:
    """Return lower bounds of log probabilities when each logit moves by at most its reach."""
    high, low = logits + reach, logits - reach
    total = high.logsumexp(-1, keepdim=True)
    # The others are as high as they can be, the category itself is low.
    share = (high - total).exp().clamp_max(1 - torch.finfo(logits.dtype).eps)
    others = total + torch.log1p(-share)
    return low - torch.logaddexp(others, low)


class HelmertBasis:
    """Zero-sum logits: Helmert's isometry."""

    def logits(self, eta: Tensor) -> Tensor:
        """Return H·η."""
        found: Tensor = HELMERT(eta)
        return found

    def directions(self, change: Tensor) -> Tensor:
        """Return H·change."""
        return self.logits(change)

    def inverse(self, logits: Tensor) -> Tensor:
        """Return Hᵀ·logits."""
        found: Tensor = HELMERT.inv(logits - logits.mean(-1, keepdim=True))
        return found

    def units(self, change: Tensor) -> Tensor:
        """Return Hᵀ·change."""
        return self.inverse(change)

    def least_share(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        """Return a lower bound of the least probability: Var_p(Hw) ≥ min p · |w|²."""
        logits = self.logits(centre)
        # Rows of an orthonormal basis of the zero-sum vectors.
        reach = radius * (1 - 1 / logits.shape[-1]) ** 0.5
        return least_share(logits, reach * torch.ones_like(logits)).exp().amin()


class RateBasis(nn.Module):
    r"""Logits whose variance under the base rates is |v|²/n: units of noise.

    .. math:: \text{logits} = \log p + (np)^{-1/2} \odot Bv, \qquad
        B^\top B = I, \quad \sqrt p^{\,\top} B = 0

    The Fisher information of n draws about v is the identity at v = 0; and the map is injective
    into distributions: a common shift c of the logits would ask for
    :math:`\sqrt p^{\,\top}Bv = \sqrt n\,c`, which is 0. Costs O(V).

    Args:
        probs: base rates p of the V categories, positive, of sum 1.
        total_count: n, observations in a row.
        capped: which of the rates are larger than the data's.
    """

    probs: Tensor
    total_count: Tensor
    capped: Tensor

    def __init__(self, probs: Tensor, total_count: Tensor, capped: Tensor) -> None:
        super().__init__()
        self.register_buffer("probs", probs)
        self.register_buffer("total_count", total_count)
        self.register_buffer("capped", capped)

    @property
    def _probs(self) -> Tensor:
        # Of sum 1 in whatever precision the module has been taken to.
        return self.probs / self.probs.sum()

    @property
    def _scale(self) -> Tensor:
        return (self.total_count * self._probs).rsqrt()

    def logits(self, eta: Tensor) -> Tensor:
        """Return the logits of v = ``eta``."""
        probs, scale = self._probs, self._scale
        return torch.addcmul(probs.log(), in_complement(eta, probs.sqrt()), scale)

    def directions(self, change: Tensor) -> Tensor:
        """Return the change of the logits."""
        return in_complement(change, self._probs.sqrt()) * self._scale

    def inverse(self, logits: Tensor) -> Tensor:
        """Return v."""
        return self.units(logits - self._probs.log())

    def least_share(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        """Return a lower bound of min p/r over n, for base rates r and one draw."""
        probs = self._probs
        reach = radius * ((1 - probs) / (self.total_count * probs)).sqrt()
        ratio = least_share(self.logits(centre), reach) - probs.log()
        return ratio.amin().exp() / self.total_count

    def units(self, change: Tensor) -> Tensor:
        """Return the v of a change of the logits."""
        root = self._probs.sqrt()
        return of_complement(change * root, root) * self.total_count.sqrt()
