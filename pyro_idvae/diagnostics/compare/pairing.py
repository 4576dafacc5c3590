# SPDX-License-Identifier: Apache-2.0
"""Two posteriors side by side: that they are of one model and data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyro_idvae.arviz_io import pareto_k
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError, DataError, ShapeError, SiteMismatchError

Array = np.ndarray[Any, Any]

EQUAL_WEIGHTS = 1e-3
"""Nats: importance weights that differ by less have no tail, only rounding."""
LEAST_WEIGHT = -700.0
"""Nats below the largest weight: stands in for weights that are 0."""


def check_methods(svi: Latents, nuts: Latents) -> None:
    """Raise unless the first are draws of a guide and the second are not."""
    if svi.method is None or not svi.independent:
        raise ArgumentError(
            f"svi has inference_method={svi.method!r}: expected draws of a guide; pass what "
            "from_guide returns, before the exact draws"
        )
    if nuts.method is None or nuts.independent:
        raise ArgumentError(
            f"nuts has inference_method={nuts.method!r}: expected draws of the exact posterior; "
            "pass what mcmc or from_mcmc returns"
        )


def check_observations(svi: Latents, nuts: Latents) -> None:
    """Raise unless both were drawn given the same observations."""
    first, second = svi.observed, nuts.observed
    if sorted(first) != sorted(second):
        raise DataError(
            f"svi observes {sorted(first)} but nuts observes {sorted(second)}: draw both from one "
            "model and its data"
        )
    for name, ours in first.items():
        theirs = second[name]
        if ours.shape != theirs.shape:
            raise DataError(
                f"svi has observations {name!r} of shape {ours.shape} but nuts of {theirs.shape}: "
                "draw both given the same rows"
            )
        if not np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
            raise DataError(
                f"svi and nuts differ in their observations {name!r}: draw both given the same "
                "rows in the same order"
            )


def common_sites(svi: Latents, nuts: Latents, var_names: Sequence[str] | None) -> list[str]:
    """Return the names of the latents to compare, which both must have in one shape."""
    known = svi.names
    if var_names is None and set(known) != set(nuts.names):
        raise SiteMismatchError(
            f"svi has the latents {sorted(known)} but nuts has {sorted(nuts.names)}: name those to "
            "compare with var_names"
        )
    names = known if var_names is None else list(var_names)
    if isinstance(var_names, str) or not names:
        raise ArgumentError(f"var_names={var_names!r}: expected a list of some of {known}")
    for name in names:
        if name not in svi.sites or name not in nuts.sites:
            raise ArgumentError(f"var_names={names!r}: {name!r} is not among the latents {known}")
        ours, theirs = svi.sites[name], nuts.sites[name]
        if (ours.local, ours.labels) != (theirs.local, theirs.labels) or (
            ours.values.shape[2] != theirs.values.shape[2]
        ):
            shapes = [(site.values.shape[2], len(site.labels)) for site in (ours, theirs)]
            raise ShapeError(
                f"the latent {name!r} has (data points, coordinates) {shapes[0]} in svi but "
                f"{shapes[1]} in nuts: all but chains and draws must be the same"
            )
    return names


def importance_k(svi: Latents) -> tuple[Array, bool]:
    """Return the Pareto k of a guide's importance weights p(x, z) / q(z|x).

    Args:
        svi: a guide's draws.

    Returns:
        k of each data point and True; or, if a density is not known per data point, k of the
        weights of all data jointly, of shape ``(1,)``, and False. 0 where all weights are equal;
        NaN where the guide's draws are constant, so that it has no density.
    """
    if svi.log_q is None:
        raise ArgumentError("svi has no sample_stats/log_q: convert with from_guide")
    terms = [*svi.log_likelihood.values(), *svi.log_prior.values(), -svi.log_q]
    per_point = all(term.ndim > 2 for term in terms)
    values = [np.asarray(term, dtype=np.float64) for term in terms]
    if not per_point:
        values = [value.reshape(*value.shape[:2], -1).sum(-1, keepdims=True) for value in values]
    weights = sum(values[1:], values[0])
    weights = weights.reshape(-1, weights.shape[-1]).T
    top = weights.max(-1, keepdims=True)
    defined = np.isfinite(top[:, 0]) & ~np.isnan(weights).any(-1)
    spread = np.zeros(len(weights))
    weights[defined] = np.maximum(weights[defined] - top[defined], LEAST_WEIGHT)
    spread[defined] = np.ptp(weights[defined], axis=-1)
    k = np.where(defined, 0.0, np.nan)
    uneven = spread > EQUAL_WEIGHTS
    if uneven.any():
        k[uneven] = pareto_k(weights[uneven])
    if any(_is_constant(site.values) for site in svi.sites.values()):
        k[:] = np.nan
    return k, per_point


def _is_constant(values: Array) -> bool:
    return bool((values == values[:1, :1]).all())
