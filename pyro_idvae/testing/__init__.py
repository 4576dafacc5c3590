# SPDX-License-Identifier: Apache-2.0
"""The laws: abstract test cases to inherit for a potential, transform or likelihood."""

from pyro_idvae.testing.likelihood import LikelihoodLaws
from pyro_idvae.testing.potential import PotentialLaws
from pyro_idvae.testing.search import lipschitz_search
from pyro_idvae.testing.transform import InjectionLaws, TransformLaws

__all__ = ["InjectionLaws", "LikelihoodLaws", "PotentialLaws", "TransformLaws", "lipschitz_search"]
