# SPDX-License-Identifier: Apache-2.0
"""Two posteriors side by side: that they are of one model and data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyro_idvae.diagnostics.latents import Latents, check_labels
from pyro_idvae.diagnostics.weights import weigh
from pyro_idvae.errors import ArgumentError, DataError, ShapeError, SiteMismatchError

Array = np.ndarray[Any, Any]


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
        if (ours.local, *ours.values.shape[2:]) != (theirs.local, *theirs.values.shape[2:]):
            shapes = [(site.values.shape[2], len(site.labels)) for site in (ours, theirs)]
            raise ShapeError(
                f"the latent {name!r} has (data points, coordinates) {shapes[0]} in svi but "
                f"{shapes[1]} in nuts: all but chains and draws must be the same"
            )
        check_labels([ours, theirs], ["svi", "nuts"])
    return names


def importance_k(svi: Latents) -> tuple[Array, bool]:
    """Return the Pareto k of a guide's importance weights p(x, z) / q(z|x).

    Args:
        svi: a guide's draws.

    Returns:
        k of each data point and True; or, if a density is not known per data point, k of the
        weights of all data jointly, of shape ``(1,)``, and False. 0 where the largest weights are
        equal up to rounding; NaN where weights are no numbers, and where the guide's draws are
        constant, so that it has no density.
    """
    if svi.log_q is None:
        raise ArgumentError("svi has no sample_stats/log_q: convert with from_guide")
    terms = [*svi.log_likelihood.values(), *svi.log_prior.values(), -svi.log_q]
    per_point = all(term.ndim > 2 for term in terms)
    draws = svi.shape[0] * svi.shape[1]
    _, k = weigh([term.reshape(draws, -1) for term in terms], joint=not per_point)
    if any(_is_constant(site.values) for site in svi.sites.values()):
        k[:] = np.nan
    return k, per_point


def _is_constant(values: Array) -> bool:
    return bool((values == values[:1, :1]).all())
