# SPDX-License-Identifier: Apache-2.0
"""Convex potentials with closed-form value, gradient and Hessian; plain torch."""

from pyro_idvae.potentials.base import ConvexPotential
from pyro_idvae.potentials.icnn import ICNN
from pyro_idvae.potentials.learnable import LearnablePotential
from pyro_idvae.potentials.partially_convex import ConditionedPotential, PartiallyConvexPotential
from pyro_idvae.potentials.quadratic import QuadraticPotential
from pyro_idvae.potentials.ridge import RidgePotential

__all__ = [
    "ICNN",
    "ConditionedPotential",
    "ConvexPotential",
    "LearnablePotential",
    "PartiallyConvexPotential",
    "QuadraticPotential",
    "RidgePotential",
]
