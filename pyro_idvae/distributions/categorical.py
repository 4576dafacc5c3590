# SPDX-License-Identifier: Apache-2.0
"""One category, or counts of categories with a library size: zero-sum logits f(z)."""

from __future__ import annotations

import warnings
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_idvae._abstract import may_override
from pyro_idvae._checks import check_count
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.injective import InjectiveLikelihood
from pyro_idvae.distributions.library_multinomial import LibraryMultinomial
from pyro_idvae.distributions.logit_basis import HELMERT, HelmertBasis, LogitBasis, RateBasis
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.transforms import Injection


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

    def _of_counts(self, counts: Tensor) -> Tensor:
        """Return the η of shares, with one more observation spread evenly over the categories."""
        return self.basis.inverse((counts + 1 / counts.shape[-1]).log())


class CategoricalFamily(SimplexFamily):
    """x ~ Categorical(logits=Helmert(η)), with V − 1 parameters for V categories.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import CategoricalFamily
        >>> CategoricalFamily()(torch.zeros(7, 5)).sample().shape
        torch.Size([7])
    """

    name = "categorical"
    integer_data = True

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return Categorical(logits=Helmert(η))."""
        self.refuse_total_count(total_count)
        return dist.Categorical(logits=self.basis.logits(eta))

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return −log Σ√(pp′)."""
        return self._distance_of_one(eta, other)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return Hᵀ(diag p − ppᵀ)H with the Helmert basis H."""
        return self._information_of_one(eta)

    def initial_eta(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the η of the observed category, with one more observation spread evenly."""
        code = self.standardize(x, parameter_dim)
        return self._of_counts(code.to(torch.get_default_dtype()))

    def event_shape(self, parameter_dim: int) -> torch.Size:
        """Return (): an observation is the number of a category."""
        return torch.Size([])

    def check_support(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Check for whole numbers from 0 to V − 1."""
        return super().check_support(x, parameter_dim) & (x <= parameter_dim)

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the one-hot code."""
        return nn.functional.one_hot(x.long(), parameter_dim + 1)


class MultinomialFamily(SimplexFamily):
    """x ~ Multinomial(total_count, logits=Helmert(η)), with V − 1 parameters for V categories.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import MultinomialFamily
        >>> MultinomialFamily()(torch.zeros(7, 5), torch.tensor(9.0)).sample().shape
        torch.Size([7, 6])
    """

    name = "multinomial"
    needs_total_count = True

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return the multinomial for library sizes of shape ``batch``."""
        if total_count is None:
            raise ArgumentError(
                "total_count=None: a multinomial likelihood needs the library size of each row, "
                "e.g. condition(z, total_count=x.sum(-1))"
            )
        empty = int((total_count == 0).sum())
        if empty:
            warnings.warn(
                f"{empty} rows have a library size of 0: they say nothing about z, and their "
                "posterior is the prior",
                UserWarning,
                stacklevel=2,
            )
        return LibraryMultinomial(total_count, self.basis.logits(eta))

    def event_shape(self, parameter_dim: int) -> torch.Size:
        """Return (V,)."""
        return torch.Size([parameter_dim + 1])

    def total_count_of(self, x: Tensor) -> Tensor | None:
        """Return the library sizes."""
        return x.sum(-1)

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return log(1 + counts)."""
        return x.log1p()

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return −n·log Σ√(pp′)."""
        return self._counted(total_count) * self._distance_of_one(eta, other)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return n·Hᵀ(diag p − ppᵀ)H with the Helmert basis H."""
        return self._counted(total_count)[..., None, None] * self._information_of_one(eta)

    def _counted(self, total_count: Tensor | None) -> Tensor:
        if total_count is None:
            raise ArgumentError(
                "total_count=None: what a multinomial says grows with the library size; pass it"
            )
        return total_count

    def initial_eta(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the η of the observed shares, with one more observation spread evenly."""
        return self._of_counts(x)


class InjectiveCategorical(InjectiveLikelihood):
    """x | z ~ Categorical(logits=Helmert(f(z))) over V = D + 1 categories.

    *Injective:* f is, :class:`Helmert` is an isometry onto the zero-sum logits, and softmax is
    one-to-one on those (it forgets a common shift only).

    Args:
        injection: f from R^K to R^(V−1).
        covariates: a module that maps covariates to a shift of f(z).
        base: observations, for f(z) in noise units at their base rates.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveCategorical
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveCategorical(brenier_injection(2, 9))
        >>> likelihood.condition(torch.zeros(7, 2)).probs.shape
        torch.Size([7, 10])
    """

    def __init__(
        self,
        injection: Injection,
        *,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        super().__init__(injection, CategoricalFamily(), covariates, base)


class InjectiveMultinomial(InjectiveLikelihood):
    """x | z ~ Multinomial(total_count, logits=Helmert(f(z))) over V = D + 1 categories.

    The library size ``total_count`` is given with each call and may differ from row to row; a row
    with size 0 says nothing about z and is warned of.

    *Injective* for a library size of at least 1: f is, :class:`Helmert` is an isometry onto the
    zero-sum logits, softmax is one-to-one on those, and the mean n·p determines p.

    Args:
        injection: f from R^K to R^(V−1).
        covariates: a module that maps covariates to a shift of f(z).
        base: observations, for f(z) in noise units at their base rates.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveMultinomial
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveMultinomial(brenier_injection(2, 5))
        >>> x = likelihood.condition(torch.zeros(7, 2), total_count=torch.tensor(9.0)).sample()
        >>> x.shape, x.sum(-1).unique()
        (torch.Size([7, 6]), tensor([9.]))
    """

    def __init__(
        self,
        injection: Injection,
        *,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        super().__init__(injection, MultinomialFamily(), covariates, base)
