# SPDX-License-Identifier: Apache-2.0
"""The figures of one latent site, row by row and on average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae.diagnostics.collapse.latent_kl import Pool, aggregate_kl, latent_kl, prior_of
from pyro_idvae.diagnostics.estimators import KLEstimate, effective_sample_size
from pyro_idvae.diagnostics.latents import Latent
from pyro_idvae.errors import ArgumentError, DataError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Measured:
    """The figures of one site, arrays of shape (N, K) or (K,); N = 1 for a global one."""

    latent: Latent
    kl: KLEstimate
    active_variance: Array
    contraction: Array
    mutual_information: Array
    aggregate_kl: Array
    ess: Array

    def rows(self, epsilon: float, confidence: float) -> pd.DataFrame:
        """Return a row of the table for each coordinate."""
        mean = self.kl.mean(0)
        above = self.kl.lower(confidence) > epsilon
        return pd.DataFrame(
            {
                "kl": mean.estimate,
                "kl_lower": mean.lower(confidence),
                "kl_upper": mean.upper(confidence),
                "p_value": mean.p_value(),
                "largest": self.kl.estimate.max(0),
                "largest_row": self.kl.estimate.argmax(0),
                "share_above": above.mean(0),
                "active_variance": self.active_variance,
                "contraction": self.contraction,
                "mutual_information": self.mutual_information,
                "aggregate_kl": self.aggregate_kl,
                "ess": np.median(self.ess, axis=0),
                "data_points": self.kl.raw.shape[0],
            },
            index=list(self.latent.labels),
        )


@dataclass(frozen=True)
class MeasuredRows:
    """What is measured of some rows, arrays of shape (N, K)."""

    latent: Latent
    kl: KLEstimate
    pool: Pool
    ess: Array
    mean: Array
    variance: Array
    prior_variance: Array


def measure_rows(
    latent: Latent, *, independent: bool, worth: Array, rows: tuple[int, int] | None = None
) -> MeasuredRows:
    """Return what is measured of some rows of a site.

    Args:
        latent: its draws.
        independent: whether they are independent.
        worth: independent draws that each row is worth at most.
        rows: the first of these rows among all, and how many all are.

    Raises:
        ArgumentError: if there are no prior draws, or too few of any.
        DataError: for draws that are not finite or do not move.
    """
    prior = prior_of(latent)
    if not np.isfinite(prior).all():
        raise DataError(f"prior draws of {latent.name!r} are not all finite: look at the model")
    most: Any = worth if latent.local else math.inf
    try:
        kl, pool = latent_kl(
            latent, independent=independent, worth=most, rows=rows if latent.local else None
        )
    except (ArgumentError, DataError) as error:
        raise type(error)(f"latent {latent.name!r}: {error}") from error
    values, prior = latent.values.astype(float), prior.astype(float)
    size = float(values.shape[0] * values.shape[1])
    ess = np.full(kl.raw.shape, size) if independent else effective_sample_size(values)
    return MeasuredRows(
        latent.without_draws(),
        kl,
        pool,
        np.minimum(ess, np.asarray(most, dtype=float)[..., None]),
        values.mean((0, 1)),
        values.var((0, 1)),
        prior.var((0, 1)),
    )


def measured(parts: Sequence[MeasuredRows]) -> Measured:
    """Return the figures of a site, from those of parts of its rows."""
    latent = parts[0].latent
    if not latent.local:
        parts = parts[:1]
    kl = KLEstimate.concatenate([part.kl for part in parts])
    ess, mean, variance, prior_variance = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("ess", "mean", "variance", "prior_variance")
    )
    aggregate = aggregate_kl(kl, [part.pool for part in parts])
    count = len(mean)
    nothing = np.full(kl.raw.shape[1], math.nan)
    known = latent.local and count > 1
    information = np.clip(kl.mean(0).estimate - aggregate, 0.0, math.log(count))
    noise = (variance / ess).mean(0)
    spread = mean.var(0, ddof=1) if known else nothing
    left, whole = variance.mean(0), prior_variance.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        contraction = np.where(whole > 0, 1.0 - left / whole, math.nan)
    return Measured(
        latent=latent,
        kl=kl,
        active_variance=np.maximum(spread - noise, 0.0),
        contraction=contraction,
        mutual_information=information if known else nothing,
        aggregate_kl=aggregate if known else nothing,
        ess=ess,
    )
