# SPDX-License-Identifier: Apache-2.0
"""Counts: log-rates f(z), with global dispersion and, if wanted, extra zeros."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from pyro_idvae._checks import check_real
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.injective import InjectiveLikelihood
from pyro_idvae.distributions.log_scale import LargeNegativeBinomial, LogRatePoisson
from pyro_idvae.errors import ArgumentError
from pyro_idvae.transforms import Injection


class CountFamily(Family):
    """Whole numbers from 0 on."""

    of_log_rates = True
    support: constraints.Constraint = constraints.nonnegative_integer

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return log(1 + counts)."""
        return x.log1p()

    def initial_eta(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return log(x + ½)."""
        return (x + 0.5).log()

    def eta_of_mean(self, mean: Tensor, least: Tensor) -> Tensor:
        """Return the logarithm of the mean."""
        return torch.maximum(mean, least.clamp_min(torch.finfo(mean.dtype).tiny)).log()


class PoissonFamily(CountFamily):
    """x ~ Poisson(exp η).

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import PoissonFamily
        >>> PoissonFamily()(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "poisson"

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return Poisson(exp η)."""
        self.refuse_total_count(total_count)
        return LogRatePoisson(eta)

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the sum of (√λ − √λ′)²/2."""
        return 0.5 * ((0.5 * eta).exp() - (0.5 * other).exp()).square().sum(-1)

    def least_curvature(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        """Return the least rate."""
        return (centre - radius).exp()

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return exp η."""
        return eta.exp()


class NegativeBinomialFamily(CountFamily):
    """x ~ NegativeBinomial with mean exp η and variance exp η + exp(2η)/concentration.

    Args:
        concentration: inverse dispersion, a number or one for each feature.
        learn_concentration: whether it is trained.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import NegativeBinomialFamily
        >>> NegativeBinomialFamily()(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "negativebinomial"

    def __init__(
        self, concentration: float | Tensor = 10.0, *, learn_concentration: bool = True
    ) -> None:
        super().__init__()
        self.set_global("concentration", concentration, learn=learn_concentration)

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return the negative binomial of mean exp η."""
        self.refuse_total_count(total_count)
        concentration = self.get_global("concentration")
        return LargeNegativeBinomial(concentration, logits=eta - concentration.log())

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the sum of r·log[(1 − √(pp′))/√((1 − p)(1 − p′))]."""
        concentration = self.get_global("concentration")
        logits, others = eta - concentration.log(), other - concentration.log()
        both = 0.5 * (logsigmoid(logits) + logsigmoid(others))
        kept = 0.5 * (logsigmoid(-logits) + logsigmoid(-others))
        return (concentration * ((-torch.expm1(both)).log() - kept)).sum(-1)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return r·m/(r + m) for mean m and concentration r."""
        concentration = self.get_global("concentration")
        return concentration * (eta - concentration.log()).sigmoid()


class ZeroInflatedFamily(Family):
    """A count family with extra zeros: x = 0 with probability ``gate``, else as the base says.

    Args:
        base: the family of the counts.
        gate: probability of an extra zero, where training starts; one for all data.
        learn_gate: whether it is trained.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import PoissonFamily, ZeroInflatedFamily
        >>> ZeroInflatedFamily(PoissonFamily(), gate=0.3)(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 5])
    """

    name = "zeroinflated"

    def __init__(self, base: Family, gate: float = 0.1, *, learn_gate: bool = True) -> None:
        super().__init__()
        if not isinstance(base, Family) or not base.factorised or not base.support.is_discrete:
            raise ArgumentError(
                f"base is a {type(base).__name__}: pass a family of counts, e.g. PoissonFamily()"
            )
        self.base = base
        self.support = base.support
        logit = torch.tensor(check_real("gate", gate, above=0.0, below=1.0)).logit()
        if learn_gate:
            self.gate_logits = nn.Parameter(logit)
        else:
            self.register_buffer("gate_logits", logit)

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return the zero-inflated distribution."""
        base = self.base(eta, total_count)
        return dist.ZeroInflatedDistribution(base, gate_logits=self.gate_logits)

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return what the base returns."""
        return self.base.standardize(x, parameter_dim)

    def initial_eta(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return what the base returns."""
        return self.base.initial_eta(x, parameter_dim)


class InjectivePoisson(InjectiveLikelihood):
    """x | z ~ Poisson(exp f(z)), coordinate by coordinate.

    *Injective:* f is, exp is strictly increasing, and a Poisson is determined by its rate
    one-to-one.

    Args:
        injection: f from R^K to R^D.
        covariates: a module that maps covariates, e.g. log library sizes, to a shift of the
            log-rates.
        base: observations, for f(z) in noise units at their base rates.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectivePoisson
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectivePoisson(brenier_injection(2, 5))
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
        super().__init__(injection, PoissonFamily(), covariates, base)


class InjectiveNegativeBinomial(InjectiveLikelihood):
    """x | z ~ NegativeBinomial with mean exp f(z) and a global concentration.

    *Injective:* f is, exp is strictly increasing, and with the concentration known a negative
    binomial is determined by its mean one-to-one.

    Args:
        injection: f from R^K to R^D.
        concentration: inverse dispersion, a number or a tensor of shape ``(D,)``.
        learn_concentration: whether it is trained.
        covariates: a module that maps covariates to a shift of the log-means.
        base: observations, for f(z) in noise units at their base rates.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveNegativeBinomial
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveNegativeBinomial(brenier_injection(2, 5))
        >>> likelihood.condition(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        injection: Injection,
        concentration: float | Tensor = 10.0,
        *,
        learn_concentration: bool = True,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        family = NegativeBinomialFamily(concentration, learn_concentration=learn_concentration)
        super().__init__(injection, family, covariates, base)


class InjectiveZeroInflated(InjectiveLikelihood):
    """A count likelihood with one global probability of extra zeros.

    *Injective:* the base is, and with the gate π < 1 known, π·δ₀ + (1 − π)·P determines P; a gate
    that depended on z could undo a change of P on a finite support.

    Args:
        base: an injective count likelihood, e.g. :class:`InjectivePoisson`.
        gate: probability of an extra zero, where training starts.
        learn_gate: whether it is trained.

    Raises:
        ArgumentError: for a base that is no injective likelihood of counts.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectivePoisson, InjectiveZeroInflated
        >>> from pyro_idvae.transforms import brenier_injection
        >>> likelihood = InjectiveZeroInflated(InjectivePoisson(brenier_injection(2, 5)), gate=0.3)
        >>> likelihood.condition(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 5])
    """

    def __init__(
        self, base: InjectiveLikelihood, gate: float = 0.1, *, learn_gate: bool = True
    ) -> None:
        counts = ("poisson", "negativebinomial", "binomial")
        if not isinstance(base, InjectiveLikelihood) or base.family.name not in counts:
            raise ArgumentError(
                f"base is a {type(base).__name__}: zero inflation wraps an injective Poisson, "
                "NegativeBinomial or Binomial likelihood"
            )
        family = ZeroInflatedFamily(base.family, gate, learn_gate=learn_gate)
        super().__init__(base.injection, family, base.covariates)
