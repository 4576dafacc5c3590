# SPDX-License-Identifier: Apache-2.0
"""Whether a guide has a density over the model's latents, and nothing else."""

from __future__ import annotations

import pyro.distributions as dist

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.sites import latent_sites, unwrap_masks


def check_guide_density(bound: BoundModel) -> None:
    """Raise unless the guide has a density over the model's latents and nothing else.

    Autoguides have Delta sites computed from auxiliary ones, whose density they carry.

    Raises:
        ArgumentError: for a guide that is a point, or has helpers of its own.
    """
    helpers, points = helper_sites(bound), point_sites(bound)
    check_spread(bound)
    if helpers and len(points) < len(bound.latents):
        raise ArgumentError(
            f"the guide has the auxiliary sites {helpers}, which the model lacks: their density "
            "would be counted on one side only"
        )


def check_spread(bound: BoundModel) -> None:
    """Raise for a guide that is a point.

    Raises:
        ArgumentError: naming the sites.
    """
    points = point_sites(bound)
    if points and not helper_sites(bound):
        raise ArgumentError(
            f"the guide is a point at the sites {points}: it has no density to weight draws by"
        )


def helper_sites(bound: BoundModel) -> list[str]:
    """Return the names of the guide's auxiliary sites."""
    sites = latent_sites(bound.guide_trace)
    return [name for name, site in sites.items() if _upstream.is_auxiliary(site)]


def point_sites(bound: BoundModel) -> list[str]:
    """Return the names of the latents that are Delta in the guide."""
    sites = latent_sites(bound.guide_trace)
    return [n for n in bound.latents if isinstance(unwrap_masks(sites[n]["fn"]), dist.Delta)]
