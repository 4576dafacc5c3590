# SPDX-License-Identifier: Apache-2.0
"""Groups of ArviZ data in a Zarr store, written block of rows by block of rows."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from filelock import FileLock

from pyro_idvae.arviz_io import Variable
from pyro_idvae.errors import StoreError
from pyro_idvae.infer.groups import Groups, is_of_whole

Array = np.ndarray[Any, Any]

ORDER = "order_of_variables"
"""The attribute that says it: folders have none, and sums over sites are rounded in theirs."""


def zarr() -> Any:
    """Return the library.

    Raises:
        StoreError: if it is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise StoreError(
            "store: zarr is not installed; pip install 'pyro_idvae[store]', with Python 3.11 or "
            "newer"
        ) from error
    return zarr


class Spec(NamedTuple):
    """An array that is written part by part."""

    shape: Sequence[int]
    chunks: Sequence[int]
    dtype: np.dtype[Any]
    dims: Sequence[str]
    attrs: Mapping[str, Any] = {}


def part_of(path: Path) -> Path:
    """Return where to make a store that is to be there whole, or not at all; none is left over.

    Whoever calls it has the lock of the folder.
    """
    for left in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(6)}")


class Layout:
    """The arrays of all rows, of which some are written.

    Args:
        path: of the Zarr store.
        rows: data points.
        block_size: of the parts that are written, and of the chunks.
        data_dim: name of the rows' dimension.
    """

    def __init__(self, path: Path, *, rows: int, block_size: int, data_dim: str) -> None:
        self.path, self.rows, self.block_size, self.data_dim = path, rows, block_size, data_dim
        self._root: Any = None

    def prepare(
        self, groups: Groups, labels: Mapping[str, Sequence[Any]], attrs: Mapping[str, Any]
    ) -> None:
        """Make the arrays of all rows, if no process has yet.

        Args:
            groups: those of any block.
            labels: along dimensions.
            attrs: written to every group.
        """
        if self.path.exists():
            return
        with FileLock(f"{self.path}.lock"):
            if self.path.exists():
                return
            part = part_of(self.path)
            try:
                for group, variables in groups.items():
                    totals = {name for name in variables if _is_total(name, variables)}
                    kept = {name: one for name, one in variables.items() if name not in totals}
                    self._make(part, group, kept, labels, {**attrs, ORDER: list(variables)})
                part.replace(self.path)
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def extend(
        self,
        variables: Mapping[str, Variable],
        labels: Mapping[str, Sequence[Any]],
        group: str = "sample_stats",
    ) -> None:
        """Add variables to a group that others may be reading; those that are there stay.

        Each comes whole, by one rename: an array that zarr makes has no attributes for a moment,
        and xarray reads none of a group with such a one.
        """
        part = part_of(self.path)
        try:
            self._make(part, group, variables, labels, {})
            # Labels are there before what they label.
            made = sorted((part / group).glob("*/"), key=lambda one: one.name in variables)
            for array in made:
                place = self.path / group / array.name
                if not place.exists():
                    array.replace(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._root = None

    def _make(
        self,
        path: Path,
        group: str,
        variables: Mapping[str, Variable],
        labels: Mapping[str, Sequence[Any]],
        attrs: Mapping[str, Any],
    ) -> None:
        """Write what has no rows, and make arrays for what has."""
        whole, wide = {}, {}
        sizes: dict[str, int] = {}
        for name, variable in variables.items():
            dims = variable.dims_in(group)
            axis = self._axis(group, variable)
            shape = list(variable.values.shape)
            if axis is None:
                whole[name] = (dims, variable.values, variable.attrs)
            else:
                shape[axis] = self.rows
                wide[name] = variable, dims, axis, shape
            sizes.update(zip(dims, shape, strict=True))
        coords = {dim: labels.get(dim, np.arange(size)) for dim, size in sizes.items()}
        write_dataset(path, group, xr.Dataset(whole, coords=coords, attrs=attrs))
        target = zarr().open_group(path, mode="a", zarr_format=2)[group]
        for name, (variable, dims, axis, shape) in wide.items():
            chunks = list(shape)
            chunks[axis] = min(self.block_size, self.rows)
            spec = Spec(shape, chunks, variable.values.dtype, dims, variable.attrs)
            create_array(target, name, spec)

    def write(self, groups: Groups, first: int) -> None:
        """Write the rows of a block.

        Args:
            groups: of these rows.
            first: the first of them.
        """
        root = self._open()
        for group, variables in groups.items():
            for name, variable in variables.items():
                axis = self._axis(group, variable)
                if axis is not None:
                    stop = first + variable.values.shape[axis]
                    place = (slice(None),) * axis + (slice(first, stop),)
                    root[group][name][place] = variable.values

    def read(self, group: str, name: str, rows: slice) -> Array | None:
        """Return a variable of some of the rows; None if there is no such one."""
        root = self._open()
        if name not in root[group]:
            return None
        array = root[group][name]
        axis = array.attrs["_ARRAY_DIMENSIONS"].index(self.data_dim)
        return np.ascontiguousarray(array[(slice(None),) * axis + (rows,)])

    def close(self) -> None:
        """Say in all groups that they are complete, and remove what killed processes left."""
        for left in self.path.rglob("*.partial"):
            left.unlink(missing_ok=True)
        for group in self.path.glob("*/.zgroup"):
            zarr().open_group(group.parent, mode="r+", zarr_format=2).attrs["complete"] = 1

    def _axis(self, group: str, variable: Variable) -> int | None:
        """Return which axis of a variable its rows are, or None."""
        dims = variable.dims_in(group)
        return dims.index(self.data_dim) if self.data_dim in dims else None

    def _open(self) -> Any:
        if self._root is None:
            self._root = zarr().open_group(self.path, mode="r+", zarr_format=2)
        return self._root


def _is_total(name: str, variables: Mapping[str, Variable]) -> bool:
    """Tell whether a statistic is of all rows: it is written when all are there."""
    return is_of_whole(name) and f"row_{name}" in variables


def write_dataset(path: Path, group: str, dataset: xr.Dataset) -> None:
    """Add what xarray writes by itself to a group: attributes, labels, small arrays."""
    with warnings.catch_warnings():
        # That strings of one width are a matter of zarr's second format, which this is.
        warnings.simplefilter("ignore")
        dataset.to_zarr(str(path), group=group, mode="a", zarr_format=2, consolidated=False)


def create_array(target: Any, name: str, spec: Spec) -> None:
    """Make an array that is written part by part, as xarray reads it."""
    target.create_array(
        name,
        shape=tuple(spec.shape),
        chunks=tuple(max(size, 1) for size in spec.chunks),
        dtype=spec.dtype,
        # xarray takes any other number for a missing value.
        fill_value=np.nan if spec.dtype.kind == "f" else None,
        attributes={"_ARRAY_DIMENSIONS": list(spec.dims), **spec.attrs},
    )
