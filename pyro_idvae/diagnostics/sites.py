# SPDX-License-Identifier: Apache-2.0
"""KL to the prior of one latent site in ArviZ data, by whatever is known of its prior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtri

from pyro_idvae.diagnostics.divergence import kl_from_labels, kl_from_scores
from pyro_idvae.diagnostics.drawn import DrawKL
from pyro_idvae.diagnostics.information import discrete_information

Array = np.ndarray[Any, Any]

POOLED = 20_000
"""Draws, over all data points, that the aggregate posterior is read off."""


def flat_draws(array: Any, dim: str | None) -> Array:
    """Return draws of shape (chain, draw, N, K)."""
    leading = ("chain", "draw", *([dim] if dim in array.dims else []))
    values = np.asarray(array.transpose(*leading, ...).values)
    return values.reshape(*values.shape[:2], values.shape[2] if dim in array.dims else 1, -1)


def site_divergence(
    groups: Mapping[str, xr.Dataset],
    name: str,
    dim: str | None,
    values: Array,
    prior: Array,
    *,
    independent: bool,
) -> tuple[DrawKL, Array]:
    """Return KL to the prior, of shape (N, K), and that of the aggregate, of shape (K,).

    Whole numbers are labels, whose prior is the frequencies of its draws. For others the scores of
    the sampler's own output are exact; without them the prior's draws are its cdf.

    Args:
        groups: the groups of ArviZ data.
        name: the latent site.
        dim: the dimension of data points; N = 1 for a site without it.
        values: posterior draws, of shape ``(chain, draw, N, K)``.
        prior: prior draws, in the same order.
        independent: whether posterior draws are independent.
    """
    reference = float(prior.shape[0] * prior.shape[1])
    if _whole(values) and _whole(prior):
        return _of_labels(values.astype(int), prior.astype(int), reference, independent)
    known = exact_scores(groups, name, dim)
    if known is not None:
        scores, reference = known, math.inf
    else:
        scores = empirical_scores(values, prior)
    kl = kl_from_scores(scores, reference_size=reference, independent=independent)
    return kl, _aggregate(scores, kl)


def exact_scores(groups: Mapping[str, xr.Dataset], name: str, dim: str | None) -> Array | None:
    """Return a site's draws on the scale on which its prior is N(0, 1), if that is known."""
    variable = f"prior_score_{name}"
    if variable not in groups.get("sample_stats", {}):
        return None
    return flat_draws(groups["sample_stats"][variable], dim)


def _aggregate(scores: Array, kl: DrawKL) -> Array:
    """Return KL of the mixture over data points from the prior, of shape (K,)."""
    pooled = scores.reshape(-1, scores.shape[-1])
    chosen = np.random.default_rng(0).permutation(len(pooled))[:POOLED]
    found = kl_from_scores(pooled[None, chosen], independent=True)
    bias = kl.bias.mean(0) / kl.raw.shape[0] + found.bias * (len(pooled) > POOLED)
    return np.asarray(np.maximum(found.raw - bias, 0.0))


def _whole(values: Array) -> bool:
    # Pyro's Bernoulli draws are floating point numbers.
    return values.dtype.kind in "iub" or bool((values == np.rint(values)).all())


def empirical_scores(values: Array, prior: Array) -> Array:
    """Return Φ⁻¹ of ranks among the prior draws of the same data point and dimension.

    Data points are not pooled: their priors may differ, and draws of one prior run may share a
    global latent.
    """
    ordered = np.sort(prior.reshape(-1, *prior.shape[2:]), axis=0)
    scores = np.empty(values.shape)
    for index in np.ndindex(*ordered.shape[1:]):
        place = (slice(None), slice(None), *index)
        column = ordered[(slice(None), *index)]
        below = np.searchsorted(column, values[place], side="left")
        upto = np.searchsorted(column, values[place], side="right")
        scores[place] = ndtri(((below + upto) / 2 + 0.5) / (len(ordered) + 1))
    return scores


def _of_labels(
    values: Array, prior: Array, reference: float, independent: bool
) -> tuple[DrawKL, Array]:
    """Return KL of integer draws to the frequencies of prior draws, and that of the aggregate."""
    low = min(values.min(), prior.min())
    categories = max(int(max(values.max(), prior.max()) - low) + 1, 2)
    draws = values - low
    counts = np.stack([(prior - low == c).sum((0, 1)) for c in range(categories)], axis=-1)
    # Half a draw more of each, as a category the prior never drew is not an impossible one.
    pi = (counts + 0.5) / (reference + categories / 2)
    kl = kl_from_labels(draws, pi, reference_size=reference, independent=independent)
    shares = np.stack([(draws == c).mean((0, 1)) for c in range(categories)], axis=-1)
    pooled = discrete_information(np.moveaxis(shares, 0, 1), pi.mean(0)).aggregate_kl
    return kl, np.maximum(pooled - kl.bias.mean(0) / kl.raw.shape[0], 0.0)
