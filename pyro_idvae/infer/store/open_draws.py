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
from pyro_idvae.infer.interrupts import common
from pyro_idvae.infer.pyro_kernels import KERNELS
from pyro_idvae.infer.store.journal import Journal
from pyro_idvae.infer.store.layout import ORDER, zarr


def open_draws(path: str | os.PathLike[str]) -> Any:
    """Open draws that ``mcmc`` or ``from_guide`` has written to ``store=path``, finished or not.

    Nothing is read but labels: arrays come from the disk when they are asked for, and
    :func:`collapse_report` reads block by block. A store whose run was ended, or still goes on, has
    ``attrs["complete"]`` 0 and, of rows that are sampled apart, the data points that are done, all
    their draws; what is of all data points together, such as ``energy`` and the limits of
    directions, is not there yet. Of a joint posterior it has the latents of the draws that are
    written, cut to chains of one length, and their statistics.

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
    if closed:
        groups = _opened(journal.draws)
    elif record["options"]["kernel"] in KERNELS:
        groups = _some_draws(journal)
    else:
        groups = _some_rows(journal)
    attrs = {**record["attrs"], "complete": int(closed)}
    return native({name: dataset.assign_attrs(attrs) for name, dataset in groups.items()})


def _some_rows(journal: Journal) -> dict[str, xr.Dataset]:
    """Return the rows that are done, without what is of all rows."""
    record = journal.record
    done = journal.done() if journal.draws.exists() else []
    dim = record["attrs"]["data_dim"]
    if not done:
        return {"posterior": _nothing(record, dim)}
    kept, found = _kept(done, record["block_size"], record["rows"]), {}
    for name, whole in _opened(journal.draws).items():
        own = whole.drop_vars([v for v in whole if is_of_whole(str(v))])
        found[name] = own.isel({dim: kept}) if dim in own.dims else own
    return found


def _some_draws(journal: Journal) -> dict[str, xr.Dataset]:
    """Return the chains and draws that are there of each, cut to where most draws are left."""
    chains = range(journal.record["shape"][0])
    lengths = [journal.length(chain) for chain in chains]
    if not any(lengths) or not journal.chains.exists():
        return {"posterior": _nothing(journal.record, None)}
    length = len(common([range(n) for n in lengths])[0])
    kept = {"chain": [c for c in chains if lengths[c] >= length], "draw": slice(length)}
    return {name: dataset.isel(kept) for name, dataset in _opened(journal.chains).items()}


def _kept(done: list[int], block_size: int, rows: int) -> slice | np.ndarray[Any, Any]:
    """Return which rows are done."""
    if done == list(range(len(done))):
        return slice(0, min(len(done) * block_size, rows))
    parts = [np.arange(n * block_size, min((n + 1) * block_size, rows)) for n in done]
    return np.concatenate(parts)


def _nothing(record: dict[str, Any], rows: str | None) -> xr.Dataset:
    """Return the latents of no rows, or of no draws if there is no name for rows."""
    chains, draws = record["shape"] if rows is not None else (record["shape"][0], 0)
    arrays = {}
    for name, (dims, sizes, dtype) in record["sites"].items():
        shape = [0 if dim == rows else size for dim, size in zip(dims, sizes, strict=True)]
        arrays[name] = (("chain", "draw", *dims), np.zeros((chains, draws, *shape), dtype))
    return xr.Dataset(arrays, coords={"chain": np.arange(chains), "draw": np.arange(draws)})


def _opened(path: Path) -> dict[str, xr.Dataset]:
    """Return the groups of a Zarr store, whose arrays are read when they are asked for."""
    groups = sorted(part.parent.name for part in path.glob("*/.zgroup"))
    options: Any = {"engine": "zarr", "chunks": None, "consolidated": False, "cache": False}
    with warnings.catch_warnings():
        # That a file is no array: one that is being written, or that a killed process left.
        warnings.simplefilter("ignore", UserWarning)
        return {group: _ordered(xr.open_dataset(path, group=group, **options)) for group in groups}


def _ordered(dataset: xr.Dataset) -> xr.Dataset:
    """Return the variables in the order in which they were made."""
    order = dataset.attrs.pop(ORDER, [])
    first = [name for name in order if name in dataset]
    return dataset[[*first, *(name for name in dataset.data_vars if name not in first)]]
