# SPDX-License-Identifier: Apache-2.0
"""Lipschitz bounds from wanted nats."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_idvae._checks import check_count
from pyro_idvae.distributions import (
    Family,
    information_window,
    lipschitz_bounds_for,
    wanted_rate,
)
from pyro_idvae.errors import ArgumentError, NotInjectiveError
from pyro_idvae.transforms.bounds import check_pair, largest_bound


def bounds_of_window(
    window: tuple[float, float], latent_dim: int, family: str, lipschitz_bounds: Any
) -> tuple[float, float]:
    """Return the Lipschitz bounds of a wanted window in nats."""
    if family != "normal":
        raise ArgumentError(
            f"rate_window={window!r}: nats are guaranteed for the normal family only, not for "
            f"{family}; give lipschitz_bounds"
        )
    if lipschitz_bounds is not None:
        raise ArgumentError("rate_window sets lipschitz_bounds: leave out one of them")
    low, high = check_pair("rate_window", window)
    bounds = lipschitz_bounds_for(low=low, high=high, latent_dim=latent_dim)
    # In nats, as it was asked for: the injection's own message would speak of L and M.
    least, most = information_window((1 / largest_bound(), largest_bound()), latent_dim)
    if not least <= low <= high <= most:
        raise ArgumentError(
            f"rate_window={window!r}: with latent_dim={latent_dim} {torch.get_default_dtype()} "
            f"holds {least:.1g} to {most:.3g} nats; ask for a window in between, or build the "
            "model under torch.set_default_dtype(torch.float64)"
        )
    return bounds


def floor_of_nats(
    nats: float, family: Family, base: Tensor | None, latent_dim: int, **others: Any
) -> float:
    """Return the floor of an injection for the nats wanted of each latent."""
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise ArgumentError(
            f"wanted_nats={nats!r} sets every floor: leave out " + " and ".join(given)
        )
    if base is None:
        raise ArgumentError(
            f"wanted_nats={nats!r} without base: nats are those at the base rates of the data; "
            "pass base=<observations>"
        )
    return wanted_rate(family, base, nats=nats, latent_dim=latent_dim)


def free_parameters(family: Family, data_dim: int, latent_dim: int) -> int:
    """Return the width of η, or refuse more latents than that."""
    width = family.parameter_dim(check_count("data_dim", data_dim))
    if check_count("latent_dim", latent_dim) > width:
        raise NotInjectiveError(
            f"latent_dim={latent_dim} is larger than the {width} free parameters of a "
            f"{family.name} likelihood with data_dim={data_dim}: take a latent_dim of at most "
            f"{width}"
        )
    return width
