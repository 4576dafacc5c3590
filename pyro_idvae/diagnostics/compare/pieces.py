# SPDX-License-Identifier: Apache-2.0
"""The comparison of some data points, and those of all of them joined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae.diagnostics.compare.pairing import (
    check_methods,
    check_observations,
    common_sites,
    importance_k,
)
from pyro_idvae.diagnostics.estimators import LEAST_DRAWS
from pyro_idvae.diagnostics.estimators.marginals import (
    Array,
    coverages,
    kl_of_draws,
    moments,
    wasserstein,
)
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.mixing import Agreement, agreement, weighed
from pyro_idvae.errors import ArgumentError, DataError

CELLS_AT_ONCE = 2000


@dataclass(frozen=True, eq=False)
class Site:
    """What was found of one latent site.

    Attributes:
        labels: of its coordinates.
        points: labels of the data points.
        columns: of the table, each of shape ``(coordinates, data points)``.
    """

    labels: Sequence[str]
    points: Sequence[Any]
    columns: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Piece:
    """What was found of some data points.

    Attributes:
        sites: of each latent, by name.
        data_dim: name of the dimension of data points; None if there is none.
        k: Pareto k of the guide's weights, by data point, or one for all of them.
        per_point: whether it is by data point.
        divergences: divergent transitions of the exact side.
        agreed: whether the chains of the exact side agree.
    """

    sites: Mapping[str, Site]
    data_dim: str | None
    k: Array
    per_point: bool
    divergences: int
    agreed: Agreement


def compared(
    guide: Latents, sampled: Latents, var_names: Sequence[str] | None, probs: Sequence[float]
) -> Piece:
    """Return what is found of some data points, the same on both sides.

    Args:
        guide: a guide's draws.
        sampled: exact ones.
        var_names: the latent sites to compare; all if None.
        probs: masses of the guide's central intervals.

    Raises:
        ArgumentError, DataError, ShapeError, SiteMismatchError: as :func:`compare` does.
    """
    exact = weighed(sampled)
    check_methods(guide, exact)
    check_observations(guide, exact)
    names = common_sites(guide, exact, var_names)
    k, per_point = importance_k(guide)
    sites = {}
    for name in names:
        latent = guide.sites[name]
        values, other = latent.cells(), exact.sites[name].cells()
        points = guide.point_labels(latent)
        _check_draws(name, {"svi": values, "nuts": other})
        columns = _columns(values, other, probs)
        known = per_point and len(k) == len(points)
        columns["pareto_k"] = (
            np.tile(k, len(latent.labels)) if known else np.full(values.shape[-1], math.nan)
        )
        if not per_point:
            columns["pareto_k_joint"] = np.full(values.shape[-1], k[0])
        shape = len(latent.labels), len(points)
        tabled = {column: value.reshape(shape) for column, value in columns.items()}
        sites[name] = Site(latent.labels, points, tabled)
    agreed = agreement(sampled)
    return Piece(sites, guide.data_dim, k, per_point, sampled.divergences, agreed)


def table_of(pieces: Sequence[Piece]) -> Any:
    """Return a ``pandas.DataFrame`` with a row for each (coordinate, data point) of all pieces."""
    tables = []
    for name, first in pieces[0].sites.items():
        parts = [piece.sites[name] for piece in pieces]
        columns = {
            column: np.concatenate([part.columns[column] for part in parts], axis=1).ravel()
            for column in first.columns
        }
        points = [point for part in parts for point in part.points]
        index = pd.MultiIndex.from_product(
            [first.labels, points], names=["latent", pieces[0].data_dim or "data"]
        )
        tables.append(pd.DataFrame(columns, index=index))
    return pd.concat(tables)


def _check_draws(name: str, sides: Mapping[str, Array]) -> None:
    for side, values in sides.items():
        count = values.shape[0] * values.shape[1]
        if count < LEAST_DRAWS:
            raise ArgumentError(f"{side} has {count} draws: expected at least {LEAST_DRAWS}")
        if not np.isfinite(values).all():
            raise DataError(f"{side} has draws of {name!r} that are not finite: sample again")


def _columns(draws: Array, exact: Array, probs: Sequence[float]) -> dict[str, Array]:
    """Return the columns of the table that come from draws, a few cells at a time."""
    starts = range(0, draws.shape[-1], CELLS_AT_ONCE)
    parts = [slice(start, start + CELLS_AT_ONCE) for start in starts]
    pieces = [_columns_of(draws[..., part], exact[..., part], probs) for part in parts]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _columns_of(draws: Array, exact: Array, probs: Sequence[float]) -> dict[str, Array]:
    ours, theirs = moments(draws, independent=True), moments(exact, independent=False)
    columns = {
        "mean_svi": ours.mean,
        "mean_exact": theirs.mean,
        "sd_svi": ours.sd,
        "sd_exact": theirs.sd,
        "ess_exact": theirs.size,
    }
    for name in ("mean", "sd"):
        gap = columns[f"{name}_svi"] - columns[f"{name}_exact"]
        errors = getattr(ours, f"{name}_error"), getattr(theirs, f"{name}_error")
        with np.errstate(divide="ignore", invalid="ignore"):
            columns[f"{name}_gap_mcse"] = gap / np.hypot(*errors)
            columns[f"{name}_gap_sd"] = gap / theirs.sd
    sizes = ours.size, theirs.size
    columns["wasserstein"], columns["wasserstein_by_chance"] = wasserstein(draws, exact, *sizes)
    columns["kl_svi_exact"], columns["kl_svi_exact_se"] = kl_of_draws(
        draws, exact, *sizes, independent=True
    )
    columns["kl_exact_svi"], columns["kl_exact_svi_se"] = kl_of_draws(
        exact, draws, *sizes[::-1], independent=False
    )
    for prob, share in zip(probs, coverages(draws, exact, probs), strict=True):
        columns[f"coverage_{100 * prob:g}"] = share
    return columns
