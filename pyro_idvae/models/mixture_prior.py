# SPDX-License-Identifier: Apache-2.0
"""Mixtures of Normals as a prior, with means that stay apart and scales that stay small."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_idvae._checks import check_count, check_floating, check_interval, check_real
from pyro_idvae.distributions.normal_mixture import NormalMixture
from pyro_idvae.errors import ArgumentError, NotInjectiveError, ShapeError

SCALE_BOUNDS = (0.05, 0.55)
RADIUS = 2.0
APART = 1e-3
"""Least distance of two means that are given, in the larger of the scales' bounds."""


class MixturePrior(PyroModule):
    r"""Components that are equally likely, Normals of z with distinct means and bounded scales.

    .. math:: y \sim \mathrm{Categorical}(1/C), \qquad
        z \mid y \sim N(m_y, Q_y\operatorname{diag}(s_y^2)\,Q_y^\top), \qquad
        s_{yk} \in (s_{\min}, s_{\max})

    with Q_y the identity, or a rotation that is learned.

    Mixtures of Normals are identified up to the order of their components, so that means which
    differ make p(z|y) differ: z tells components apart. That the data do is another matter.
    Where z → p(x|z) is injective two components give the same p(x) only if the noise hides the
    difference, which Normal or Poisson noise never does, and noise on few values may: with one
    binary x, two components of equal mean rate have the same p(x), whatever their z.

    Args:
        num_components: C.
        latent_dim: K.
        means: ``"simplex"``, corners of a regular simplex, for C ≤ K + 1; ``"circle"`` in the first
            two dimensions, for K ≥ 2; or a tensor of shape ``(C, K)``. By default the first of
            these that is possible.
        radius: distance of simplex and circle from 0.
        free_means: whether means are learned. Nothing keeps them apart then.
        scale_bounds: (s_min, s_max).
        covariance: ``"diagonal"``, or ``"full"`` with a rotation for each component.

    Raises:
        ArgumentError: for bounds, means or a covariance that are not possible.
        NotInjectiveError: for means that are not distinct.
        ShapeError: for means of another shape.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import MixturePrior
        >>> prior = MixturePrior(3, 2)
        >>> prior.given(torch.tensor([0, 2])).event_shape
        torch.Size([2])
        >>> prior().batch_shape
        torch.Size([])
    """

    means: Tensor

    def __init__(
        self,
        num_components: int,
        latent_dim: int,
        *,
        means: str | Tensor | None = None,
        radius: float = RADIUS,
        free_means: bool = False,
        scale_bounds: tuple[float, float] = SCALE_BOUNDS,
        covariance: str = "diagonal",
    ) -> None:
        super().__init__()
        if covariance not in ("diagonal", "full"):
            raise ArgumentError(f"covariance={covariance!r}: expected 'diagonal' or 'full'")
        self.num_components = check_count("num_components", num_components, minimum=2)
        self.latent_dim = check_count("latent_dim", latent_dim)
        self.scale_bounds = check_interval("scale_bounds", scale_bounds)
        if not 0 < self.scale_bounds[0] < self.scale_bounds[1]:
            raise ArgumentError(
                f"scale_bounds={scale_bounds!r}: expected two numbers above 0, the first below the "
                "other"
            )
        found = self._means(means, check_real("radius", radius, above=0.0))
        if free_means:
            self.means = nn.Parameter(found)
        else:
            self.register_buffer("means", found)
        self.raw_scale = nn.Parameter(torch.zeros(num_components, latent_dim))
        self.covariance = covariance
        if covariance == "full":
            self.raw_basis = nn.Parameter(torch.eye(latent_dim).repeat(num_components, 1, 1))

    def _means(self, means: str | Tensor | None, radius: float) -> Tensor:
        count, dim = self.num_components, self.latent_dim
        if isinstance(means, Tensor):
            if check_floating("means", means).shape != (count, dim):
                raise ShapeError(
                    f"means has shape {tuple(means.shape)}: expected {(count, dim)}, a mean for "
                    "each component"
                )
            nearest = float(torch.pdist(means).min())
            if not nearest > APART * self.scale_bounds[1]:
                raise NotInjectiveError(
                    f"means: the nearest two are {nearest:g} apart; components of equal means "
                    "cannot be told apart, give distinct ones"
                )
            return means.detach().clone()
        kind = means or ("simplex" if count <= dim + 1 else "circle")
        if kind == "simplex" and count <= dim + 1:
            return radius * simplex(count, dim)
        if kind == "circle" and dim >= 2:
            angle = 2 * math.pi * torch.arange(count) / count
            found = torch.zeros(count, dim)
            found[:, 0], found[:, 1] = angle.cos(), angle.sin()
            return radius * found
        raise ArgumentError(
            f"means={means!r} with num_components={count} and latent_dim={dim}: expected "
            "'simplex' with at most one component more than latents, 'circle' with two latents or "
            "more, or a tensor of distinct means"
        )

    def scales(self) -> Tensor:
        """Return s, of shape ``(C, K)``."""
        low, high = self.scale_bounds
        return low + (high - low) * self.raw_scale.sigmoid()

    def _factors(self) -> Tensor:
        """Return Cholesky factors of the covariances, of shape ``(C, K, K)``."""
        basis = torch.linalg.qr(self.raw_basis)[0] * self.scales().unsqueeze(-2)
        found: Tensor = torch.linalg.cholesky(basis @ basis.mT)
        return found

    def component(self) -> Any:
        """Return p(y)."""
        logits = self.means.new_zeros(self.num_components)
        return dist.Categorical(logits=logits)

    def given(self, component: Tensor) -> Any:
        """Return p(z|y) for components of any shape."""
        loc = self.means[component]
        if self.covariance == "full":
            return dist.MultivariateNormal(loc, scale_tril=self._factors()[component])
        return dist.Normal(loc, self.scales()[component]).to_event(1)

    def forward(self) -> Any:
        """Return p(z), the components summed out."""
        if self.covariance == "full":
            components = dist.MultivariateNormal(self.means, scale_tril=self._factors())
            return dist.MixtureSameFamily(self.component(), components)
        return NormalMixture(self.means, self.scales(), self.component().logits)


def simplex(count: int, dim: int) -> Tensor:
    """Return corners of a regular simplex at distance 1 from 0, of shape ``(count, dim)``.

    Args:
        count: corners, at most dim + 1.
        dim: of the space.
    """
    corners = torch.eye(count, dtype=torch.float64) - 1 / count
    # Coordinates in the plane that the corners lie in; the first one has a positive place.
    left, values, _ = torch.linalg.svd(corners)
    found = (left * values)[:, : count - 1]
    found = found * found[0].sign()
    whole = torch.zeros(count, dim, dtype=torch.float64)
    whole[:, : count - 1] = found / found.norm(dim=-1, keepdim=True)
    return whole.to(torch.get_default_dtype())
