# SPDX-License-Identifier: Apache-2.0
"""Where the training of an injection in noise units begins."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_idvae._checks import inverse_softplus
from pyro_idvae.distributions.base_rates import at_prior
from pyro_idvae.errors import ArgumentError
from pyro_idvae.potentials import RidgePotential
from pyro_idvae.potentials.learnable import LearnablePotential
from pyro_idvae.transforms import BrenierInjection

EXCESS = 0.2
"""Above each floor, as a share of it."""
RIDGES = 0.4
"""How much of their usual weight ridges begin with."""


@torch.no_grad()
def begin_at_base(injection: BrenierInjection) -> None:
    """Bring an injection near its floors, its mean over the prior to 0, in place.

    Then training begins at the base rates of the data, with about the nats that were asked for:
    in noise units a steeper start takes rare features anywhere.

    Args:
        injection: as it was made.
    """
    beta, last = injection.beta, injection.g2.potential
    if beta.ceiling is None:
        beta.raw_singular.fill_(_raw(EXCESS * beta.floor))
    for part in (injection.g1, injection.g2):
        potential = part.potential
        if isinstance(potential, LearnablePotential) and potential.ceiling is None:
            potential.raw_excess.fill_(_raw(EXCESS * potential.floor))
        if isinstance(potential, RidgePotential):
            out = softplus(potential.raw_out)
            potential.raw_out.copy_(inverse_softplus(RIDGES * out))
    if not isinstance(last, LearnablePotential):
        raise ArgumentError(f"g2 has a {type(last).__name__}, which has nothing to shift")
    last.shift.sub_(at_prior(injection).mean(0))


def _raw(excess: float) -> Tensor:
    return inverse_softplus(torch.tensor(excess))
