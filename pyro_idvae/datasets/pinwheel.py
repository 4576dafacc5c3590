# SPDX-License-Identifier: Apache-2.0
"""Arms of a pinwheel: clusters that no straight line and no ellipse can tell apart."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_idvae.datasets.sizes import check_number, check_seed, check_size

RADIAL, TANGENTIAL, TWIST = 0.3, 0.1, 0.25


class PinwheelData(NamedTuple):
    """Points of a pinwheel.

    Attributes:
        x: points, of shape ``(n, 2)``, as float32.
        arms: the arm of each, from 0.
    """

    x: Tensor
    arms: Tensor


def pinwheel(
    num_data: int = 2000,
    *,
    num_arms: int = 5,
    radial_scale: float = RADIAL,
    tangential_scale: float = TANGENTIAL,
    twist: float = TWIST,
    seed: int = 0,
) -> PinwheelData:
    r"""Draw points of a pinwheel, from arms that are equally likely.

    .. math:: x = R\!\left(\tfrac{2\pi k}{C} + \rho\, e^{1 + r}\right)(1 + r,\ t), \qquad
        r \sim N(0, \sigma_r^2),\quad t \sim N(0, \sigma_t^2)

    with R(θ) a rotation by θ, k the arm and ρ the twist: the farther out, the farther round.

    Args:
        num_data: points.
        num_arms: C.
        radial_scale: σ_r, along an arm.
        tangential_scale: σ_t, across.
        twist: ρ.
        seed: seed of the draws.

    Returns:
        A :class:`PinwheelData`.

    Raises:
        ValueError: without points or arms, for scales that are not above 0 or a seed out of range.

    Example:
        >>> from pyro_idvae.datasets import pinwheel
        >>> data = pinwheel(1000)
        >>> data.x.shape, data.arms.unique().tolist()
        (torch.Size([1000, 2]), [0, 1, 2, 3, 4])

    Reference:
        Johnson, Duvenaud, Wiltschko, Datta and Adams, *Composing graphical models with neural
        networks for structured representations and fast inference*, NeurIPS 2016.
    """
    check_size("num_data", num_data)
    check_size("num_arms", num_arms)
    check_number("radial_scale", radial_scale, above=0.0)
    check_number("tangential_scale", tangential_scale, above=0.0)
    check_number("twist", twist)
    generator = torch.Generator().manual_seed(check_seed(seed))
    arms = torch.randint(num_arms, (num_data,), generator=generator)
    noise = torch.randn(num_data, 2, generator=generator)
    radius, across = 1 + radial_scale * noise[:, 0], tangential_scale * noise[:, 1]
    angle = 2 * math.pi * arms / num_arms + twist * radius.exp()
    cos, sin = angle.cos(), angle.sin()
    x = torch.stack([cos * radius - sin * across, sin * radius + cos * across], -1)
    return PinwheelData(x, arms)
