# SPDX-License-Identifier: Apache-2.0
"""Model/guide pairs."""

from pyro_idvae.models.encoder import Encoder, mlp
from pyro_idvae.models.vae import IDVAE, VAE, VAEGuide, VAEModel

__all__ = ["IDVAE", "VAE", "Encoder", "VAEGuide", "VAEModel", "mlp"]
