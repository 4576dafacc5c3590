# SPDX-License-Identifier: Apache-2.0
"""Injective likelihoods for Pyro: latent variable models that are identifiable by construction."""

from pyro_idvae import datasets, distributions, models, potentials, transforms
from pyro_idvae.diagnostics import (
    Autopsy,
    Certificate,
    CollapseReport,
    Comparison,
    ImportanceEstimate,
    active_units,
    autopsy,
    certify,
    collapse_report,
    compare,
    discrete_information,
    find_witness,
    importance_log_likelihood,
    kl_to_prior,
)
from pyro_idvae.distributions import rate_window
from pyro_idvae.infer import (
    AutoInjectiveLaplace,
    FitResult,
    VectorizedHMC,
    fit,
    from_guide,
    from_mcmc,
    load,
    mcmc,
    save,
)
from pyro_idvae.models import IDVAE, VAE, BayesianModel, Encoder
from pyro_idvae.plots import (
    plot_collapse,
    plot_compare,
    plot_likelihood_surface,
    plot_losses,
    plot_prior_posterior,
    plot_rate_window,
    plot_transport,
)

__version__ = "0.1.0"

__all__ = [
    "IDVAE",
    "VAE",
    "AutoInjectiveLaplace",
    "Autopsy",
    "BayesianModel",
    "Certificate",
    "CollapseReport",
    "Comparison",
    "Encoder",
    "FitResult",
    "ImportanceEstimate",
    "VectorizedHMC",
    "__version__",
    "active_units",
    "autopsy",
    "certify",
    "collapse_report",
    "compare",
    "datasets",
    "discrete_information",
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
    "plot_collapse",
    "plot_compare",
    "plot_likelihood_surface",
    "plot_losses",
    "plot_prior_posterior",
    "plot_rate_window",
    "plot_transport",
    "potentials",
    "rate_window",
    "save",
    "transforms",
]
