# SPDX-License-Identifier: Apache-2.0
"""One function a picture: ArviZ data in, matplotlib axes out."""

from pyro_idvae.plots.calibration import plot_calibration
from pyro_idvae.plots.collapse import plot_collapse
from pyro_idvae.plots.compare import plot_compare
from pyro_idvae.plots.consistency import plot_consistency
from pyro_idvae.plots.directions import plot_directions
from pyro_idvae.plots.forecast import plot_forecast
from pyro_idvae.plots.latent_walk import plot_latent_walk
from pyro_idvae.plots.likelihood_surface import plot_likelihood_surface
from pyro_idvae.plots.losses import plot_losses
from pyro_idvae.plots.prior_posterior import plot_prior_posterior
from pyro_idvae.plots.rate_window import plot_rate_window
from pyro_idvae.plots.transport import plot_transport

__all__ = [
    "plot_calibration",
    "plot_collapse",
    "plot_compare",
    "plot_consistency",
    "plot_directions",
    "plot_forecast",
    "plot_latent_walk",
    "plot_likelihood_surface",
    "plot_losses",
    "plot_prior_posterior",
    "plot_rate_window",
    "plot_transport",
]
