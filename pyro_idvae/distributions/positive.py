# SPDX-License-Identifier: Apache-2.0
"""Positive data and shares: log-mean or logit-mean f(z), with a global shape."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.distributions import constraints

from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.injective import InjectiveLikelihood
from pyro_idvae.distributions.log_scale import LogitMeanBeta, LogMeanGamma
from pyro_idvae.transforms import Injection


class GammaFamily(Family):
    """x ~ Gamma(concentration, rate = concentration·exp(−η)), of mean exp η.

    Args:
        concentration: the shape, a number or one for each feature.
        learn_concentration: whether it is trained.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import GammaFamily
        >>> GammaFamily(concentration=2.0)(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "gamma"
    support = constraints.positive
    fill = 1.0

    def __init__(
        self, concentration: float | Tensor = 1.0, *, learn_concentration: bool = True
    ) -> None:
        super().__init__()
        self.set_global("concentration", concentration, learn=learn_concentration)

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return the Gamma of mean exp η."""
        self.refuse_total_count(total_count)
        return LogMeanGamma(self.get_global("concentration"), eta)

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the sum of c·log cosh((η − η′)/2)."""
        half = 0.5 * (eta - other).abs()
        log_cosh = half + (-2 * half).exp().log1p() - math.log(2)
        return (self.get_global("concentration") * log_cosh).sum(-1)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return the concentration."""
        return self.get_global("concentration").expand_as(eta)

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return logarithms."""
        return x.log()


class BetaFamily(Family):
    """x ~ Beta(m·precision, (1 − m)·precision), of mean m = sigmoid η.

    Args:
        precision: how concentrated around the mean, a number or one for each feature.
        learn_precision: whether it is trained.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import BetaFamily
        >>> BetaFamily(precision=8.0)(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "beta"
    support = constraints.unit_interval
    fill = 0.5

    def __init__(self, precision: float | Tensor = 5.0, *, learn_precision: bool = True) -> None:
        super().__init__()
        self.set_global("precision", precision, learn=learn_precision)

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return the Beta of mean sigmoid η."""
        self.refuse_total_count(total_count)
        return LogitMeanBeta(self.get_global("precision"), eta)

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the sum of ½log B(a, b) + ½log B(a′, b′) − log B at the mean parameters."""
        precision = self.get_global("precision")
        a, b = precision * eta.sigmoid(), precision * (-eta).sigmoid()
        c, d = precision * other.sigmoid(), precision * (-other).sigmoid()

        def log_beta(one: Tensor, zero: Tensor) -> Tensor:
            return one.lgamma() + zero.lgamma() - (one + zero).lgamma()

        ends = 0.5 * (log_beta(a, b) + log_beta(c, d))
        return (ends - log_beta(0.5 * (a + c), 0.5 * (b + d))).sum(-1)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return (c·m(1 − m))²·(ψ′(cm) + ψ′(c(1 − m))) for mean m and precision c."""
        precision = self.get_global("precision")
        one, zero = eta.sigmoid(), (-eta).sigmoid()
        curvature = (precision * one).polygamma(1) + (precision * zero).polygamma(1)
        return (precision * one * zero).square() * curvature

    def check_support(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Check for 0 < x < 1: at the ends the density is 0 or infinite."""
        return (x > 0) & (x < 1)

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return logits."""
        return x.logit()


class InjectiveGamma(InjectiveLikelihood):
    """x | z ~ Gamma with mean exp f(z) and a global shape.

    *Injective:* f is, exp is strictly increasing, and with the shape known a Gamma is determined
    by its mean one-to-one.

    Args:
        injection: f from R^K to R^D.
        concentration: the shape, a number or a tensor of shape ``(D,)``.
        learn_concentration: whether it is trained.
        covariates: a module that maps covariates to a shift of the log-means.
        base: observations, for f(z) in noise units at their base rates.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveGamma
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveGamma(brenier_injection(2, 5))
        >>> likelihood.condition(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        injection: Injection,
        concentration: float | Tensor = 1.0,
        *,
        learn_concentration: bool = True,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        family = GammaFamily(concentration, learn_concentration=learn_concentration)
        super().__init__(injection, family, covariates, base)


class InjectiveBeta(InjectiveLikelihood):
    """x | z ~ Beta with mean sigmoid f(z) and a global precision.

    *Injective:* f is, the logistic function is strictly increasing, and with the precision known a
    Beta is determined by its mean one-to-one.

    Args:
        injection: f from R^K to R^D.
        precision: a number or a tensor of shape ``(D,)``.
        learn_precision: whether it is trained.
        covariates: a module that maps covariates to a shift of the logit-means.
        base: observations, for f(z) in noise units at their base rates.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveBeta
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveBeta(brenier_injection(2, 5), precision=8.0)
        >>> likelihood.condition(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        injection: Injection,
        precision: float | Tensor = 5.0,
        *,
        learn_precision: bool = True,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        super().__init__(
            injection, BetaFamily(precision, learn_precision=learn_precision), covariates, base
        )
