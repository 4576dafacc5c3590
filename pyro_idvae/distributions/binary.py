# SPDX-License-Identifier: Apache-2.0
"""Binary data and numbers of successes: logits f(z)."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import softplus

from pyro_idvae._checks import check_count
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.injective import InjectiveLikelihood
from pyro_idvae.transforms import Injection


def logit_distance(logits: Tensor, other: Tensor) -> Tensor:
    """Return −log(√(pp′) + √(qq′)) = ½A(η) + ½A(η′) − A((η+η′)/2), with A = softplus."""
    middle = softplus(0.5 * (logits + other))
    return 0.5 * (softplus(logits) + softplus(other)) - middle


def logit_of_share(share: Tensor, least: Tensor) -> Tensor:
    """Return the logits of shares p, brought to where p(1 − p) is at least ``least``."""
    edge = 0.5 - (0.25 - least).clamp_min(0.0).sqrt()
    edge = edge.clamp_min(torch.finfo(share.dtype).eps)
    return torch.minimum(torch.maximum(share, edge), 1 - edge).logit()


def least_logit_curvature(centre: Tensor, radius: float | Tensor) -> Tensor:
    """Return the least p(1 − p) of logits within a radius: that of the one farthest from 0."""
    farthest = centre.abs() + radius
    return farthest.sigmoid() * (-farthest).sigmoid()


class BernoulliFamily(Family):
    """x ~ Bernoulli(logits=η).

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import BernoulliFamily
        >>> BernoulliFamily()(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "bernoulli"
    support = constraints.boolean
    least_information = 0.05

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return Bernoulli(logits=η)."""
        self.refuse_total_count(total_count)
        return dist.Bernoulli(logits=eta)

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the sum of −log(√(pp′) + √(qq′))."""
        return logit_distance(eta, other).sum(-1)

    def least_curvature(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        """Return the least p(1 − p)."""
        return least_logit_curvature(centre, radius)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return p(1 − p)."""
        return eta.sigmoid() * (-eta).sigmoid()

    def initial_eta(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the logits of (x + ½)/2."""
        return (0.5 * x + 0.25).logit()

    def eta_of_mean(self, mean: Tensor, least: Tensor) -> Tensor:
        """Return the logits of the mean."""
        return logit_of_share(mean, least)


class BinomialFamily(Family):
    """x ~ Binomial(total_count, logits=η).

    Args:
        total_count: number of trials, unless one is given with each call.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import BinomialFamily
        >>> BinomialFamily(total_count=16)(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "binomial"
    least_information = 0.05

    def __init__(self, total_count: int = 1) -> None:
        super().__init__()
        self.total_count = check_count("total_count", total_count)
        self.support = constraints.integer_interval(0, self.total_count)

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return Binomial(total_count, logits=η)."""
        count = self.total_count if total_count is None else total_count
        return dist.Binomial(count, logits=eta)

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the Bernoulli distance times the number of trials."""
        count = self.total_count if total_count is None else total_count
        return count * logit_distance(eta, other).sum(-1)

    def least_curvature(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        """Return n times the least p(1 − p)."""
        return self.total_count * least_logit_curvature(centre, radius)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return n·p(1 − p)."""
        count = self.total_count if total_count is None else total_count
        return count * eta.sigmoid() * (-eta).sigmoid()

    def initial_eta(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the logits of (x + ½)/(n + 1)."""
        return ((x + 0.5) / (self.total_count + 1)).clamp(1e-3, 1 - 1e-3).logit()

    def eta_of_mean(self, mean: Tensor, least: Tensor) -> Tensor:
        """Return the logits of the mean share of successes."""
        return logit_of_share(mean / self.total_count, least / self.total_count)

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the share of successes."""
        return x / self.total_count


class InjectiveBernoulli(InjectiveLikelihood):
    """x | z ~ Bernoulli(logits=f(z)), coordinate by coordinate.

    *Injective:* f is, the logistic function is strictly increasing, and a Bernoulli is determined
    by its probability one-to-one.

    Args:
        injection: f from R^K to R^D.
        covariates: a module that maps covariates to a shift of the logits.
        base: observations, for f(z) in noise units at their base rates.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveBernoulli
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveBernoulli(brenier_injection(2, 5))
        >>> likelihood.condition(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        injection: Injection,
        *,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        super().__init__(injection, BernoulliFamily(), covariates, base)


class InjectiveBinomial(InjectiveLikelihood):
    """x | z ~ Binomial(total_count, logits=f(z)), coordinate by coordinate.

    *Injective:* f is, the logistic function is strictly increasing, and a Binomial with at least
    one trial is determined by its probability one-to-one.

    Args:
        injection: f from R^K to R^D.
        total_count: number of trials, unless ``condition`` is given one.
        covariates: a module that maps covariates to a shift of the logits.
        base: observations, for f(z) in noise units at their base rates.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveBinomial
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveBinomial(brenier_injection(2, 5), total_count=16)
        >>> likelihood.condition(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        injection: Injection,
        total_count: int,
        *,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        super().__init__(injection, BinomialFamily(total_count), covariates, base)
