# SPDX-License-Identifier: Apache-2.0
"""The laws: abstract test cases to inherit for a potential, family, likelihood, objective ..."""

from pyro_idvae.testing.conditional import ConditionalTransformLaws
from pyro_idvae.testing.family import FamilyLaws
from pyro_idvae.testing.injection import InjectionLaws
from pyro_idvae.testing.likelihood import LikelihoodLaws
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from pyro_idvae.testing.objective import ObjectiveTestCase
from pyro_idvae.testing.potential import PotentialLaws
from pyro_idvae.testing.run import run_laws
from pyro_idvae.testing.search import lipschitz_search
from pyro_idvae.testing.transform import TransformLaws

__all__ = [
    "ConditionalTransformLaws",
    "FamilyLaws",
    "InjectionLaws",
    "LikelihoodLaws",
    "LinearGaussian",
    "ObjectiveTestCase",
    "PotentialLaws",
    "TransformLaws",
    "lipschitz_search",
    "run_laws",
]
