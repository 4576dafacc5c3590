# SPDX-License-Identifier: Apache-2.0
"""Model/guide pairs."""

from pyro_idvae.models.bayesian import BayesianModel
from pyro_idvae.models.classical import GaussianMixture, ProbabilisticPCA
from pyro_idvae.models.encoder import Encoder, mlp
from pyro_idvae.models.idvae import IDVAE
from pyro_idvae.models.skip import SkipMLP
from pyro_idvae.models.vae import VAE, VAEGuide, VAEModel

__all__ = [
    "IDVAE",
    "VAE",
    "BayesianModel",
    "Encoder",
    "GaussianMixture",
    "ProbabilisticPCA",
    "SkipMLP",
    "VAEGuide",
    "VAEModel",
    "mlp",
]
