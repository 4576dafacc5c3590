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
    likelihood: InjectiveLikelihood,
    z: Tensor,
    rows: int = 1,
    total_counts: Tensor | None = None,
) -> tuple[float, float]:
    r"""Return :math:`-\frac1S\sum_i\log\frac1S\sum_je^{-nD_B(z_i,z_j)}` and its standard error.

    With i = j among the terms it bounds the information about which of the S draws made x, which
    is at most I(x; z): low in expectation, and at most log S.

    Args:
        likelihood: any whose family has a Bhattacharyya distance.
        z: draws of the prior, of shape ``(S, K)``.
        rows: n, rows of data that one z has; their distances add up.
        total_counts: of observations that are of so many draws, of shape ``(m,)``: the mean over
            these is returned, each with a z of its own.

    Returns:
        Both in nats.

    Raises:
        NoCertificateError: if the distances overflow, or the family has no closed form of them.
    """
    eta = likelihood.injection(z)
    one = () if total_counts is None else (total_counts.new_ones(()),)
    found = []
    for part in eta.split(max(1, 2**22 // eta.numel())):
        distance = rows * likelihood.family.bhattacharyya(part.unsqueeze(-2), eta, *one)
        found.append(-_mean_log_sum(distance, total_counts))
    terms = torch.cat(found) + math.log(len(z))
    if not bool(terms.isfinite().all()):
        raise NoCertificateError(
            f"the distances of {likelihood.family.name} distributions at draws of the prior are "
            "not finite: its parameters overflow there; use smaller Lipschitz bounds, or double "
            "precision"
        )
    return terms.mean().item(), terms.std().item() / math.sqrt(len(z))


def _mean_log_sum(distance: Tensor, total_counts: Tensor | None) -> Tensor:
    """Return log Σ exp(−nD) over the last dimension, the mean of it over the counts n."""
    if total_counts is None:
        return (-distance).logsumexp(-1)
    sizes, times = total_counts.unique(return_counts=True)
    sums = [share * (-n * distance).logsumexp(-1) for n, share in zip(sizes, times, strict=True)]
    return torch.stack(sums).sum(0) / len(total_counts)
