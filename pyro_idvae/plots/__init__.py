# SPDX-License-Identifier: Apache-2.0
"""One function a picture: ArviZ data in, matplotlib axes out."""

from pyro_idvae.plots.likelihood_surface import plot_likelihood_surface
from pyro_idvae.plots.losses import plot_losses
from pyro_idvae.plots.prior_posterior import plot_prior_posterior

__all__ = ["plot_likelihood_surface", "plot_losses", "plot_prior_posterior"]
