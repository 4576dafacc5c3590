# SPDX-License-Identifier: Apache-2.0
"""Observations as deviations from their base rates, in units of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.location_scale import LocationScaleFamily


def base_centre(at_base: Family, x: Tensor, parameter_dim: int) -> Tensor:
    """Return the v of the base rates as they are in the data; 0 where no floor has raised them.

    Args:
        at_base: the family by v, of :func:`in_noise_units`.
        x: observations, of shape ``(rows,) + event_shape``.
        parameter_dim: width of v.
    """
    if isinstance(at_base, LocationScaleFamily):
        centre: Tensor = x.mean(0) / at_base.get_global("scale").detach()
        return centre
    if at_base.event_shape(parameter_dim):
        mean = x.to(torch.get_default_dtype() if not x.is_floating_point() else x.dtype).mean(0)
    else:
        counts = torch.bincount(x.long(), minlength=parameter_dim + 1)
        mean = counts.to(torch.get_default_dtype()) / len(x)
    least = torch.full((parameter_dim,), 0.5 / len(x), dtype=mean.dtype, device=mean.device)
    return at_base.eta_of_mean(mean, least)


def base_scores(at_base: Family, x: Tensor, parameter_dim: int) -> Tensor:
    """Return what stands for observations under Normal noise of size 1: scores at the base rates.

    To first order the noise in them has a variance of 1 in each direction of v, and what is above
    that is signal.

    Args:
        at_base: the family by v, of :func:`in_noise_units`.
        x: observations, of shape ``(rows,) + event_shape``.
        parameter_dim: width of v.

    Returns:
        A tensor of shape ``(rows, parameter_dim)``.
    """
    centre = base_centre(at_base, x, parameter_dim).detach()
    with torch.enable_grad():
        v = centre.expand(len(x), -1).clone().requires_grad_()
        member = at_base(v, at_base.total_count_of(x))
        (score,) = torch.autograd.grad(member.log_prob(x).sum(), v)
    return score
