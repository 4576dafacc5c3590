# SPDX-License-Identifier: Apache-2.0
"""KL to the prior of one latent site, by whatever is known of its prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae.diagnostics.estimators import (
    KLEstimate,
    kl_from_labels,
    kl_to_normal,
    normal_scores,
)
from pyro_idvae.diagnostics.information import discrete_information
from pyro_idvae.diagnostics.latents import Latent
from pyro_idvae.diagnostics.reading import is_whole
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


class Pool(NamedTuple):
    """What tells of the mixture of the posteriors of all rows."""

    scores: Array | None
    """Some draws of all rows, of shape ``(draws, K)``; None for labels."""
    whole: bool
    """Whether these are all draws."""
    shares: Array | None = None
    """For labels: sums over rows of their shares, of shape ``(K, categories)``."""
    prior: Array | None = None
    """And of the prior's."""


def pooled_draws(total: int) -> Array | None:
    """Return which of so many draws of all rows make a pool; None for all of them."""
    if total <= POOLED:
        return None
    chosen = np.random.default_rng(0).choice(total, POOLED, replace=False, shuffle=False)
    return np.sort(chosen)


def latent_kl(
    latent: Latent,
    *,
    independent: bool,
    worth: Array | float = math.inf,
    rows: tuple[int, int] | None = None,
) -> tuple[KLEstimate, Pool]:
    """Return KL to the prior, of shape (N, K), and a pool of draws.

    Whole numbers are labels, whose prior is the frequencies of its draws. For others the sampler's
    own normal scores are exact; without them the prior's draws are its cdf.

    Args:
        latent: the site.
        independent: whether posterior draws are independent.
        worth: independent draws that each row is worth at most, of shape ``(N,)``.
        rows: the first of these rows among all, and how many all are.
    """
    most = np.asarray(worth, dtype=float)[..., None]
    values, prior = latent.values, prior_of(latent)
    reference = float(prior.shape[0] * prior.shape[1])
    if is_whole(values) and is_whole(prior):
        return _of_labels(values.astype(int), prior.astype(int), reference, independent, most)
    if latent.normal_scores is not None:
        scores, reference = latent.normal_scores, math.inf
    else:
        scores = normal_scores(values, prior)
    kl = kl_to_normal(scores, reference_size=reference, independent=independent, worth=most)
    return kl, _pool(scores, *(rows or (0, scores.shape[2])))


def _pool(scores: Array, first: int, count: int) -> Pool:
    """Return those draws of some rows that are in the pool of all."""
    each, rows = scores.shape[0] * scores.shape[1], scores.shape[2]
    flat = scores.reshape(each, rows, -1)
    chosen = pooled_draws(each * count)
    if chosen is None:
        return Pool(flat.reshape(each * rows, -1), True)
    draw, row = np.divmod(chosen, count)
    here = (row >= first) & (row < first + rows)
    return Pool(flat[draw[here], row[here] - first], False)


def aggregate_kl(kl: KLEstimate, pools: Sequence[Pool]) -> Array:
    """Return KL of the mixture over data points from the prior, of shape (K,).

    Args:
        kl: of each row.
        pools: of parts of the rows.
    """
    count = kl.raw.shape[0]
    if pools[0].shares is not None:
        shares, prior = (
            np.sum([getattr(pool, name) for pool in pools], axis=0) / count
            for name in ("shares", "prior")
        )
        found = discrete_information(shares[:, None], prior).aggregate_kl
        return np.asarray(np.maximum(found - kl.bias.mean(0) / count, 0.0))
    scores = np.concatenate([pool.scores for pool in pools if pool.scores is not None])
    fitted = kl_to_normal(scores[None], independent=True)
    bias = kl.bias.mean(0) / count + fitted.bias * (not pools[0].whole)
    return np.asarray(np.maximum(fitted.raw - bias, 0.0))


def _of_labels(
    values: Array, prior: Array, reference: float, independent: bool, worth: Array
) -> tuple[KLEstimate, Pool]:
    """Return KL of integer draws to the frequencies of prior draws, and sums over rows."""
    low = min(values.min(), prior.min())
    categories = max(int(max(values.max(), prior.max()) - low) + 1, 2)
    draws = values - low
    counts = np.stack([(prior - low == c).sum((0, 1)) for c in range(categories)], axis=-1)
    # Half a draw more of each, as a category the prior never drew is not an impossible one.
    pi = (counts + 0.5) / (reference + categories / 2)
    kl = kl_from_labels(draws, pi, reference_size=reference, independent=independent, worth=worth)
    shares = np.stack([(draws == c).mean((0, 1)) for c in range(categories)], axis=-1)
    return kl, Pool(None, True, shares.sum(0), pi.sum(0))
