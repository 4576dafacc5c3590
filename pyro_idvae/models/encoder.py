# SPDX-License-Identifier: Apache-2.0
"""Amortised Normal posteriors from a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_idvae._checks import check_callable, check_count, check_hidden_dims, check_last_dim
from pyro_idvae.errors import ArgumentError

MIN_SCALE = 1e-5


def mlp(widths: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers of these widths with the activation between them.

    Example:
        >>> from pyro_idvae.models import mlp
        >>> len(mlp([2, 16, 5]))
        3
    """
    check_hidden_dims(widths, "widths")
    check_callable("activation", activation, "a constructor such as nn.ReLU", classes=True)
    if len(widths) < 2:
        raise ArgumentError(f"widths={list(widths)!r}: expected at least an input and an output")
    layers: list[nn.Module] = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), activation()]
    return nn.Sequential(*layers[:-1])


class Encoder(nn.Module):
    """q(z|x): a Normal whose mean and covariance are outputs of one network.

    Args:
        input_dim: width of the input.
        latent_dim: K.
        hidden_dims: widths of the hidden layers.
        covariance: ``"diagonal"`` or ``"full"`` (a Cholesky factor).
        covariate_dim: width of covariates that are appended to the input, 0 for none.
        activation: constructor of the units.

    Shapes: inputs ``batch + (input_dim,)``; the distribution returned has batch shape ``batch`` and
    event shape ``(latent_dim,)``.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import Encoder
        >>> Encoder(5, 2, hidden_dims=[16])(torch.zeros(7, 5)).sample().shape
        torch.Size([7, 2])
    """

    def __init__(
        self,
        input_dim: int,
        latent_dim: int,
        hidden_dims: Sequence[int] = (512, 512),
        *,
        covariance: str = "diagonal",
        covariate_dim: int = 0,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self._sizes = numbers_of_normal(latent_dim, covariance)
        self.input_dim = check_count("input_dim", input_dim)
        self.latent_dim = check_count("latent_dim", latent_dim)
        self.covariate_dim = check_count("covariate_dim", covariate_dim, minimum=0)
        self.covariance = covariance
        widths = [input_dim + covariate_dim, *check_hidden_dims(hidden_dims), sum(self._sizes)]
        self.network = mlp(widths, activation)

    def forward(self, x: Tensor, covariates: Tensor | None = None) -> Any:
        """Return q(z|x) as a Pyro distribution."""
        x = joined(x, covariates, self.input_dim, self.covariate_dim)
        # Under autocast in shorter numbers, which densities are not computed in.
        loc, raw, below = self.network(x).to(x.dtype).split(self._sizes, dim=-1)
        if self.covariance == "diagonal":
            return dist.Normal(loc, softplus(raw) + MIN_SCALE).to_event(1)
        return dist.MultivariateNormal(loc, scale_tril=cholesky_factor(raw, below))


def numbers_of_normal(latent_dim: int, covariance: str) -> list[int]:
    """Return how many numbers make a Normal's mean, its diagonal, and what is below that.

    Args:
        latent_dim: K.
        covariance: ``"diagonal"`` or ``"full"``.

    Raises:
        ArgumentError: for another covariance, or no K.
    """
    if covariance not in ("diagonal", "full"):
        raise ArgumentError(f"covariance={covariance!r}: expected 'diagonal' or 'full'")
    check_count("latent_dim", latent_dim)
    below = latent_dim * (latent_dim - 1) // 2 if covariance == "full" else 0
    return [latent_dim, latent_dim, below]


def cholesky_factor(raw: Tensor, below: Tensor) -> Tensor:
    """Return lower triangular matrices with a positive diagonal, of shape ``batch + (K, K)``.

    Args:
        raw: of shape ``batch + (K,)``, for the diagonal.
        below: of shape ``batch + (K(K − 1)/2,)``.
    """
    size = raw.shape[-1]
    factor = torch.diag_embed(softplus(raw) + MIN_SCALE)
    rows, columns = torch.tril_indices(size, size, -1, device=raw.device)
    factor[..., rows, columns] = below
    return factor


def joined(x: Tensor, covariates: Tensor | None, input_dim: int, covariate_dim: int) -> Tensor:
    """Return inputs with their covariates, or raise for widths that an encoder is not made for."""
    check_last_dim("x", x, input_dim)
    if (covariates is None) != (covariate_dim == 0):
        raise ArgumentError(
            f"covariates={'None' if covariates is None else 'given'}: the encoder was built with "
            f"covariate_dim={covariate_dim}"
        )
    if covariates is None:
        return x
    return torch.cat([x, check_last_dim("covariates", covariates, covariate_dim)], -1)
