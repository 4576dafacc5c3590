# SPDX-License-Identifier: Apache-2.0
"""SVI and MCMC on any Pyro model, results as ArviZ data."""

from pyro_idvae.infer.autoguide import AutoInjectiveLaplace
from pyro_idvae.infer.checkpoint import load, save
from pyro_idvae.infer.convert import from_guide, from_mcmc
from pyro_idvae.infer.mcmc import mcmc
from pyro_idvae.infer.rowwise.vectorized import VectorizedHMC
from pyro_idvae.infer.svi import fit
from pyro_idvae.infer.trainer import FitResult

__all__ = [
    "AutoInjectiveLaplace",
    "FitResult",
    "VectorizedHMC",
    "fit",
    "from_guide",
    "from_mcmc",
    "load",
    "mcmc",
    "save",
]
