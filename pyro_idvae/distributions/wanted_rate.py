# SPDX-License-Identifier: Apache-2.0
"""The floor of an injection for a wanted number of nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.distributions.base_rates import in_noise_units, width_of
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.table import make_family
from pyro_idvae.errors import ArgumentError

MOST_NATS = 20.0
"""Of a latent: beyond it a floor is no floor any more, but an explosion."""


def wanted_rate(
    family: str | Family,
    base: Tensor,
    *,
    nats: float,
    latent_dim: int,
    repeats: int = 1,
) -> float:
    r"""Return the floor L at which data at their base rates carry so many nats of each latent.

    .. math:: \tfrac12\log(1 + n L^2) = \mathrm{nats}, \qquad L = \sqrt{(e^{2\,\mathrm{nats}}-1)/n}

    in noise units, see :func:`in_noise_units`, for n observations of one z. Exact for a linear map
    and Normal noise. For the other families an estimate, near the base rates: a model is free to
    move to where predictions are sharp, and there a unit is less than one of noise.

    Args:
        family: its name, or the family itself if it has arguments.
        base: observations, of shape ``(rows,) + event_shape``.
        nats: wanted of each latent, on average over the data.
        latent_dim: K.
        repeats: n, observations that share one z.

    Returns:
        L, for ``IDVAE(..., base=base)`` as the floor of the whole injection; ``IDVAE`` takes
        ``wanted_nats`` itself.

    Raises:
        ArgumentError: for nats that are not in (0, 20], or more latents than features whose base
            rates are no rarer than their floor.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import wanted_rate
        >>> x = torch.poisson(torch.full((50, 8), 2.0))
        >>> round(wanted_rate("poisson", x, nats=0.3, latent_dim=2), 4)
        0.9067
    """
    check_real("nats", nats, above=0.0)
    if nats > MOST_NATS:
        raise ArgumentError(f"nats={nats!r}: ask for at most {MOST_NATS:g} nats of a latent")
    number = check_count("latent_dim", latent_dim)
    floor = math.sqrt(math.expm1(2 * nats) / check_count("repeats", repeats))
    plain = make_family(family) if isinstance(family, str) else family
    if not isinstance(plain, Family):
        raise ArgumentError(f"family is a {type(plain).__name__}: expected its name, or a Family")
    if not isinstance(base, Tensor) or (
        base.dim() < 2 and not (plain.integer_data and base.numel())
    ):
        raise ArgumentError(
            "base has no features: expected observations, of shape (rows,) + event_shape"
        )
    width = width_of(plain, base)
    known = in_noise_units(plain, base, width, spread=floor * math.sqrt(number / width))
    capped = known.capped_rates()
    if capped is None:
        eta = torch.zeros(width)
        return floor / float(known.fisher_information(eta).detach().mean().sqrt())
    free = int((~capped).sum())
    if free < number:
        raise ArgumentError(
            f"latent_dim={number}, nats={nats!r}: only {free} of {len(capped)} features are "
            "frequent enough for such a floor; ask for fewer latents or nats, or merge rare "
            "features"
        )
    return floor
