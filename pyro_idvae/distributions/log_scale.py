# SPDX-License-Identifier: Apache-2.0
"""Poisson and Gamma by the logarithm of their mean: no density goes through exp and back."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_idvae import _upstream


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
