# SPDX-License-Identifier: Apache-2.0
"""How much of the exact posterior's information a guide keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_idvae.arviz_io import groups_of
from pyro_idvae.diagnostics.joint import data_dimension
from pyro_idvae.diagnostics.sites import empirical_scores, exact_scores, flat_draws

Array = np.ndarray[Any, Any]


def information_kept(exact: Any, guide: Any) -> Array:
    r"""Return the mean over data points of E_{p(z_k|x)}[log q(z_k|x) − log p(z_k)], in nats.

    With q's marginal taken as N(m, s²) on the scale on which the prior is N(0, 1),

    .. math:: \mathbb E_p\Bigl[-\log s - \frac{(z-m)^2}{2s^2} + \frac{z^2}{2}\Bigr]

    Args:
        exact: ArviZ data of the exact posterior.
        guide: ArviZ data of q.

    Returns:
        An array with one number for each latent dimension, in the order of a collapse report.
    """
    sides = [groups_of(data) for data in (exact, guide)]
    dim = data_dimension(sides[0])
    kept = []
    for name in map(str, sides[0]["posterior"].data_vars):
        truth, drawn = (exact_scores(side, name, dim) for side in sides)
        if truth is None or drawn is None:
            prior = flat_draws(sides[0]["prior"][name], dim)
            truth, drawn = (
                empirical_scores(flat_draws(side["posterior"][name], dim), prior) for side in sides
            )
        mean, scale = drawn.mean((0, 1)), drawn.std((0, 1))
        scale = np.maximum(scale, np.finfo(scale.dtype).eps)
        terms = -np.log(scale) - 0.5 * ((truth - mean) / scale) ** 2 + 0.5 * truth**2
        kept.append(terms.mean((0, 1, 2)))
    return np.concatenate(kept)
