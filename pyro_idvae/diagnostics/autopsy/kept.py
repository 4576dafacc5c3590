# SPDX-License-Identifier: Apache-2.0
"""How much of the exact posterior's information a guide keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_idvae.diagnostics.collapse.latent_kl import prior_of
from pyro_idvae.diagnostics.estimators import normal_scores
from pyro_idvae.diagnostics.latents import Latents

Array = np.ndarray[Any, Any]


def information_kept(exact: Latents, guide: Latents) -> Array:
    r"""Return the mean over data points of E_{p(z_k|x)}[log q(z_k|x) − log p(z_k)], in nats.

    With q's marginal taken as N(m, s²) on the scale on which the prior is N(0, 1),

    .. math:: \mathbb E_p\Bigl[-\log s - \frac{(z-m)^2}{2s^2} + \frac{z^2}{2}\Bigr]

    Args:
        exact: draws of the exact posterior.
        guide: draws of q.

    Returns:
        An array with one number for each latent dimension, in the order of a collapse report.
    """
    kept = []
    for name, latent in exact.sites.items():
        other = guide.sites[name]
        truth, drawn = latent.normal_scores, other.normal_scores
        if truth is None or drawn is None:
            prior = prior_of(latent)
            truth, drawn = (normal_scores(side.values, prior) for side in (latent, other))
        mean, scale = drawn.mean((0, 1)), drawn.std((0, 1))
        scale = np.maximum(scale, np.finfo(scale.dtype).eps)
        terms = -np.log(scale) - 0.5 * ((truth - mean) / scale) ** 2 + 0.5 * truth**2
        kept.append(terms.mean((0, 1, 2)))
    return np.concatenate(kept)
