# SPDX-License-Identifier: Apache-2.0
"""Plain arrays of the groups of ArviZ data, whatever the order of their dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyro_idvae.arviz_io import groups_of
from pyro_idvae.errors import ArgumentError

Array = np.ndarray[Any, Any]

DATA_DIMS = ("data", "row", "data_point")
"""What older files, which do not say it, call the dimension of data points."""


def checked_groups(data: Any, name: str) -> dict[str, Any]:
    """Return the groups of ArviZ data as datasets, a posterior among them.

    Args:
        data: the data.
        name: of the argument, for messages.

    Raises:
        ArgumentError: for other data, or no posterior.
    """
    try:
        groups: dict[str, Any] = groups_of(data)
    except TypeError as error:
        raise ArgumentError(str(error)) from error
    posterior = groups.get("posterior")
    if posterior is None or not posterior.data_vars:
        raise ArgumentError(
            f"{name} has the groups {sorted(groups)}: expected a posterior; pass what "
            "from_guide, mcmc or from_mcmc returns"
        )
    return groups


def is_whole(values: Array) -> bool:
    """Tell whether draws are labels: whole numbers, Pyro's Bernoulli draws among them."""
    return values.dtype.kind in "iub" or bool((values == np.rint(values)).all())


def data_dim_of(groups: Mapping[str, Any]) -> str | None:
    """Return the name of the dimension of data points, if anything has it."""
    said = groups["posterior"].attrs.get("data_dim")
    used = {
        str(dim)
        for group in ("posterior", "log_likelihood")
        for array in groups.get(group, {}).values()
        for dim in array.dims
    }
    if said is not None:
        return str(said) if said in used else None
    for array in groups.get("log_likelihood", {}).values():
        if array.ndim > 2:
            return str(array.dims[2])
    return next((dim for dim in DATA_DIMS if dim in used), None)


def by_row(array: Any, dim: str | None) -> Array:
    """Return draws of shape ``(chain, draw, N, K)``; N = 1 without a dimension of data points."""
    local = dim in array.dims
    leading = ("chain", "draw", dim) if local else ("chain", "draw")
    values = np.asarray(array.transpose(*leading, ...).values)
    return values.reshape(*values.shape[:2], values.shape[2] if local else 1, -1)


def densities(group: Any, dim: str | None) -> dict[str, Array]:
    """Return the log densities of a group by site, as :func:`density` does."""
    return {} if group is None else {str(n): density(v, dim) for n, v in group.items()}


def density(array: Any, dim: str | None) -> Array:
    """Return log densities of shape ``(chain, draw, N)`` or ``(chain, draw)``."""
    leading = ("chain", "draw", dim) if dim in array.dims else ("chain", "draw")
    values = np.asarray(array.transpose(*leading, ...).values)
    rest = tuple(range(len(leading), values.ndim))
    return np.asarray(values.sum(rest)) if rest else values


def divergences(stats: Any) -> int:
    """Return the number of divergent transitions, of rows if these were sampled apart."""
    # Version 0.1 wrote those of rows under the name that ArviZ has for the whole.
    for name in ("row_diverging", "diverging"):
        if name in stats:
            return int(stats[name].sum())
    return 0
