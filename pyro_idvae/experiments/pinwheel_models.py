# SPDX-License-Identifier: Apache-2.0
"""Mixture VAEs for pinwheels: injective decoders of several architectures, and ordinary ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pyro_idvae.distributions import InjectiveNormal, Likelihood, NeuralLikelihood, make_family
from pyro_idvae.models import IDMVAE, MixtureEncoder, MixtureVAE, mlp
from pyro_idvae.models.sized_injection import DEFAULT_FLOOR
from pyro_idvae.models.start import begin_at_base, lower
from pyro_idvae.transforms import BrenierInjection, Injection, brenier_injection

ARMS, LATENT_DIM, SCALE = 5, 2, 0.2
ENCODER_DIMS = (64, 64)
RIDGES, FEW_RIDGES, ICNN_DIMS, MLP_DIMS = 64, 32, (16, 10), (20, 20)
"""Widths at which each decoder has 510 to 550 parameters."""
IDENTIFIABLE, FIXED, FREE = "ridges", "ordinary, fixed means", "ordinary, free means"
DEEP, STACKED = "two layers (ICNN)", "two maps, stacked"
DIAGONAL, NO_BASE = "ridges, diagonal components", "ridges, floors of 1"


class Stacked(Injection):
    """One injection after another.

    Args:
        first: of the latents.
        last: of what the first gives.
    """

    def __init__(self, first: BrenierInjection, last: BrenierInjection) -> None:
        super().__init__(first.latent_dim, last.data_dim)
        self.first, self.last = first, last

    def _call(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))

    def _inverse(self, y: Tensor) -> Tensor:
        found: Tensor = self.first.inv(self.last.inv(y))
        return found

    def jacobian(self, z: Tensor) -> Tensor:
        """Return the product of both, of shape ``batch + (D, K)``."""
        return self.last.jacobian(self.first(z)) @ self.first.jacobian(z)

    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return the products of both."""
        (low, high), (last_low, last_high) = (
            part.lipschitz_bounds() for part in (self.first, self.last)
        )
        return low * last_low, high * last_high


def makers(base: Tensor) -> dict[str, Callable[[int], MixtureVAE]]:
    """Return the models by name, each a function of a seed.

    Args:
        base: points, for the start of the identifiable ones.
    """
    sized = partial(_sized, base)
    return {
        IDENTIFIABLE: partial(sized, (RIDGES,)),
        FIXED: partial(_ordinary, False),
        FREE: partial(_ordinary, True),
        DIAGONAL: partial(sized, (RIDGES,), prior_covariance="diagonal"),
        STACKED: partial(_stacked, base),
        DEEP: partial(sized, ICNN_DIMS),
        NO_BASE: partial(_sized, None, (RIDGES,)),
    }


def decoder_size(vae: MixtureVAE) -> int:
    """Return the number of parameters of a likelihood."""
    return sum(parameter.numel() for parameter in vae.likelihood.parameters())


def _sized(
    base: Tensor | None,
    widths: tuple[int, ...],
    seed: int,
    *,
    prior_covariance: str | None = None,
) -> MixtureVAE:
    torch.manual_seed(seed)
    return IDMVAE(
        2,
        LATENT_DIM,
        ARMS,
        scale=SCALE,
        learn_scale=True,
        base=base,
        hidden_dims=widths,
        encoder_hidden_dims=ENCODER_DIMS,
        prior_covariance=prior_covariance,
    )


def _stacked(base: Tensor, seed: int) -> MixtureVAE:
    torch.manual_seed(seed)
    floor = DEFAULT_FLOOR ** (1 / 6)
    first, last = (
        brenier_injection(2, 2, [FEW_RIDGES], strong_convexity=floor, min_singular_value=floor)
        for _ in range(2)
    )
    # The first one near a multiple of the identity, the last where the data ask it to be.
    lower(first.beta, first.g1.potential, first.g2.potential)
    first.beta.raw_basis.data.copy_(torch.eye(2) * math.sqrt(2))
    begin_at_base(last, make_family("normal", scale=SCALE), base)
    likelihood = InjectiveNormal(Stacked(first, last), scale=SCALE, learn_scale=True, base=base)
    return _mixture(likelihood, free=False)


def _ordinary(free: bool, seed: int) -> MixtureVAE:
    torch.manual_seed(seed)
    family = make_family("normal", scale=SCALE, learn_scale=True)
    network: nn.Module = mlp([LATENT_DIM, *MLP_DIMS, 2])
    return _mixture(NeuralLikelihood(family, network), free=free)


def _mixture(likelihood: Likelihood, *, free: bool) -> MixtureVAE:
    encoder = MixtureEncoder(2, LATENT_DIM, ARMS, ENCODER_DIMS)
    return MixtureVAE(likelihood, encoder, ARMS, free_means=free, covariance="full")
