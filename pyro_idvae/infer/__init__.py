# SPDX-License-Identifier: Apache-2.0
"""SVI and MCMC on any Pyro model, results as ArviZ data."""

from pyro_idvae.infer.arviz import from_mcmc
from pyro_idvae.infer.fit import (
    Callback,
    FitResult,
    Progress,
    StopOnPlateau,
    WordDropout,
    fit,
    load,
    save,
)
from pyro_idvae.infer.from_guide import from_guide
from pyro_idvae.infer.laplace import AutoInjectiveLaplace
from pyro_idvae.infer.mcmc import mcmc
from pyro_idvae.infer.objectives import make_objective
from pyro_idvae.infer.rowwise.vectorized import VectorizedHMC
from pyro_idvae.infer.store import open_draws

__all__ = [
    "AutoInjectiveLaplace",
    "Callback",
    "FitResult",
    "Progress",
    "StopOnPlateau",
    "VectorizedHMC",
    "WordDropout",
    "fit",
    "from_guide",
    "from_mcmc",
    "load",
    "make_objective",
    "mcmc",
    "open_draws",
    "save",
]
