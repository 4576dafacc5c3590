# SPDX-License-Identifier: Apache-2.0
"""The identifiable mixture VAE, from sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pyro_idvae.distributions import make_family, make_injective
from pyro_idvae.models.mixture_encoder import MixtureEncoder
from pyro_idvae.models.mixture_prior import RADIUS, SCALE_BOUNDS
from pyro_idvae.models.mixture_vae import MixtureVAE
from pyro_idvae.models.sized_injection import sized_injection

MOST_FULL = 8
"""Latents up to which components have full covariances by default."""


class IDMVAE(MixtureVAE):
    r"""The identifiable mixture VAE: a mixture as prior, an injective likelihood, from sizes.

    .. math:: y \sim \mathrm{Categorical}(1/C), \quad z \mid y \sim N(m_y, \operatorname{diag}
        s_y^2), \quad x \mid z \sim \mathrm{EF}(g_2(\beta^\top g_1(z)))

    Components have distinct means and bounded scales, and z is identified by the likelihood: the
    model cannot forget which component it is of, as far as the noise lets x tell; see
    :class:`MixturePrior`. :func:`assignments` measures it.

    Args:
        data_dim: number of observed coordinates; of categories for ``categorical`` and
            ``multinomial``.
        latent_dim: K.
        num_components: C.
        family: name of the family, e.g. ``"bernoulli"``; see ``make_family``.
        hidden_dims: hidden widths of both potentials; see ``brenier_injection``.
        encoder_hidden_dims: hidden widths of the encoder.
        covariance: of the guide's q(z|x, y), ``"diagonal"`` or ``"full"``.
        strong_convexity: floor of both Brenier maps, 1 by default.
        smoothness: ceiling of both Brenier maps.
        min_singular_value: floor of the linear map, 1 by default.
        base: observations whose base rates the parameters are in noise units of; see
            ``in_noise_units``. The model starts at these rates, near the linear map that the data
            ask for.
        wanted_nats: nats wanted of each latent of a standard Normal at the base rates, which set
            the floor of the whole injection instead; see ``wanted_rate``. With ``base`` and no
            floor, 0.1. Of the component they promise nothing.
        means: of the components; see :class:`MixturePrior`.
        radius: of their circle or simplex.
        free_means: whether means are learned.
        scale_bounds: of the components' standard deviations.
        prior_covariance: of the components, ``"diagonal"`` or ``"full"``; by default full for up to
            8 latents: gradients of convex functions turn little, so that components had better lie
            as the data do.
        **options: arguments of the family, e.g. ``scale=0.1``.

    Raises:
        ArgumentError: for ``wanted_nats`` without ``base`` or beside another floor.
        NotInjectiveError: if ``latent_dim`` is larger than the number of free parameters.

    Example:
        >>> from pyro_idvae.models import IDMVAE
        >>> vae = IDMVAE(2, 2, 5, scale=0.1, hidden_dims=[64])
        >>> vae.likelihood.lipschitz_bounds()[0] >= 1
        True

    Reference:
        Wang, Blei & Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*,
        NeurIPS 2021.
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        num_components: int,
        family: str = "normal",
        *,
        hidden_dims: Sequence[int] | None = None,
        encoder_hidden_dims: Sequence[int] = (512, 512),
        covariance: str = "diagonal",
        strong_convexity: float | None = None,
        smoothness: float | None = None,
        min_singular_value: float | None = None,
        base: Tensor | None = None,
        wanted_nats: float | None = None,
        means: str | Tensor | None = None,
        radius: float = RADIUS,
        free_means: bool = False,
        scale_bounds: tuple[float, float] = SCALE_BOUNDS,
        prior_covariance: str | None = None,
        **options: Any,
    ) -> None:
        if prior_covariance is None:
            prior_covariance = "full" if latent_dim <= MOST_FULL else "diagonal"
        template = make_family(family, **options)
        injection = sized_injection(
            template,
            data_dim,
            latent_dim,
            hidden_dims,
            base=base,
            wanted_nats=wanted_nats,
            strong_convexity=strong_convexity,
            smoothness=smoothness,
            min_singular_value=min_singular_value,
        )
        likelihood = make_injective(family, injection, base=base, **options)
        encoder = MixtureEncoder(
            template.flat_dim(injection.data_dim),
            latent_dim,
            num_components,
            encoder_hidden_dims,
            covariance=covariance,
        )
        super().__init__(
            likelihood,
            encoder,
            num_components,
            means=means,
            radius=radius,
            free_means=free_means,
            scale_bounds=scale_bounds,
            covariance=prior_covariance,
        )
