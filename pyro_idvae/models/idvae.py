# SPDX-License-Identifier: Apache-2.0
"""The identifiable VAE, from sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pyro_idvae.distributions import InjectiveLikelihood, make_family, make_injective
from pyro_idvae.errors import ArgumentError
from pyro_idvae.models.encoder import Encoder
from pyro_idvae.models.sized_injection import sized_injection
from pyro_idvae.models.vae import VAE
from pyro_idvae.models.window import bounds_of_window


class IDVAE(VAE):
    """The identifiable VAE: an injective likelihood of Brenier maps, built from sizes.

    Args:
        data_dim: number of observed coordinates; of categories for ``categorical`` and
            ``multinomial``.
        latent_dim: K.
        family: name of the family, e.g. ``"bernoulli"``; see ``make_family``.
        hidden_dims: hidden widths of both potentials; see ``brenier_injection``.
        encoder_hidden_dims: hidden widths of the encoder.
        covariance: of the guide, ``"diagonal"`` or ``"full"``.
        prior: as for :class:`VAEModel`.
        covariates: a module that maps covariates to a shift of the parameters.
        covariate_dim: width of the covariates, which the encoder is given too.
        lipschitz_bounds: the wanted (L, M) of the injection.
        rate_window: the wanted nats (least, most) instead; for the ``normal`` family only.
        strong_convexity: floor of both Brenier maps, 1 by default.
        smoothness: ceiling of both Brenier maps.
        min_singular_value: floor of the linear map, 1 by default.
        base: observations whose base rates the parameters are in noise units of, so that a floor
            means the same for every family; see ``in_noise_units``. The model starts at these
            rates, near the linear map that the data ask for. None for the family's own parameters.
        wanted_nats: nats wanted of each latent at the base rates, which set the floor of the whole
            injection instead; see ``wanted_rate``. With ``base`` and no floor, 0.1.
        **options: arguments of the family, e.g. ``total_count=16``.

    Raises:
        NotInjectiveError: if ``latent_dim`` is larger than the number of free parameters.

    Example:
        >>> import torch
        >>> from pyro_idvae.models import IDVAE
        >>> vae = IDVAE(64, 16, "binomial", total_count=16, hidden_dims=[64])
        >>> vae.likelihood.lipschitz_bounds()[0] >= 1
        True
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        family: str = "bernoulli",
        *,
        hidden_dims: Sequence[int] | None = None,
        encoder_hidden_dims: Sequence[int] = (512, 512),
        covariance: str = "diagonal",
        prior: Any = None,
        covariates: nn.Module | None = None,
        covariate_dim: int = 0,
        lipschitz_bounds: tuple[float, float] | None = None,
        rate_window: tuple[float, float] | None = None,
        strong_convexity: float | None = None,
        smoothness: float | None = None,
        min_singular_value: float | None = None,
        base: Tensor | None = None,
        wanted_nats: float | None = None,
        **options: Any,
    ) -> None:
        if (covariates is None) != (covariate_dim == 0):
            raise ArgumentError(
                f"covariates={'None' if covariates is None else 'given'} with "
                f"covariate_dim={covariate_dim!r}: likelihood and encoder both take them, or "
                "neither; pass both"
            )
        template = make_family(family, **options)
        if rate_window is not None:
            lipschitz_bounds = bounds_of_window(rate_window, latent_dim, family, lipschitz_bounds)
        injection = sized_injection(
            template,
            data_dim,
            latent_dim,
            hidden_dims,
            base=base,
            wanted_nats=wanted_nats,
            lipschitz_bounds=lipschitz_bounds,
            strong_convexity=strong_convexity,
            smoothness=smoothness,
            min_singular_value=min_singular_value,
        )
        likelihood: InjectiveLikelihood = make_injective(
            family, injection, covariates=covariates, base=base, **options
        )
        encoder = Encoder(
            template.flat_dim(injection.data_dim),
            latent_dim,
            encoder_hidden_dims,
            covariance=covariance,
            covariate_dim=covariate_dim,
        )
        super().__init__(likelihood, encoder, prior)
