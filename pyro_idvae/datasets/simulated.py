# SPDX-License-Identifier: Apache-2.0
"""Simulated data of classical latent variable models, with the truth they came from."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_idvae.datasets.sizes import check_number, check_seed, check_size

MIXTURE_REGIMES: dict[str, tuple[float, float]] = {
    "one cluster": (-1.0, -1.0),
    "overlapping": (-1.0, 1.0),
    "separated": (-5.0, 5.0),
}
"""Means of the two components; their standard deviations are 1. The first regime's are one."""

FIRST_WEIGHT = 0.25


class MixtureData(NamedTuple):
    """Draws from a mixture of two Normals, with what they were drawn from.

    Attributes:
        x: observations, of shape ``(n,)``.
        assignments: the component of each, 0 or 1.
        weight: probability of component 0, θ; NaN where the components are one and the same.
        means: of the components.
        scale: standard deviation of both.
    """

    x: Tensor
    assignments: Tensor
    weight: float
    means: tuple[float, float]
    scale: float


class PCAData(NamedTuple):
    """Draws from probabilistic PCA, with what they were drawn from.

    Attributes:
        x: observations, of shape ``(n, D)``.
        z: latents, of shape ``(n, 1)``.
        w: loadings, of shape ``(D, 1)``.
        scale: standard deviation of the noise.
    """

    x: Tensor
    z: Tensor
    w: Tensor
    scale: float


def mixture_data(
    regime: str = "separated", *, num_data: int = 10_000, seed: int = 0
) -> MixtureData:
    """Draw x ~ 0.25 N(μ1, 1) + 0.75 N(μ2, 1), as float32.

    Args:
        regime: ``"one cluster"`` with μ = (−1, −1), a mixture by name only; ``"overlapping"`` with
            (−1, 1); ``"separated"`` with (−5, 5).
        num_data: observations.
        seed: seed of the draws.

    Returns:
        A :class:`MixtureData`.

    Raises:
        ValueError: for another regime, no data, or a seed out of range.

    Example:
        >>> from pyro_idvae.datasets import mixture_data
        >>> data = mixture_data("separated", num_data=1000)
        >>> data.x.shape, data.weight, data.means
        (torch.Size([1000]), 0.25, (-5.0, 5.0))

    Reference:
        Wang, Blei & Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*,
        NeurIPS 2021.
    """
    if not isinstance(regime, str) or regime not in MIXTURE_REGIMES:
        raise ValueError(f"regime={regime!r}: expected one of {', '.join(MIXTURE_REGIMES)}")
    check_size("num_data", num_data)
    generator = torch.Generator().manual_seed(check_seed(seed))
    first, second = MIXTURE_REGIMES[regime]
    assignments = (torch.rand(num_data, generator=generator) >= FIRST_WEIGHT).long()
    x = torch.tensor([first, second])[assignments] + torch.randn(num_data, generator=generator)
    weight = math.nan if first == second else FIRST_WEIGHT
    return MixtureData(x, assignments, weight, (first, second), 1.0)


def pca_data(
    *,
    num_data: int = 500,
    data_dim: int = 5,
    signal: float = 2.0,
    scale: float = 1.0,
    seed: int = 0,
) -> PCAData:
    r"""Draw x = w z + σ N(0, I_D) with one latent z ~ N(0, 1), as float32.

    Each row says ½ log(1 + \|w\|²/σ²) nats about its z on average.

    Args:
        num_data: observations.
        data_dim: D.
        signal: \|w\|; w is that times the unit vector with equal entries.
        scale: σ.
        seed: seed of the draws.

    Returns:
        A :class:`PCAData`.

    Raises:
        ValueError: without data or dimensions, or for a scale that is not above 0.

    Example:
        >>> from pyro_idvae.datasets import pca_data
        >>> data = pca_data()
        >>> data.x.shape, round(float(data.w.norm()), 3)
        (torch.Size([500, 5]), 2.0)
    """
    check_size("num_data", num_data)
    check_size("data_dim", data_dim)
    check_number("signal", signal)
    check_number("scale", scale, above=0.0)
    generator = torch.Generator().manual_seed(check_seed(seed))
    w = torch.full((data_dim, 1), signal / data_dim**0.5)
    z = torch.randn(num_data, 1, generator=generator)
    x = z @ w.mT + scale * torch.randn(num_data, data_dim, generator=generator)
    return PCAData(x, z, w, scale)
