# SPDX-License-Identifier: Apache-2.0
"""Draws in a store as ArviZ data that are read when they are asked for."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pyro_idvae.arviz_io import native
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.groups import is_of_whole
from pyro_idvae.infer.store.journal import Journal
from pyro_idvae.infer.store.layout import zarr


def open_draws(path: str | os.PathLike[str]) -> Any:
    """Open the draws that ``mcmc(..., store=path)`` has written, finished or not.

    Nothing is read but labels: arrays come from the disk when they are asked for, and
    :func:`collapse_report` reads block by block. A store whose run was ended, or still goes on, has
    the data points that are done, all their draws, and ``attrs["complete"]`` is 0; what is of all
    data points together, such as ``energy`` and the limits of directions, is not there yet.

    Args:
        path: the folder of the store.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x), with the groups of
        :func:`from_guide`.

    Raises:
        ArgumentError: for what is no path.
        StoreError: if there is no store, it cannot be read, or Zarr is not installed.

    Example:
        >>> import tempfile
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = idvae.mcmc(
        ...         vae.model, torch.randn(30, 5), kernel="vectorized", num_samples=5,
        ...         store=f"{folder}/draws", progress=False,
        ...     )
        ...     draws = idvae.open_draws(f"{folder}/draws")
        ...     draws["posterior"]["latent"].shape
        (4, 5, 30, 2)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"path={path!r}: expected the folder of a store, a str or a Path")
    journal = Journal(Path(path))
    zarr()
    closed, record = journal.closed, journal.record
    done = journal.done() if journal.draws.exists() else []
    groups = _opened(journal.draws) if done else {"posterior": _nothing(record)}
    dim = record["attrs"]["data_dim"]
    kept = _kept(done, record["block_size"], record["rows"])
    found = {}
    for name, whole in groups.items():
        dataset = whole
        if not closed:
            dataset = whole.drop_vars([v for v in whole if is_of_whole(str(v))])
            if dim in dataset.dims and done:
                dataset = dataset.isel({dim: kept})
        found[name] = dataset.assign_attrs({**record["attrs"], "complete": int(closed)})
    return native(found)


def _kept(done: list[int], block_size: int, rows: int) -> slice | np.ndarray[Any, Any]:
    """Return which rows are done."""
    if done == list(range(len(done))):
        return slice(0, min(len(done) * block_size, rows))
    parts = [np.arange(n * block_size, min((n + 1) * block_size, rows)) for n in done]
    return np.concatenate(parts)


def _nothing(record: dict[str, Any]) -> xr.Dataset:
    """Return the latents of no rows."""
    chains, draws = record["shape"]
    arrays = {}
    for name, (dims, sizes, dtype) in record["sites"].items():
        shape = [
            0 if dim == record["attrs"]["data_dim"] else size
            for dim, size in zip(dims, sizes, strict=True)
        ]
        arrays[name] = (("chain", "draw", *dims), np.zeros((chains, draws, *shape), dtype))
    return xr.Dataset(arrays, coords={"chain": np.arange(chains), "draw": np.arange(draws)})


def _opened(path: Path) -> dict[str, xr.Dataset]:
    """Return the groups of a Zarr store, whose arrays are read when they are asked for."""
    groups = sorted(part.parent.name for part in path.glob("*/.zgroup"))
    options: Any = {"engine": "zarr", "chunks": None, "consolidated": False, "cache": False}
    with warnings.catch_warnings():
        # That a file is no array: one that is being written, or that a killed process left.
        warnings.simplefilter("ignore", UserWarning)
        return {group: xr.open_dataset(path, group=group, **options) for group in groups}
