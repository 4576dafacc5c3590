# SPDX-License-Identifier: Apache-2.0
"""Modes and curvatures of an injective likelihood's posterior, in closed form."""

from pyro_idvae.infer.laplace.autoguide import AutoInjectiveLaplace, LaplaceStart
from pyro_idvae.infer.laplace.log_joint import LogJoint, injective_call, inverse

__all__ = ["AutoInjectiveLaplace", "LaplaceStart", "LogJoint", "injective_call", "inverse"]
