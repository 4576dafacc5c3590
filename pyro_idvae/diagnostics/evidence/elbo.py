# SPDX-License-Identifier: Apache-2.0
"""The ELBO of each row, from draws of q."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.side_by_side import densities_of, guide_draws


def row_elbo(bound: BoundModel, num_samples: int) -> RowEstimate | None:
    r"""Return :math:`\mathbb E_{q(z|x)}[\log p(x, z) - \log q(z|x)]` of each row.

    Args:
        bound: model and guide on their data.
        num_samples: draws of the guide.

    Returns:
        None where a density does not factorise over the rows.
    """
    values, log_q = guide_draws(bound, num_samples)
    found = densities_of(bound, values)
    return elbo_of({**found.likelihood, **found.prior}, log_q)


def elbo_of(log_joint: Mapping[str, Tensor], log_q: Tensor) -> RowEstimate | None:
    """Return the ELBO from log densities of draws, each of shape ``(draws, rows)``; None if not."""
    terms = [*log_joint.values(), -log_q]
    if any(term.dim() < 2 for term in terms):
        return None
    total = torch.stack([term.double() for term in terms]).sum(0).cpu().numpy()
    return RowEstimate(total.mean(0), total.std(0, ddof=1) / math.sqrt(len(total)))
