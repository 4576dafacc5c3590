# SPDX-License-Identifier: Apache-2.0
"""Upper bounds on what the marginal posterior of each latent knows."""

from pyro_idvae.infer.limits.coordinates import Moments
from pyro_idvae.infer.limits.directions import Candidates, Directions
from pyro_idvae.infer.limits.exact import (
    Limits,
    LimitSums,
    add_directions,
    coordinate_limits,
    find_directions,
    limit_sums,
    replacing_of,
)
from pyro_idvae.infer.limits.guide import guide_limits
from pyro_idvae.infer.limits.replacing import Replacing

__all__ = [
    "Candidates",
    "Directions",
    "LimitSums",
    "Limits",
    "Moments",
    "Replacing",
    "add_directions",
    "coordinate_limits",
    "find_directions",
    "guide_limits",
    "limit_sums",
    "replacing_of",
]
