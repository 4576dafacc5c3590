# SPDX-License-Identifier: Apache-2.0
"""One category, or counts of categories with a library size: zero-sum logits f(z)."""

from __future__ import annotations

import warnings
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_idvae.distributions.injective import InjectiveLikelihood
from pyro_idvae.distributions.library_multinomial import LibraryMultinomial
from pyro_idvae.distributions.simplex import SimplexFamily
from pyro_idvae.errors import ArgumentError
from pyro_idvae.transforms import Injection


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
