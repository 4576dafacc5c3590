# SPDX-License-Identifier: Apache-2.0
"""Observations as deviations from their base rates, in units of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.location_scale import LocationScaleFamily


def base_centre(at_base: Family, x: Tensor, parameter_dim: int) -> Tensor:
    """Return the v of the base rates: 0 in noise units, the mean in scales of a location family.

    Args:
        at_base: the family by v, of :func:`in_noise_units`.
        x: observations, of shape ``(rows,) + event_shape``.
        parameter_dim: width of v.
    """
    if isinstance(at_base, LocationScaleFamily):
        centre: Tensor = x.mean(0) / at_base.get_global("scale").detach()
        return centre
    tensors = (*at_base.parameters(), *at_base.buffers())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(()))
    return like.new_zeros(parameter_dim)


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
    centre = base_centre(at_base, x, parameter_dim)
    with torch.enable_grad():
        v = centre.expand(len(x), -1).clone().requires_grad_()
        member = at_base(v, at_base.total_count_of(x))
        (score,) = torch.autograd.grad(member.log_prob(x).sum(), v)
    return score
