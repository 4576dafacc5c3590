# SPDX-License-Identifier: Apache-2.0
"""Amortised posteriors of a component and of the latents given it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_idvae._checks import check_count, check_hidden_dims
from pyro_idvae.distributions.normal_mixture import NormalMixture
from pyro_idvae.models.encoder import (
    MIN_SCALE,
    cholesky_factor,
    joined,
    mlp,
    numbers_of_normal,
)


class MixturePosterior(NamedTuple):
    """q(y|x) and q(z|x, y) of some rows.

    Attributes:
        logits: of q(y|x), of shape ``batch + (C,)``.
        loc: means of q(z|x, y), of shape ``batch + (C, K)``.
        scale: standard deviations, likewise; or Cholesky factors, of shape ``batch + (C, K, K)``.
    """

    logits: Tensor
    loc: Tensor
    scale: Tensor

    @property
    def full(self) -> bool:
        """Whether covariances are full."""
        return self.scale.dim() > self.loc.dim()

    def component(self) -> Any:
        """Return q(y|x)."""
        return dist.Categorical(logits=self.logits)

    def given(self, component: Tensor) -> Any:
        """Return q(z|x, y) for components that broadcast with the rows."""
        shape = torch.broadcast_shapes(component.shape, self.logits.shape[:-1])

        def chosen(values: Tensor) -> Tensor:
            tail = values.shape[self.logits.dim() :]
            place = component.expand(shape).reshape(*shape, 1, *(1 for _ in tail))
            wide = values.expand(*shape, *values.shape[self.logits.dim() - 1 :])
            index = place.expand(*shape, 1, *tail)
            return wide.gather(len(shape), index).squeeze(len(shape))

        loc, scale = chosen(self.loc), chosen(self.scale)
        if self.full:
            return dist.MultivariateNormal(loc, scale_tril=scale)
        return dist.Normal(loc, scale).to_event(1)

    def marginal(self) -> Any:
        """Return q(z|x), the components summed out; reparametrised where they are diagonal."""
        if not self.full:
            return NormalMixture(self.loc, self.scale, self.logits)
        components = dist.MultivariateNormal(self.loc, scale_tril=self.scale)
        return dist.MixtureSameFamily(self.component(), components)


class MixtureEncoder(nn.Module):
    """q(y|x) and q(z|x, y) as outputs of one network.

    Args:
        input_dim: width of the input.
        latent_dim: K.
        num_components: C.
        hidden_dims: widths of the hidden layers.
        covariance: of q(z|x, y), ``"diagonal"`` or ``"full"`` (Cholesky factors).
        covariate_dim: width of covariates that are appended to the input, 0 for none.
        activation: constructor of the units.

    Shapes: inputs ``batch + (input_dim,)``.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import MixtureEncoder
        >>> posterior = MixtureEncoder(5, 2, 3, hidden_dims=[16])(torch.zeros(7, 5))
        >>> posterior.component().probs.shape, posterior.given(torch.tensor(1)).batch_shape
        (torch.Size([7, 3]), torch.Size([7]))
    """

    def __init__(
        self,
        input_dim: int,
        latent_dim: int,
        num_components: int,
        hidden_dims: Sequence[int] = (512, 512),
        *,
        covariance: str = "diagonal",
        covariate_dim: int = 0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.input_dim = check_count("input_dim", input_dim)
        self.latent_dim = check_count("latent_dim", latent_dim)
        self.num_components = check_count("num_components", num_components, minimum=2)
        self.covariate_dim = check_count("covariate_dim", covariate_dim, minimum=0)
        self.covariance = covariance
        self._sizes = numbers_of_normal(latent_dim, covariance)
        outputs = num_components * (1 + sum(self._sizes))
        widths = [input_dim + covariate_dim, *check_hidden_dims(hidden_dims), outputs]
        self.network = mlp(widths, activation)

    def forward(self, x: Tensor, covariates: Tensor | None = None) -> MixturePosterior:
        """Return the posterior of each row."""
        x = joined(x, covariates, self.input_dim, self.covariate_dim)
        count = self.num_components
        logits, rest = self.network(x).to(x.dtype).split([count, count * sum(self._sizes)], dim=-1)
        loc, raw, below = rest.unflatten(-1, (count, -1)).split(self._sizes, dim=-1)
        if self.covariance == "full":
            return MixturePosterior(logits, loc, cholesky_factor(raw, below))
        return MixturePosterior(logits, loc, softplus(raw) + MIN_SCALE)
