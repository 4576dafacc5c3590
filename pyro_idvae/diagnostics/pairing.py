# SPDX-License-Identifier: Apache-2.0
"""Two posteriors side by side: that they are of one model and data, and where their cells are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyro_idvae.arviz_io import pareto_k
from pyro_idvae.errors import ArgumentError, DataError, ShapeError, SiteMismatchError

Array = np.ndarray[Any, Any]
Groups = Mapping[str, Any]

DATA_DIMS = ("data", "row")
"""What the converters call the dimension of data points."""
EQUAL_WEIGHTS = 1e-3
"""Nats: importance weights that differ by less have no tail, only rounding."""
LEAST_WEIGHT = -700.0
"""Nats below the largest weight: stands in for weights that are 0."""


def check_methods(svi: Groups, nuts: Groups) -> None:
    """Raise unless the first are draws of a guide and the second are not."""
    methods = []
    for name, groups in (("svi", svi), ("nuts", nuts)):
        if "posterior" not in groups:
            raise ArgumentError(
                f"{name} has the groups {sorted(groups)}: expected a posterior; pass what "
                "from_guide, mcmc or from_mcmc returns"
            )
        methods.append(groups["posterior"].attrs.get("inference_method"))
    if methods[0] != "svi":
        raise ArgumentError(
            f"svi has inference_method={methods[0]!r}: expected draws of a guide; pass what "
            "from_guide returns, before the exact draws"
        )
    if methods[1] in ("svi", None):
        raise ArgumentError(
            f"nuts has inference_method={methods[1]!r}: expected draws of the exact posterior; "
            "pass what mcmc or from_mcmc returns"
        )


def check_observations(svi: Groups, nuts: Groups) -> None:
    """Raise unless both were drawn given the same observations."""
    first, second = (groups.get("observed_data", {}) for groups in (svi, nuts))
    if sorted(first) != sorted(second):
        raise DataError(
            f"svi observes {sorted(first)} but nuts observes {sorted(second)}: draw both from one "
            "model and its data"
        )
    for name in first:
        ours, theirs = first[name].values, second[name].values
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


def check_sites(svi: Groups, nuts: Groups, var_names: Sequence[str] | None) -> list[str]:
    """Return the names of the latents to compare, which both must have in one shape."""
    ours, theirs = svi["posterior"], nuts["posterior"]
    known = [str(name) for name in ours.data_vars]
    if var_names is None and set(known) != set(map(str, theirs.data_vars)):
        raise SiteMismatchError(
            f"svi has the latents {sorted(known)} but nuts has "
            f"{sorted(map(str, theirs.data_vars))}: name those to compare with var_names"
        )
    names = known if var_names is None else list(var_names)
    if isinstance(var_names, str) or not names:
        raise ArgumentError(f"var_names={var_names!r}: expected a list of some of {known}")
    for name in names:
        if name not in ours or name not in theirs:
            raise ArgumentError(f"var_names={names!r}: {name!r} is not among the latents {known}")
        if ours[name].dims != theirs[name].dims or ours[name].shape[2:] != theirs[name].shape[2:]:
            raise ShapeError(
                f"the latent {name!r} has dimensions {dict(ours[name].sizes)} in svi but "
                f"{dict(theirs[name].sizes)} in nuts: all but chain and draw must be the same"
            )
    return names


def cells_of(array: Any, name: str) -> tuple[Array, list[str], list[Any]]:
    """Return draws of shape (chain, draw, cells) and the names of coordinates and data points.

    The cells of one coordinate, at all data points, stand next to each other.
    """
    values = np.asarray(array.values, dtype=np.float64)
    dim = next((dim for dim in array.dims[2:] if dim in DATA_DIMS), None)
    if dim is None:
        values, points = values[..., None], ["all"]
    else:
        values, points = np.moveaxis(values, array.dims.index(dim), -1), array[dim].values.tolist()
    shape = values.shape[2:-1]
    if shape:
        latents = [f"{name}[{','.join(map(str, place))}]" for place in np.ndindex(*shape)]
    else:
        latents = [name]
    return values.reshape(*values.shape[:2], -1), latents, points


def importance_k(svi: Groups) -> tuple[Array, bool]:
    """Return the Pareto k of a guide's importance weights p(x, z) / q(z|x).

    Args:
        svi: groups of ``from_guide``.

    Returns:
        k of each data point and True; or, if a density is not known per data point, k of the
        weights of all data jointly, of shape ``(1,)``, and False. 0 where all weights are equal;
        NaN where the guide's draws are constant, so that it has no density.
    """
    terms = [
        *svi["log_likelihood"].data_vars.values(),
        *svi["log_prior"].data_vars.values(),
        -svi["sample_stats"]["log_q"],
    ]
    per_point = all(set(term.dims) & set(DATA_DIMS) for term in terms)
    values = [np.asarray(term.values, dtype=np.float64) for term in terms]
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
    if any(_is_constant(value) for value in svi["posterior"].data_vars.values()):
        k[:] = np.nan
    return k, per_point


def _is_constant(array: Any) -> bool:
    values = array.values
    return bool((values == values[:1, :1]).all())
