# SPDX-License-Identifier: Apache-2.0
"""A linear Normal model whose expectations are sums: what objectives' optima are checked on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn


def signs(count: int) -> Tensor:
    """Return all combinations of ±1, of shape ``(2**count, count)``."""
    return torch.tensor(list(itertools.product((1.0, -1.0), repeat=count)), dtype=torch.double)


def fixed_normal(noise: Tensor) -> type[Any]:
    """Return a class of Normals whose draws are ``loc + scale * noise``."""

    class FixedNormal(dist.Normal):
        """A Normal with given noise."""

        def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
            """Return the draw."""
            return self.loc + self.scale * noise

    return FixedNormal


class LinearModel(PyroModule):
    """x ~ N(w z, σ²), z ~ N(0, 1), coordinate by coordinate.

    Args:
        size: coordinates.
        noise: σ.
        weight: w at the start.
    """

    def __init__(self, size: int, noise: float, weight: float) -> None:
        super().__init__()
        self.noise = noise
        self.weight = nn.Parameter(torch.full((size,), weight, dtype=torch.double))

    def forward(self, x: Tensor, noise: Tensor, total: int | None = None) -> None:
        """Run the model on rows that stand for ``total``."""
        zeros = torch.zeros_like(self.weight)
        with pyro.plate("data", total or len(x), subsample=torch.arange(len(x))):
            z = pyro.sample("z", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
            pyro.sample("x", dist.Normal(self.weight * z, self.noise).to_event(1), obs=x)


class LinearGuide(PyroModule):
    """z ~ N(g x, s²), coordinate by coordinate, at given noise.

    Args:
        size: coordinates.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((size,), 0.3, dtype=torch.double))
        self.log_scale = nn.Parameter(torch.full((size,), -0.3, dtype=torch.double))

    def forward(self, x: Tensor, noise: Tensor, total: int | None = None) -> None:
        """Run the guide on rows that stand for ``total``."""
        normal = fixed_normal(noise)
        with pyro.plate("data", total or len(x), subsample=torch.arange(len(x))):
            loc = self.gain * x
            pyro.sample("z", normal(loc, self.log_scale.exp().expand_as(loc)).to_event(1))


class LinearGaussian:
    r"""A linear Normal model and guide on data of given variances.

    Rows and noise are all combinations of signs, so means over rows are expectations, to the last
    bit: :math:`\frac1N\sum_i x_{ij}^2 = v_j` and the draws of z have their means and variances.

    Args:
        variances: v, of the coordinates of x.
        noise: σ.
        weight: of the decoder at the start.

    Example:
        >>> from pyro.infer import TraceMeanField_ELBO
        >>> from pyro_idvae.testing.linear_gaussian import LinearGaussian
        >>> bed = LinearGaussian([4.0], noise=1.0)
        >>> bed.minimise(TraceMeanField_ELBO())
        >>> bed.scales().square().round(decimals=3)  # σ²/v
        tensor([0.2500], dtype=torch.float64)
    """

    def __init__(
        self, variances: Sequence[float] = (4.0, 1.5, 0.5), noise: float = 1.0, weight: float = 0.8
    ) -> None:
        self.variances = torch.tensor(list(variances), dtype=torch.double)
        self.noise = noise
        size = len(self.variances)
        self.model, self.guide = LinearModel(size, noise, weight), LinearGuide(size)
        pattern = signs(size)
        self.x = (pattern * self.variances.sqrt()).repeat_interleave(len(pattern), 0)
        self.draws = pattern.repeat(len(pattern), 1)

    def minimise(self, objective: Any, *, num_steps: int = 300, rate: float = 0.05) -> None:
        """Minimise an objective of all data."""
        parameters = [*self.model.parameters(), *self.guide.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.8, 0.95))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: (1 - step / num_steps) ** 2
        )
        with pyro.validation_enabled(False):
            for _ in range(num_steps):
                optimizer.zero_grad()
                objective.loss_and_grads(self.model, self.guide, self.x, self.draws)
                optimizer.step()
                schedule.step()

    def scales(self, guide: Any = None) -> Tensor:
        """Return the standard deviations of q(z|x), those of a trained guide if one is given."""
        return self._normal(guide)[1].mean(0)

    def rates(self, guide: Any = None) -> Tensor:
        """Return the KL of each coordinate, the mean over rows, in nats."""
        loc, scale = self._normal(guide)
        nats = 0.5 * (loc.square() + scale.square() - 1) - scale.log()
        return nats.mean(0)

    @torch.no_grad()
    def _normal(self, guide: Any) -> tuple[Tensor, Tensor]:
        guide = self.guide if guide is None else guide
        trace = pyro.poutine.trace(guide).get_trace(self.x, self.draws)
        normal = trace.nodes["z"]["fn"].base_dist
        return normal.loc, normal.scale

    def best_rates(self, weight: float = 1.0) -> Tensor:
        r"""Return the rates of the β-VAE's optimum, ½ log(v/βσ²) or 0."""
        return 0.5 * (self.variances / (weight * self.noise**2)).log().clamp(min=0.0)
