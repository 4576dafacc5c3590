# SPDX-License-Identifier: Apache-2.0
"""An estimate of the information where no window is proved: the Bhattacharyya bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_idvae.distributions import InjectiveLikelihood
from pyro_idvae.errors import NoCertificateError


@torch.no_grad()
def bhattacharyya_bound(
    likelihood: InjectiveLikelihood, z: Tensor, rows: int = 1
) -> tuple[float, float]:
    r"""Return :math:`-\frac1S\sum_i\log\frac1S\sum_je^{-nD_B(z_i,z_j)}` and its standard error.

    With i = j among the terms it bounds the information about which of the S draws made x, which
    is at most I(x; z): low in expectation, and at most log S.

    Args:
        likelihood: any whose family has a Bhattacharyya distance.
        z: draws of the prior, of shape ``(S, K)``.
        rows: n, rows of data that one z has; their distances add up.

    Returns:
        Both in nats.

    Raises:
        NoCertificateError: if the distances overflow, or the family has no closed form of them.
    """
    eta = likelihood.injection(z)
    terms = torch.cat(
        [
            -(-rows * likelihood.family.bhattacharyya(part.unsqueeze(-2), eta)).logsumexp(-1)
            for part in eta.split(max(1, 2**22 // eta.numel()))
        ]
    ) + math.log(len(z))
    if not bool(terms.isfinite().all()):
        raise NoCertificateError(
            f"the distances of {likelihood.family.name} distributions at draws of the prior are "
            "not finite: its parameters overflow there; use smaller Lipschitz bounds, or double "
            "precision"
        )
    return terms.mean().item(), terms.std().item() / math.sqrt(len(z))
