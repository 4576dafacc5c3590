# SPDX-License-Identifier: Apache-2.0
"""The injection of an identifiable model, from sizes and wanted nats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from pyro_idvae.distributions import Family
from pyro_idvae.models.start import begin_at_base
from pyro_idvae.models.window import floor_of_nats, free_parameters
from pyro_idvae.transforms import BrenierInjection, brenier_injection

DEFAULT_FLOOR = math.sqrt(math.expm1(2 * 0.1))
"""L of an injection in noise units: .1 nat a latent near the base rates."""


def sized_injection(
    family: Family,
    data_dim: int,
    latent_dim: int,
    hidden_dims: Sequence[int] | None,
    *,
    base: Tensor | None,
    wanted_nats: float | None,
    lipschitz_bounds: tuple[float, float] | None = None,
    strong_convexity: float | None,
    smoothness: float | None,
    min_singular_value: float | None,
) -> BrenierInjection:
    """Return an injection into a family's parameters, started at the data if there are any.

    Args:
        family: of the observations, not in noise units.
        data_dim: their number of coordinates.
        latent_dim: K.
        hidden_dims: hidden widths of both potentials.
        base: observations; with them and no floor, the floor is ``DEFAULT_FLOOR``.
        wanted_nats: which set the floor of the whole injection.
        lipschitz_bounds: the wanted (L, M).
        strong_convexity: floor of both maps.
        smoothness: ceiling of both maps.
        min_singular_value: floor of the linear map.

    Raises:
        ArgumentError: for nats beside another floor, or without ``base``.
        NotInjectiveError: for more latents than free parameters.
    """
    parameter_dim = free_parameters(family, data_dim, latent_dim)
    floors = {
        "lipschitz_bounds": lipschitz_bounds,
        "strong_convexity": strong_convexity,
        "min_singular_value": min_singular_value,
    }
    floor = None
    if wanted_nats is not None:
        floor = floor_of_nats(wanted_nats, family, base, latent_dim, **floors)
    elif base is not None and all(given is None for given in floors.values()):
        floor = DEFAULT_FLOOR
    if floor is not None:
        strong_convexity = min_singular_value = floor ** (1 / 3)
    injection = brenier_injection(
        latent_dim,
        parameter_dim,
        hidden_dims,
        lipschitz_bounds=lipschitz_bounds,
        strong_convexity=strong_convexity,
        smoothness=smoothness,
        min_singular_value=min_singular_value,
    )
    if base is not None:
        begin_at_base(injection, family, base)
    return injection
