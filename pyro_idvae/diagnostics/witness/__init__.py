# SPDX-License-Identifier: Apache-2.0
"""Two settings that give the same data: a witness against identifiability."""

from pyro_idvae.diagnostics.witness.find import find_witness
from pyro_idvae.diagnostics.witness.of_likelihood import Witness
from pyro_idvae.diagnostics.witness.of_model import ModelWitness

__all__ = ["ModelWitness", "Witness", "find_witness"]
