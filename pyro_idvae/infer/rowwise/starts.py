# SPDX-License-Identifier: Apache-2.0
"""Where chains begin, and in which metric: near the modes, by the curvature there."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.errors import NoCertificateError
from pyro_idvae.infer.laplace.log_joint import LogJoint, injective_call, inverse
from pyro_idvae.infer.rowwise.gradients import RowGradient
from pyro_idvae.infer.rowwise.trajectory import Metric
from pyro_idvae.programs.bound_model import BoundModel

LEAST_PRECISION = 1e-2
"""Curvatures below this one, in units of the unconstrained latents, are replaced by it."""


def has_closed_form(bound: BoundModel) -> bool:
    """Tell whether a model has an injective likelihood that modes can be found of."""
    try:
        injective_call(bound)
    except NoCertificateError:
        return False
    return True


@torch.no_grad()
def closed_form_start(bound: BoundModel, chains: int = 1) -> tuple[Tensor, Tensor] | None:
    """Return modes and covariances (I + JᵀI_ηJ)⁻¹ of an injective likelihood, else None.

    The first chain begins at the mode found from the left inverse, all others at modes found from
    draws of the prior: if there are several, R-hat will tell.

    Args:
        bound: the model on its data.
        chains: of each data point.

    Returns:
        Tensors of shape ``(chains * rows, K)``, chain by chain, and ``(rows, K, K)``.
    """
    try:
        posterior = LogJoint.of(injective_call(bound))
        mode = posterior.mode()
        covariance = inverse(posterior.precision(mode))
        others = [posterior.mode(start=torch.randn_like(mode)) for _ in range(chains - 1)]
    except NoCertificateError:
        return None
    # Where a link overflows nothing is known of the scale: the prior's will have to do.
    lost = ~covariance.isfinite().all(-1).all(-1)
    covariance = torch.where(lost[:, None, None], torch.eye(mode.shape[-1]).to(mode), covariance)
    return torch.cat([mode, *others]), covariance


@torch.no_grad()
def searched_start(target: RowGradient, chains: int, *, num_steps: int = 30) -> tuple[Tensor, ...]:
    """Return modes by Adam from draws of the prior, and covariances from the curvature there.

    Shapes: ``(chains * data, K)`` and ``(data, K, K)``, the curvature averaged over chains.
    """
    mode = climbed(target, num_steps=num_steps)
    return mode, curvature_covariance(target, mode, chains)


@torch.no_grad()
def climbed(target: RowGradient, *, num_steps: int) -> Tensor:
    """Return where Adam gets to from draws of the prior, of shape ``(chains * data, K)``."""
    u = target.density.example().clone().requires_grad_()
    optimizer = torch.optim.Adam([u], lr=0.1)
    for _ in range(num_steps):
        u.grad = -target(u.detach())[1].nan_to_num()
        optimizer.step()
    return u.detach()


@torch.no_grad()
def curvature_covariance(target: RowGradient, mode: Tensor, chains: int = 1) -> Tensor:
    """Return covariances from the curvature at some places.

    Args:
        target: the density.
        mode: places, of shape ``(chains * data, K)``.
        chains: how many places of each data point the curvature is averaged over.

    Returns:
        A tensor of shape ``(data, K, K)``.
    """
    width = torch.finfo(mode.dtype).eps ** 0.25
    columns = []
    for k in range(mode.shape[-1]):
        shift = torch.zeros_like(mode)
        shift[:, k] = width
        columns.append((target(mode + shift)[1] - target(mode - shift)[1]) / (2 * width))
    curvature = -torch.stack(columns, -1).nan_to_num()
    curvature = curvature.unflatten(0, (chains, -1)).mean(0)
    curvature = 0.5 * (curvature + curvature.mT)
    values, vectors = torch.linalg.eigh(curvature)
    values = values.abs().clamp_min(LEAST_PRECISION)
    found: Tensor = (vectors / values.unsqueeze(-2)) @ vectors.mT
    return found


@torch.no_grad()
def scattered(target: RowGradient, mode: Tensor, covariance: Tensor, chains: int) -> Tensor:
    """Return draws of the Normal approximation; the mode where the density is far below Normal."""
    factor = Metric.of(covariance, chains).factor
    u = mode + (factor @ torch.randn_like(mode).unsqueeze(-1)).squeeze(-1)
    # Of a Normal the log density falls by a χ² of K degrees of freedom, halved.
    half = 0.5 * u.shape[-1]
    good = target(u)[0] > target(mode)[0] - (half + 5 * half**0.5 + 5)
    return torch.where(good.unsqueeze(-1), u, mode)
