# SPDX-License-Identifier: Apache-2.0
"""Real-valued data: Normal, Laplace and Student-t noise around scale·f(z)."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_idvae._abstract import must_write
from pyro_idvae._precision import full_precision
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.injective import InjectiveLikelihood
from pyro_idvae.distributions.rate import information_window
from pyro_idvae.errors import ShapeError
from pyro_idvae.transforms import Injection


class LocationScaleFamily(Family):
    """Noise of one shape, scaled and shifted: x = scale·(η + noise).

    The location carries the scale as a factor, so that what η says is measured in units of the
    noise whatever the scale learns.

    Args:
        scale: the noise scale, a number or one for each feature.
        learn_scale: whether it is trained.
    """

    def __init__(self, scale: float | Tensor = 1.0, *, learn_scale: bool = False) -> None:
        super().__init__()
        self.set_global("scale", scale, learn=learn_scale)

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return the noise's distribution at location scale·η."""
        self.refuse_total_count(total_count)
        scale = self.get_global("scale")
        if scale.dim() > 0 and scale.shape[-1] not in (1, eta.shape[-1]):
            raise ShapeError(
                f"scale has shape {tuple(scale.shape)} but there are {eta.shape[-1]} features: "
                "pass one number, or one for each feature"
            )
        return self._noise(scale * eta, scale)

    def with_base(self, x: Tensor, parameter_dim: int, least: Tensor) -> Family:
        """Return the family itself: η is in units of the noise."""
        return self

    @must_write
    def _noise(self, loc: Tensor, scale: Tensor) -> Any:
        """Return the distribution of this location and scale."""
        raise NotImplementedError

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Divide by the scale, leaving its own training to the likelihood."""
        scale = self.get_global("scale")
        return x / scale.detach()


class NormalFamily(LocationScaleFamily):
    """x ~ Normal(scale·η, scale).

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import NormalFamily
        >>> NormalFamily(scale=0.3)(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "normal"

    def _noise(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Normal(loc, scale)

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return ‖η − η′‖²/8."""
        return (eta - other).square().sum(-1) / 8

    def least_curvature(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(centre)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return ones: η is in units of the noise."""
        return torch.ones_like(eta)


class LaplaceFamily(LocationScaleFamily):
    """x ~ Laplace(scale·η, scale).

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import LaplaceFamily
        >>> LaplaceFamily(scale=0.5)(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "laplace"

    def _noise(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.Laplace(loc, scale)

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the sum of h − log(1 + h), h half the distance of the medians in scales."""
        half = 0.5 * (eta - other).abs()
        return (half - half.log1p()).sum(-1)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return ones: η is in units of the noise."""
        return torch.ones_like(eta)


class StudentTFamily(LocationScaleFamily):
    """x ~ StudentT(df, scale·η, scale).

    Args:
        df: degrees of freedom, global.
        scale: the noise scale, a number or one for each feature.
        learn_df: whether the degrees of freedom are trained.
        learn_scale: whether the scale is trained.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import StudentTFamily
        >>> StudentTFamily(df=3.0)(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "studentt"

    def __init__(
        self,
        df: float = 4.0,
        scale: float | Tensor = 1.0,
        *,
        learn_df: bool = False,
        learn_scale: bool = False,
    ) -> None:
        super().__init__(scale, learn_scale=learn_scale)
        self.set_global("df", df, learn=learn_df)

    def _noise(self, loc: Tensor, scale: Tensor) -> Any:
        return dist.StudentT(self.get_global("df"), loc, scale)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return (df + 1)/(df + 3)."""
        df = self.get_global("df")
        return ((df + 1) / (df + 3)).expand_as(eta)


class InjectiveNormal(InjectiveLikelihood):
    r"""x | z ~ Normal(scale·f(z), scale).

    *Injective:* scale·f is injective because f is and scale > 0, and a Normal of known scale is
    determined by its mean one-to-one.

    The only family with a window in nats, :meth:`information_bounds`: x/scale = f(z) + N(0, I), so
    the scale, fixed or learned, shared or per feature, does not enter it.

    Args:
        injection: f from R^K to R^D.
        scale: the noise scale, a number or a tensor of shape ``(D,)``.
        learn_scale: whether it is trained.
        covariates: a module that maps covariates to a shift of f(z).
        base: taken for the other families' sake: f(z) is in units of the noise anyway.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveNormal
        >>> from pyro_idvae.transforms import brenier_injection
        >>> f = brenier_injection(2, 5, hidden_dims=[16], lipschitz_bounds=(1.0, 4.0))
        >>> likelihood = InjectiveNormal(f, scale=0.3)
        >>> likelihood.condition(torch.zeros(7, 2)).log_prob(torch.zeros(7, 5)).shape
        torch.Size([7])
        >>> [round(nats, 3) for nats in likelihood.information_bounds()]
        [0.693, 2.833]

    Reference:
        The lower bound compares f(z) with Lz by the entropic Kneser–Poulsen theorem, Aishwarya et
        al., arXiv 2409.03664.
    """

    def __init__(
        self,
        injection: Injection,
        scale: float | Tensor = 1.0,
        *,
        learn_scale: bool = False,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        super().__init__(injection, NormalFamily(scale, learn_scale=learn_scale), covariates, base)

    @full_precision()
    def information_bounds(self) -> tuple[float, float]:
        """Return (K/2)·log(1+L²) and (K/2)·log(1+M²); see :class:`InjectiveLikelihood`."""
        return information_window(self.lipschitz_bounds(), self.latent_dim)


class InjectiveLaplace(InjectiveLikelihood):
    """x | z ~ Laplace(scale·f(z), scale).

    *Injective:* scale·f is injective because f is and scale > 0, and a Laplace distribution of
    known scale is determined by its median one-to-one.

    Args:
        injection: f from R^K to R^D.
        scale: the noise scale, a number or a tensor of shape ``(D,)``.
        learn_scale: whether it is trained.
        covariates: a module that maps covariates to a shift of f(z).
        base: taken for the other families' sake: f(z) is in units of the noise anyway.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveLaplace
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveLaplace(brenier_injection(2, 5), scale=0.5)
        >>> likelihood.condition(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        injection: Injection,
        scale: float | Tensor = 1.0,
        *,
        learn_scale: bool = False,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        super().__init__(injection, LaplaceFamily(scale, learn_scale=learn_scale), covariates, base)


class InjectiveStudentT(InjectiveLikelihood):
    """x | z ~ StudentT(df, scale·f(z), scale), with global degrees of freedom.

    *Injective:* scale·f is injective because f is and scale > 0, and a Student-t of known df and
    scale is determined by its centre of symmetry one-to-one.

    Args:
        injection: f from R^K to R^D.
        df: degrees of freedom.
        scale: the noise scale, a number or a tensor of shape ``(D,)``.
        learn_df: whether the degrees of freedom are trained.
        learn_scale: whether the scale is trained.
        covariates: a module that maps covariates to a shift of f(z).
        base: taken for the other families' sake: f(z) is in units of the noise anyway.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveStudentT
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveStudentT(brenier_injection(2, 5), df=3.0)
        >>> likelihood.condition(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        injection: Injection,
        df: float = 4.0,
        scale: float | Tensor = 1.0,
        *,
        learn_df: bool = False,
        learn_scale: bool = False,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        family = StudentTFamily(df, scale, learn_df=learn_df, learn_scale=learn_scale)
        super().__init__(injection, family, covariates, base)
