# SPDX-License-Identifier: Apache-2.0
"""Numbers of each single latent, of all sites that a guide draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from pyro_idvae.diagnostics.latents import latent_labels
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.programs.bound_model import BoundModel

Array = np.ndarray[Any, Any]
Metric = Callable[..., Tensor]
"""A number of each latent of one site, which is its argument ``site``."""


def labels_of(bound: BoundModel) -> tuple[str, ...]:
    """Return what reports call the latents, ``z[0]`` and so on, in the order of their sites."""
    found: list[str] = []
    for name in bound.latents:
        shape, place = list(bound.trace.nodes[name]["value"].shape), bound.row_place(name)
        if place is not None:
            del shape[place]
        found += latent_labels(name, tuple(shape))
    return tuple(found)


def which_active(bound: BoundModel, active_units: Metric) -> Array:
    """Return which latents are active units, of shape ``(latents,)``.

    Raises:
        ArgumentError: for one row, or a latent outside the data plate.
        NoCertificateError: for a latent conditional on others, or none at all.
    """
    return np.concatenate([part.reshape(-1) for part in _of_sites(bound, active_units)])


def kl_by_latent(bound: BoundModel, kl_to_prior: Metric) -> Array:
    """Return KL(q(z_k|x) ‖ p(z_k)) of each latent, in nats, of shape ``(rows, latents)``.

    Raises:
        ArgumentError: for a latent outside the data plate.
        NoCertificateError: for a marginal without a closed form, or no latent at all.
    """
    flat = [part.reshape(bound.rows, -1) for part in _of_sites(bound, kl_to_prior)]
    return np.concatenate(flat, -1).astype(np.float64)


def _of_sites(bound: BoundModel, metric: Metric) -> list[Array]:
    if not bound.latents:
        raise NoCertificateError("the guide draws no latent: all are summed out")
    return [metric(site=name).detach().cpu().numpy() for name in bound.latents]
