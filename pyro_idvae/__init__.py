# SPDX-License-Identifier: Apache-2.0
"""Injective likelihoods for Pyro: latent variable models that are identifiable by construction."""

from pyro_idvae import datasets, distributions, models, potentials, transforms
from pyro_idvae.diagnostics import (
    Certificate,
    ImportanceEstimate,
    active_units,
    certify,
    find_witness,
    importance_log_likelihood,
    kl_to_prior,
)
from pyro_idvae.distributions import rate_window
from pyro_idvae.infer import FitResult, fit, from_guide, from_mcmc, load, mcmc, save
from pyro_idvae.models import IDVAE, VAE, Encoder
from pyro_idvae.plots import plot_likelihood_surface, plot_losses, plot_prior_posterior

__version__ = "0.1.0"

__all__ = [
    "IDVAE",
    "VAE",
    "Certificate",
    "Encoder",
    "FitResult",
    "ImportanceEstimate",
    "__version__",
    "active_units",
    "certify",
    "datasets",
    "distributions",
    "find_witness",
    "fit",
    "from_guide",
    "from_mcmc",
    "importance_log_likelihood",
    "kl_to_prior",
    "load",
    "mcmc",
    "models",
    "plot_likelihood_surface",
    "plot_losses",
    "plot_prior_posterior",
    "potentials",
    "rate_window",
    "save",
    "transforms",
]
