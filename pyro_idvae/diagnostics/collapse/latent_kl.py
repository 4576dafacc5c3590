# SPDX-License-Identifier: Apache-2.0
"""KL to the prior of one latent site, by whatever is known of its prior."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyro_idvae.diagnostics.estimators import (
    KLEstimate,
    kl_from_labels,
    kl_to_normal,
    normal_scores,
)
from pyro_idvae.diagnostics.information import discrete_information
from pyro_idvae.diagnostics.latents import Latent
from pyro_idvae.errors import ArgumentError

Array = np.ndarray[Any, Any]

POOLED = 20_000
"""How many draws, over all data points, the aggregate posterior is estimated from."""


def prior_of(latent: Latent) -> Array:
    """Return a site's prior draws.

    Raises:
        ArgumentError: if there are none.
    """
    if latent.prior is None:
        raise ArgumentError(f"data has no prior/{latent.name}: convert draws with prior draws")
    return latent.prior


def latent_kl(
    latent: Latent, *, independent: bool, worth: Array | float = math.inf
) -> tuple[KLEstimate, Array]:
    """Return KL to the prior, of shape (N, K), and that of the aggregate, of shape (K,).

    Whole numbers are labels, whose prior is the frequencies of its draws. For others the sampler's
    own normal scores are exact; without them the prior's draws are its cdf.

    Args:
        latent: the site.
        independent: whether posterior draws are independent.
        worth: independent draws that each row is worth at most, of shape ``(N,)``.
    """
    most = np.asarray(worth, dtype=float)[..., None]
    values, prior = latent.values, prior_of(latent)
    reference = float(prior.shape[0] * prior.shape[1])
    if _whole(values) and _whole(prior):
        return _of_labels(values.astype(int), prior.astype(int), reference, independent, most)
    if latent.normal_scores is not None:
        scores, reference = latent.normal_scores, math.inf
    else:
        scores = normal_scores(values, prior)
    kl = kl_to_normal(scores, reference_size=reference, independent=independent, worth=most)
    return kl, _aggregate(scores, kl)


def _aggregate(scores: Array, kl: KLEstimate) -> Array:
    """Return KL of the mixture over data points from the prior, of shape (K,)."""
    pooled = scores.reshape(-1, scores.shape[-1])
    chosen = np.random.default_rng(0).permutation(len(pooled))[:POOLED]
    found = kl_to_normal(pooled[None, chosen], independent=True)
    bias = kl.bias.mean(0) / kl.raw.shape[0] + found.bias * (len(pooled) > POOLED)
    return np.asarray(np.maximum(found.raw - bias, 0.0))


def _whole(values: Array) -> bool:
    # Pyro's Bernoulli draws are floating point numbers.
    return values.dtype.kind in "iub" or bool((values == np.rint(values)).all())


def _of_labels(
    values: Array, prior: Array, reference: float, independent: bool, worth: Array
) -> tuple[KLEstimate, Array]:
    """Return KL of integer draws to the frequencies of prior draws, and that of the aggregate."""
    low = min(values.min(), prior.min())
    categories = max(int(max(values.max(), prior.max()) - low) + 1, 2)
    draws = values - low
    counts = np.stack([(prior - low == c).sum((0, 1)) for c in range(categories)], axis=-1)
    # Half a draw more of each, as a category the prior never drew is not an impossible one.
    pi = (counts + 0.5) / (reference + categories / 2)
    kl = kl_from_labels(draws, pi, reference_size=reference, independent=independent, worth=worth)
    shares = np.stack([(draws == c).mean((0, 1)) for c in range(categories)], axis=-1)
    pooled = discrete_information(np.moveaxis(shares, 0, 1), pi.mean(0)).aggregate_kl
    return kl, np.maximum(pooled - kl.bias.mean(0) / kl.raw.shape[0], 0.0)
