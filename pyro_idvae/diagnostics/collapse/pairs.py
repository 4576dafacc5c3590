# SPDX-License-Identifier: Apache-2.0
"""Latents that are known together: how far their posterior draws depend on one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from pyro_idvae.diagnostics.latents import Latents

Array = np.ndarray[Any, Any]

STRONG = 0.5
"""Squared rank correlation from which on two latents are said to be known together."""
VISIBLE = 0.05
"""Squared rank correlation, beyond chance, that tells of dependence at all."""
DRAWS, ROWS = 400, 200
"""Draws and rows that are looked at."""
COORDINATES = 256


class Dependence(NamedTuple):
    """How far the posterior draws of coordinates depend on one another."""

    labels: list[str]
    pairs: Array
    """Squared rank correlations of pairs, of shape ``(K, K)``; 0 on the diagonal."""
    whole: Array
    """The squared multiple correlation of each with all others, of shape ``(K,)``, or the largest
    one of its pairs."""


def looked_at(rows: int) -> Array:
    """Return which of so many rows are looked at."""
    return np.unique(np.linspace(0, rows - 1, min(rows, ROWS)).astype(int))


def labels_of(latents: Latents, names: Sequence[str]) -> list[str]:
    """Return the labels of the coordinates of sites."""
    return [label for name in names for label in latents.sites[name].labels]


def standardised(latents: Latents, names: Sequence[str], rows: Array) -> Array | None:
    """Return some draws of some rows, of shape ``(draws, rows, K)``.

    Args:
        latents: the draws.
        names: of the sites.
        rows: which rows.

    Returns:
        None for a single coordinate, or more than 256.
    """
    if not 2 <= len(labels_of(latents, names)) <= COORDINATES:
        return None
    chains, draws = latents.shape
    draw = np.unique(np.linspace(0, draws - 1, min(draws, -(-DRAWS // chains))).astype(int))
    parts = []
    for site in (latents.sites[name] for name in names):
        own = rows if site.local else np.zeros(1, dtype=int)
        scores = site.values if site.normal_scores is None else site.normal_scores
        kept = scores[:, draw][:, :, own].astype(float)
        if site.normal_scores is None and site.prior is not None:
            kept = kept - site.prior[:, :, own].mean((0, 1))
        kept = kept.reshape(-1, *kept.shape[2:])
        parts.append(np.broadcast_to(kept, (kept.shape[0], len(rows), kept.shape[2])))
    return np.concatenate(parts, -1)


def dependence(labels: list[str], parts: Sequence[Array | None], size: float) -> Dependence:
    """Return how far coordinates depend on one another within rows, beyond chance.

    Of pairs the larger of the rank correlation of the values and that of their distances from the
    middle of the prior, which shows what is known up to signs. All are 0 for a single coordinate,
    or more than 256.

    Args:
        labels: of the coordinates.
        parts: draws of parts of the rows, as :func:`standardised` returns them.
        size: effective draws.
    """
    known = [part for part in parts if part is not None]
    if not known:
        return Dependence(labels, np.zeros((len(labels),) * 2), np.zeros(len(labels)))
    values = np.concatenate(known, 1)
    count = max(min(size, float(len(values))), 1.0)
    pairs = np.maximum(_squared_correlation(values), _squared_correlation(np.abs(values)))
    pairs = np.maximum(pairs - 2.0 / count, 0.0)
    np.fill_diagonal(pairs, 0.0)
    return Dependence(labels, pairs, np.maximum(_multiple(values, count), pairs.max(-1)))


def _multiple(values: Array, count: float) -> Array:
    """Return R² of each coordinate on all others, adjusted, by the mean covariance of rows."""
    rows, number = values.shape[1:]
    freedom = count * rows - number - 1
    centred = values - values.mean(0)
    covariance = np.einsum("sni,snj->ij", centred, centred, optimize=True)
    scale = np.sqrt(np.diagonal(covariance))
    if freedom < number or not (scale > 0).all():
        return np.zeros(number)
    inflation = np.diagonal(np.linalg.pinv(covariance / np.outer(scale, scale)))
    share = 1.0 - 1.0 / np.maximum(inflation, 1.0)
    found: Array = np.maximum(1.0 - (1.0 - share) * (count * rows - 1) / freedom, 0.0)
    return found


def _squared_correlation(values: Array) -> Array:
    """Return the mean over rows of squared rank correlations of draws ``(draws, rows, K)``."""
    ranks = rankdata(values, axis=0)
    ranks -= ranks.mean(0)
    scale = np.sqrt((ranks**2).sum(0))
    ranks /= np.where(scale > 0, scale, 1.0)
    each = np.einsum("sni,snj->nij", ranks, ranks, optimize=True)
    found: Array = (each**2).mean(0)
    return found


def strong_pairs(found: Dependence) -> pd.DataFrame:
    """Return the pairs that are known together, the strongest first."""
    labels, matrix = found.labels, found.pairs
    rows = [
        {"latent": labels[i], "other": labels[j], "dependence": matrix[i, j]}
        for i, j in zip(*np.triu_indices(len(labels), 1), strict=True)
        if matrix[i, j] >= STRONG
    ]
    table = pd.DataFrame(rows, columns=["latent", "other", "dependence"])
    return table.sort_values("dependence", ascending=False, ignore_index=True)
