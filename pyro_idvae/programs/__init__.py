# SPDX-License-Identifier: Apache-2.0
"""A Pyro program on its data: arguments, sites, plates, parameters, log densities."""

from pyro_idvae.programs.arguments import as_arguments, row_count, take_rows
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.door import open_model, open_pair
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.parameters import claim_parameters
from pyro_idvae.programs.row_density import RowDensity

__all__ = [
    "BoundModel",
    "RowDensity",
    "as_arguments",
    "check_factorises",
    "claim_parameters",
    "open_model",
    "open_pair",
    "row_count",
    "take_rows",
]
