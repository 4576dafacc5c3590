# SPDX-License-Identifier: Apache-2.0
"""Injective likelihoods as Pyro modules, and the families they are made of."""

from pyro_idvae.distributions.autoregressive import SequenceLikelihood
from pyro_idvae.distributions.base_rates import in_noise_units
from pyro_idvae.distributions.binary import (
    BernoulliFamily,
    BinomialFamily,
    InjectiveBernoulli,
    InjectiveBinomial,
)
from pyro_idvae.distributions.categorical import (
    CategoricalFamily,
    InjectiveCategorical,
    InjectiveMultinomial,
    MultinomialFamily,
)
from pyro_idvae.distributions.counts import (
    InjectiveNegativeBinomial,
    InjectivePoisson,
    InjectiveZeroInflated,
    NegativeBinomialFamily,
    PoissonFamily,
    ZeroInflatedFamily,
)
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.injective import InjectiveLikelihood
from pyro_idvae.distributions.injective_autoregressive import InjectiveAutoregressive
from pyro_idvae.distributions.library_multinomial import LibraryMultinomial
from pyro_idvae.distributions.likelihood import Likelihood
from pyro_idvae.distributions.location_scale import (
    InjectiveLaplace,
    InjectiveNormal,
    InjectiveStudentT,
    LaplaceFamily,
    NormalFamily,
    StudentTFamily,
)
from pyro_idvae.distributions.neural import NeuralLikelihood
from pyro_idvae.distributions.neural_autoregressive import NeuralAutoregressive
from pyro_idvae.distributions.positive import BetaFamily, GammaFamily, InjectiveBeta, InjectiveGamma
from pyro_idvae.distributions.rate import (
    information_window,
    lipschitz_bounds_for,
    rate_window,
)
from pyro_idvae.distributions.table import make_family, make_injective
from pyro_idvae.distributions.token_sequence import TokenSequence
from pyro_idvae.distributions.wanted_rate import wanted_rate

__all__ = [
    "BernoulliFamily",
    "BetaFamily",
    "BinomialFamily",
    "CategoricalFamily",
    "Family",
    "GammaFamily",
    "InjectiveAutoregressive",
    "InjectiveBernoulli",
    "InjectiveBeta",
    "InjectiveBinomial",
    "InjectiveCategorical",
    "InjectiveGamma",
    "InjectiveLaplace",
    "InjectiveLikelihood",
    "InjectiveMultinomial",
    "InjectiveNegativeBinomial",
    "InjectiveNormal",
    "InjectivePoisson",
    "InjectiveStudentT",
    "InjectiveZeroInflated",
    "LaplaceFamily",
    "LibraryMultinomial",
    "Likelihood",
    "MultinomialFamily",
    "NegativeBinomialFamily",
    "NeuralAutoregressive",
    "NeuralLikelihood",
    "NormalFamily",
    "PoissonFamily",
    "SequenceLikelihood",
    "StudentTFamily",
    "TokenSequence",
    "ZeroInflatedFamily",
    "in_noise_units",
    "information_window",
    "lipschitz_bounds_for",
    "make_family",
    "make_injective",
    "rate_window",
    "wanted_rate",
]
