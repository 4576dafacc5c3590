# SPDX-License-Identifier: Apache-2.0
"""Families by the log or logit of their mean: no density goes through exp and back."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_idvae import _upstream

LARGEST_RATE = 2.0**40
"""Beyond it torch draws counts from a Normal, and, near 2^63, negative ones."""


def draw_counts(rate: Tensor) -> Tensor:
    """Return Poisson draws, of rates however large: finite whole numbers from 0 on."""
    most = torch.finfo(rate.dtype).max
    rate = rate.clamp_max(most)
    draws = torch.poisson(rate.clamp_max(LARGEST_RATE))
    stretched = rate + (rate / LARGEST_RATE).sqrt() * (draws - LARGEST_RATE)
    return torch.where(rate > LARGEST_RATE, stretched.round().clamp_max(most), draws)


class LogRatePoisson(dist.Poisson):
    """Poisson of rate exp η, with log density xη − exp η − log x!, finite where exp η underflows.

    Args:
        log_rate: η, of shape ``batch``.
    """

    def __init__(self, log_rate: Tensor, validate_args: bool | None = None) -> None:
        self.log_rate = log_rate
        super().__init__(  # type: ignore[no-untyped-call]
            log_rate.exp(), validate_args=validate_args
        )

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Return the distribution with its batch expanded."""
        new: Any = LogRatePoisson.__new__(LogRatePoisson) if _instance is None else _instance
        new.log_rate = self.log_rate.expand(torch.Size(batch_shape))
        return super().expand(batch_shape, _instance=new)  # type: ignore[no-untyped-call]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density."""
        if _upstream.validates(self):
            self._validate_sample(value)
        return value * self.log_rate - self.log_rate.exp() - (value + 1).lgamma()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw counts."""
        with torch.no_grad():
            return draw_counts(self.rate.expand(self._extended_shape(torch.Size(sample_shape))))


class LargeNegativeBinomial(dist.NegativeBinomial):  # type: ignore[misc]
    """Pyro's negative binomial, whose draws are counts however large its mean."""

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw counts."""
        with torch.no_grad():
            return draw_counts(self._gamma.sample(sample_shape=torch.Size(sample_shape)))


class LogMeanGamma(dist.Gamma):
    """Gamma of mean exp η and shape c, with log density in η.

    Args:
        concentration: the shape c.
        log_mean: η, of shape ``batch``.
    """

    def __init__(
        self, concentration: Tensor, log_mean: Tensor, validate_args: bool | None = None
    ) -> None:
        concentration, self.log_mean = torch.broadcast_tensors(concentration, log_mean)
        # Only draws use the rate; the density below does not.
        limits = torch.finfo(log_mean.dtype)
        rate = (concentration * (-self.log_mean).exp()).clamp(limits.tiny, limits.max)
        super().__init__(concentration, rate, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Return the distribution with its batch expanded."""
        new: Any = LogMeanGamma.__new__(LogMeanGamma) if _instance is None else _instance
        new.log_mean = self.log_mean.expand(torch.Size(batch_shape))
        return super().expand(batch_shape, _instance=new)  # type: ignore[no-untyped-call]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density."""
        if _upstream.validates(self):
            self._validate_sample(value)
        shape: Tensor = self.concentration
        relative = value.log() - self.log_mean
        kernel = shape * (shape.log() + relative - relative.exp())
        log_prob: Tensor = kernel - value.log() - shape.lgamma()
        return log_prob


class LogitMeanBeta(dist.Beta):
    """Beta of mean sigmoid η and precision c, with log density in η.

    Args:
        precision: c, the sum of the two concentrations.
        logit_mean: η, of shape ``batch``.
    """

    def __init__(
        self, precision: Tensor, logit_mean: Tensor, validate_args: bool | None = None
    ) -> None:
        self.precision, self.logit_mean = torch.broadcast_tensors(precision, logit_mean)
        # Only draws and moments use these; the density below does not.
        tiny = torch.finfo(logit_mean.dtype).tiny
        one, zero = (
            (self.precision * logit.sigmoid()).clamp_min(tiny)
            for logit in (self.logit_mean, -self.logit_mean)
        )
        super().__init__(one, zero, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Return the distribution with its batch expanded."""
        new: Any = LogitMeanBeta.__new__(LogitMeanBeta) if _instance is None else _instance
        new.precision = self.precision.expand(torch.Size(batch_shape))
        new.logit_mean = self.logit_mean.expand(torch.Size(batch_shape))
        return super().expand(batch_shape, _instance=new)  # type: ignore[no-untyped-call]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density."""
        if _upstream.validates(self):
            self._validate_sample(value)
        sides = ((self.logit_mean, value.log()), (-self.logit_mean, (-value).log1p()))
        log_prob: Tensor = self.precision.lgamma()
        for logit, log_value in sides:
            log_share = self.precision.log() + logsigmoid(logit)
            share = log_share.exp()
            # Γ(a) = Γ(1 + a)/a, and log a does not underflow.
            log_prob = log_prob + (share - 1) * log_value - (share + 1).lgamma() + log_share
        return log_prob
