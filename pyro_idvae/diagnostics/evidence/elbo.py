# SPDX-License-Identifier: Apache-2.0
"""The ELBO of each row, from a guide's draws."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.side_by_side import densities_of, guide_draws

Array = np.ndarray[Any, Any]


class RowElbo(NamedTuple):
    """The ELBO by row, in nats, of shape ``(rows,)``."""

    value: Array
    error: Array
    """Its Monte-Carlo standard error."""


def row_elbo(bound: BoundModel, num_samples: int) -> RowElbo | None:
    r"""Return :math:`\mathbb E_{q(z|x)}[\log p(x, z) - \log q(z|x)]` of each row.

    Args:
        bound: model and guide on their data.
        num_samples: draws of the guide.

    Returns:
        None where a density does not factorise over the rows.
    """
    values, log_q = guide_draws(bound, num_samples)
    found = densities_of(bound, values)
    terms = [*found.likelihood.values(), *found.prior.values(), -log_q]
    if any(term.dim() < 2 for term in terms):
        return None
    total = sum(term.double() for term in terms).cpu().numpy()  # type: ignore[union-attr]
    return RowElbo(total.mean(0), total.std(0, ddof=1) / math.sqrt(num_samples))
