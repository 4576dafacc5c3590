# SPDX-License-Identifier: Apache-2.0
"""Model/guide pairs."""

from pyro_idvae.models.bayesian import BayesianModel
from pyro_idvae.models.classical import GaussianMixture, ProbabilisticPCA
from pyro_idvae.models.encoder import Encoder, mlp
from pyro_idvae.models.history import (
    History,
    NoHistory,
    RecurrentHistory,
    TransformerHistory,
    make_history,
)
from pyro_idvae.models.idmvae import IDMVAE
from pyro_idvae.models.idsvae import IDSVAE
from pyro_idvae.models.idvae import IDVAE
from pyro_idvae.models.mixture_encoder import MixtureEncoder, MixturePosterior
from pyro_idvae.models.mixture_prior import MixturePrior
from pyro_idvae.models.mixture_vae import MixtureVAE, MixtureVAEGuide, MixtureVAEModel
from pyro_idvae.models.sequence import (
    SequenceEncoder,
    SequenceGuide,
    SequenceModel,
    SequentialVAE,
)
from pyro_idvae.models.skip import SkipMLP
from pyro_idvae.models.vae import VAE, VAEGuide, VAEModel

__all__ = [
    "IDMVAE",
    "IDSVAE",
    "IDVAE",
    "VAE",
    "BayesianModel",
    "Encoder",
    "GaussianMixture",
    "History",
    "MixtureEncoder",
    "MixturePosterior",
    "MixturePrior",
    "MixtureVAE",
    "MixtureVAEGuide",
    "MixtureVAEModel",
    "NoHistory",
    "ProbabilisticPCA",
    "RecurrentHistory",
    "SequenceEncoder",
    "SequenceGuide",
    "SequenceModel",
    "SequentialVAE",
    "SkipMLP",
    "TransformerHistory",
    "VAEGuide",
    "VAEModel",
    "make_history",
    "mlp",
]
