# SPDX-License-Identifier: Apache-2.0
"""Probabilities of V categories, by V − 1 free numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_idvae._abstract import may_override
from pyro_idvae._checks import check_count
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.logit_basis import HELMERT, HelmertBasis, LogitBasis, RateBasis
from pyro_idvae.errors import DataError


class SimplexFamily(Family):
    """Probabilities of V categories by V − 1 free numbers.

    Args:
        basis: from these numbers to logits; by default zero-sum logits, Helmert(η).
    """

    support = constraints.nonnegative_integer
    factorised = False
    of_log_rates = True

    def __init__(self, basis: RateBasis | None = None) -> None:
        super().__init__()
        self.basis: LogitBasis = HelmertBasis() if basis is None else basis

    def capped_rates(self) -> Tensor | None:
        """Return which categories' base rates are larger than the data's."""
        return self.basis.capped if isinstance(self.basis, RateBasis) else None

    def with_base(self, x: Tensor, parameter_dim: int, least: Tensor) -> Family:
        """Return the family by a :class:`RateBasis` at the categories' shares."""
        if self.event_shape(parameter_dim):
            counts = x.reshape(-1, parameter_dim + 1).sum(0)
            trials = counts.sum() / (x.numel() / (parameter_dim + 1))
        else:
            counts = torch.bincount(x.long().flatten(), minlength=parameter_dim + 1).to(x)
            trials = counts.new_ones(())
        total = counts.sum()
        if not bool(total > 0):
            raise DataError("base has no counts at all: there are no rates")
        shares = counts / total
        # A floor above the even share would leave nothing of the rates.
        floor = min(max(float(least.mean() / trials), float(0.5 / total)), 1 / len(shares))
        probs = shares.clamp_min(floor)
        return type(self)(RateBasis(probs / probs.sum(), trials, shares < floor))

    def in_units(self, shift: Tensor) -> Tensor:
        """Return a shift of zero-sum logits, Helmert(shift), as one of the parameters."""
        basis = self.basis
        return basis.units(HELMERT(shift)) if isinstance(basis, RateBasis) else shift

    def parameter_dim(self, data_dim: int) -> int:
        """Return V − 1."""
        return check_count("num_categories", data_dim, minimum=2) - 1

    def flat_dim(self, parameter_dim: int) -> int:
        """Return V."""
        return parameter_dim + 1

    def least_curvature(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        r"""Return a lower bound of the variance, under any p near, of the logits' directions.

        With base rates r of the basis (all equal for Helmert's), Var_p(Bw) ≥ min_v(p_v/r_v)·Var_r,
        and a category's logit changes by at most the length of its row of B times the radius.

        Args:
            centre: as for any family.
            radius: a number.
        """
        return self.basis.least_share(centre, radius)

    def _information_of_one(self, eta: Tensor, jacobian: Tensor | None = None) -> Tensor:
        """Return JᵀHᵀ(diag p − ppᵀ)HJ, of one draw of a category; J is the identity by default."""
        if jacobian is None:
            jacobian = torch.eye(eta.shape[-1], dtype=eta.dtype, device=eta.device)
        root = self.basis.logits(eta).softmax(-1).sqrt()
        moved = root.unsqueeze(-1) * self.basis.directions(jacobian.mT).mT
        along = root.unsqueeze(-2) @ moved
        information: Tensor = moved.mT @ moved - along.mT @ along
        return information

    def pulled_information(
        self,
        eta: Tensor,
        jacobian: Tensor,
        total_count: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return JᵀI(η)J without I(η), which has V² entries."""
        pulled = self._information_of_one(eta, jacobian)
        for factor in (self._counted(total_count), mask):
            if factor is not None:
                pulled = pulled * factor[..., None, None]
        return pulled

    @may_override
    def _counted(self, total_count: Tensor | None) -> Tensor | None:
        """Return how many draws an observation is; None for one."""
        return None

    def _distance_of_one(self, eta: Tensor, other: Tensor) -> Tensor:
        """Return −log Σ√(pp′), the Bhattacharyya distance of one draw of a category."""
        logits, others = self.basis.logits(eta), self.basis.logits(other)
        middle = (0.5 * (logits + others)).logsumexp(-1)
        ends: Tensor = 0.5 * (logits.logsumexp(-1) + others.logsumexp(-1))
        return ends - middle

    def eta_of_mean(self, mean: Tensor, least: Tensor) -> Tensor:
        """Return the η of mean counts, none of whose shares is rarer than ``least``."""
        shares = mean / mean.sum(-1, keepdim=True)
        return self.basis.inverse(shares.clamp_min(least.mean()).log())

    def _of_counts(self, counts: Tensor) -> Tensor:
        """Return the η of shares, with one more observation spread evenly over the categories."""
        return self.basis.inverse((counts + 1 / counts.shape[-1]).log())
