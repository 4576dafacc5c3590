# SPDX-License-Identifier: Apache-2.0
"""The one seam to ArviZ: plain arrays to the native object of the installed version.

A leaf: of the package it imports other leaves only, and no torch. It works with ArviZ 0.23, whose
object is an ``InferenceData``, and with ArviZ 1.x, whose object is an ``xarray.DataTree``.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

with warnings.catch_warnings():
    # ArviZ 0.23 announces its own successor whenever it is imported.
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as az

from pyro_idvae._files import replacing
from pyro_idvae.errors import ArgumentError

__all__ = ["Variable", "density", "groups_of", "pareto_k", "save_netcdf", "to_arviz"]

LEGACY = az.__version__.startswith("0.")
SAMPLE_DIMS = ("chain", "draw")
LEAST_WEIGHTS = 30
"""Weights whose largest fifth has the six that both versions of ArviZ fit a tail to."""
EQUAL_WEIGHTS = 1e-3
"""Nats: weights that differ by less have no tail that matters, and often rounding alone."""
COARSEST = 1.0
"""Nats: weights known no better than this may be equal or not; whether they are is unknown."""
LEAST_WEIGHT = -700.0
"""Nats below the largest weight: stands in for weights that are 0."""
NUMBERS_AT_ONCE = 2**18
"""Weights, stand-ins among them, that go into one fit of tails."""
TAIL_ALONE = 1e-9
"""A relative efficiency at which both versions fit the largest fifth, however many weights."""
UNSAMPLED_GROUPS = ("observed_data", "constant_data")


class Variable(NamedTuple):
    """An array with the names of its dimensions, those of ``sampled`` not counted."""

    values: np.ndarray[Any, Any]
    dims: tuple[str, ...]
    sampled: tuple[str, ...] = SAMPLE_DIMS
    """Names of those that come first where there are draws; fewer for a summary of them."""
    attrs: Mapping[str, Any] = {}
    """Written to the variable."""

    def dims_in(self, group: str) -> tuple[str, ...]:
        """Return the names of all dimensions in a group, those of draws among them."""
        return self.dims if group in UNSAMPLED_GROUPS else (*self.sampled, *self.dims)


def _dataset(
    group: str,
    variables: Mapping[str, Variable],
    coords: Mapping[str, Sequence[Any]],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    arrays = {}
    used: dict[str, int] = {}
    for name, variable in variables.items():
        values, names = variable.values, variable.dims_in(group)
        if len(names) != values.ndim:
            raise ValueError(
                f"{group}/{name} has shape {values.shape} but dimensions {names}: name each one"
            )
        arrays[name] = (names, values, variable.attrs)
        used.update(zip(names, values.shape, strict=True))
    labels = {name: coords.get(name, np.arange(size)) for name, size in used.items()}
    return xr.Dataset(arrays, coords=labels, attrs=dict(attrs))


def to_arviz(
    groups: Mapping[str, Mapping[str, Variable]],
    *,
    coords: Mapping[str, Sequence[Any]] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Return the native ArviZ object with these groups.

    Args:
        groups: group name → variable name → :class:`Variable`. Arrays of all groups but
            ``observed_data`` and ``constant_data`` begin with the dimensions chain and draw, unless
            they say otherwise. Empty groups are left out.
        coords: labels of dimensions; numbers from 0 where there are none.
        attrs: written to every group, next to the time of creation.

    Returns:
        ``arviz.InferenceData`` with ArviZ 0.23, ``xarray.DataTree`` with ArviZ 1.x.

    Raises:
        ValueError: if an array has more or fewer dimensions than names.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.arviz_io import Variable, groups_of, to_arviz
        >>> data = to_arviz({"posterior": {"z": Variable(np.zeros((2, 9, 3)), ("data",))}})
        >>> groups_of(data)["posterior"]["z"].dims
        ('chain', 'draw', 'data')
    """
    said = {"created_at": datetime.now(timezone.utc).isoformat(), **(attrs or {})}
    found = {name: _dataset(name, own, coords or {}, said) for name, own in groups.items() if own}
    return native(found)


def native(datasets: Mapping[str, xr.Dataset]) -> Any:
    """Return the native ArviZ object of datasets by group."""
    if LEGACY:
        return az.InferenceData(**datasets)  # type: ignore[arg-type,unused-ignore]
    return xr.DataTree.from_dict({f"/{group}": dataset for group, dataset in datasets.items()})


def groups_of(data: Any) -> dict[str, xr.Dataset]:
    """Return the groups of a native ArviZ object as datasets, by name."""
    if not hasattr(data, "children") and not hasattr(data, "groups"):
        raise TypeError(
            f"data is a {type(data).__name__}: expected ArviZ data of from_guide, from_mcmc, mcmc"
        )
    if hasattr(data, "children"):
        return {name: node.to_dataset() for name, node in data.children.items()}
    return {name: data[name] for name in data.groups()}


def save_netcdf(data: Any, path: str | os.PathLike[str]) -> None:
    """Write the object to a netCDF file that ``arviz.from_netcdf`` reads; whole or not at all.

    Args:
        data: the native ArviZ object.
        path: the file to write or replace, in a folder that is there.

    Raises:
        TypeError: for data that are no such object.
        ArgumentError: for a path that cannot be written; what was there is as it was.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.arviz_io import Variable, save_netcdf, to_arviz
        >>> data = to_arviz({"posterior": {"z": Variable(np.zeros((2, 9, 3)), ("data",))}})
        >>> save_netcdf(data, "no such folder/draws.nc")
        Traceback (most recent call last):
            ...
        pyro_idvae.errors.ArgumentError: path='no such folder/draws.nc' cannot be written (No such \
file or directory): give a file in a folder that is there
    """
    groups_of(data)
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"path={path!r}: expected a file's name, a str or a Path")
    try:
        with replacing(path) as part:
            data.to_netcdf(str(part), engine="h5netcdf")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"path={os.fspath(path)!r} cannot be written ({why}): give a file in a folder that is "
            "there"
        ) from error


def tail_size(number: int) -> int:
    """Return how many of that many weights, the largest, their Pareto k depends on.

    Args:
        number: how many weights there are.

    Example:
        >>> from pyro_idvae.arviz_io import tail_size
        >>> tail_size(100), tail_size(1_000_000)
        (21, 3001)
    """
    return 1 + math.ceil(_tail_length(number))


def _tail_length(number: int) -> float:
    """Return the length of the tail that is fitted, before it is rounded."""
    return min(number / 5, 3 * math.sqrt(number))


def largest(values: np.ndarray[Any, Any], number: int) -> np.ndarray[Any, Any]:
    """Return the largest numbers along the last axis, in any order; NaN counts as the largest."""
    if values.shape[-1] <= number:
        return values
    return np.partition(values, -number, axis=-1)[..., -number:].copy()


def pareto_k(
    log_weights: np.ndarray[Any, Any],
    *,
    rounding: float | np.ndarray[Any, Any] = 0.0,
    number: int | None = None,
) -> np.ndarray[Any, Any]:
    """Return the Pareto shape k of importance weights.

    The weights of an exact guide are equal up to rounding, and a tail fitted to rounding is any
    number, infinity included. Largest weights within ``rounding``, or within .001 nats, of one
    another count as equal.

    Args:
        log_weights: log w, of shape ``batch + (num_samples,)``; −inf for a weight of 0.
        rounding: how far apart, in nats, equal log weights may come out; a number, or one for each
            entry of ``batch``.
        number: how many weights there are, if these are the largest of them, ``tail_size`` or
            more; None if these are all.

    Returns:
        An array of shape ``batch``; above 0.7 the estimate from these weights is not reliable. 0
        where the largest weights are all equal, and there is no tail. NaN, unknown: for fewer than
        30 weights, whose tail is too short for a fit; where a weight is NaN or infinite, or all are
        0; where weights are equal within a rounding of more than 1 nat.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.arviz_io import pareto_k
        >>> pareto_k(np.random.default_rng(0).normal(size=(3, 1000))).shape
        (3,)
        >>> pareto_k(-1e5 + np.spacing(np.float32(1e5)) * np.arange(40.0), rounding=0.5)
        array(0.)
    """
    batch, given = log_weights.shape[:-1], log_weights.shape[-1]
    number = given if number is None else number
    flat = np.asarray(log_weights, dtype=np.float64).reshape(-1, given)
    k = np.full(len(flat), np.nan)
    if number < LEAST_WEIGHTS or not len(flat):
        return k.reshape(batch)
    tails = np.sort(largest(flat, tail_size(number)), axis=-1)
    defined = np.isfinite(tails[:, -1])
    tails = np.maximum(tails[defined] - tails[defined, -1:], LEAST_WEIGHT)
    limit = np.maximum(np.broadcast_to(rounding, batch).reshape(-1)[defined], EQUAL_WEIGHTS)
    even = -tails[:, -math.floor(_tail_length(number))] <= limit
    found = np.where(limit <= COARSEST, 0.0, np.nan)
    if not even.all():
        found[~even] = _fitted_k(tails[~even], number)
    k[defined] = found
    return k.reshape(batch)


def _fitted_k(tails: np.ndarray[Any, Any], number: int) -> np.ndarray[Any, Any]:
    """Return k by the installed version, from the largest of so many weights of each row."""
    # The versions round the length of a tail differently.
    length = _tail_length(number)
    width = 5 * (math.ceil(length) if LEGACY else math.floor(length))
    step = max(1, NUMBERS_AT_ONCE // width)
    parts = []
    for first in range(0, len(tails), step):
        part = tails[first : first + step]
        # What is below the tail counts by its number alone.
        weights = np.full((len(part), width), LEAST_WEIGHT)
        weights[:, -part.shape[-1] :] = part
        parts.append(_version_k(weights))
    return np.concatenate(parts)


def _version_k(log_weights: np.ndarray[Any, Any]) -> Any:
    """Return k of the largest fifth of each row of weights."""
    # Both warn of large k, which is what the caller asks for; profiles of far tails overflow to 0.
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore", UserWarning)
        if LEGACY:
            return az.psislw(log_weights, reff=TAIL_ALONE)[1]  # type: ignore[no-untyped-call,unused-ignore]
        from arviz_stats.base import array_stats

        # This version takes log *ratios* of leave-one-out, the negatives of log weights.
        return array_stats.psislw(-log_weights, r_eff=TAIL_ALONE)[1]


def density(
    values: np.ndarray[Any, Any], *, limits: tuple[float, float] | None = None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a grid and ArviZ's kernel density estimate of draws of any shape.

    Args:
        values: the draws.
        limits: the ends of the grid, with no draw outside, where what the kernels put outside is
            reflected; the outermost draws if None.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.arviz_io import density
        >>> grid, height = density(np.random.default_rng(0).normal(size=(2, 100)))
        >>> grid.shape == height.shape
        True
    """
    flat = np.ravel(values)
    if LEGACY:
        found = az.kde(flat, custom_lims=limits)  # type: ignore[no-untyped-call,unused-ignore]
    else:
        from arviz_stats.base import array_stats

        found = array_stats.kde(flat, custom_lims=limits)
    return np.asarray(found[0]), np.asarray(found[1])
