# SPDX-License-Identifier: Apache-2.0
"""Sampling into a store: begun, or gone on with where it was left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyro_idvae._version import __version__
from pyro_idvae.errors import ArgumentError, StoreError
from pyro_idvae.infer.groups import attributes_of
from pyro_idvae.infer.ranks import shared
from pyro_idvae.infer.rowwise.blocks import blocks_of
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.infer.store.journal import Journal
from pyro_idvae.infer.store.layout import zarr
from pyro_idvae.infer.store.order import Order
from pyro_idvae.infer.store.rows import RowStore


def checked_folder(store: Any, sampling: Sampling) -> Path:
    """Return the folder of a store.

    Raises:
        ArgumentError: for what is no path, or a kernel that samples all rows in one.
        StoreError: if Zarr is not installed, or for a path where something else is.
    """
    if not isinstance(store, (str, os.PathLike)) or not os.fspath(store):
        raise ArgumentError(f"store={store!r}: expected the path of a folder, a str or a Path")
    if sampling.kernel != "vectorized":
        raise ArgumentError(
            f"store={store!r}: the draws of kernel={sampling.kernel!r} are kept in memory; take "
            "kernel='vectorized', or leave it out"
        )
    zarr()
    folder = Path(store).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        Journal(folder)
    return folder


def sample_to(folder: Path, order: Order) -> None:
    """Sample into a store; what is there of an earlier run of the same call is not done again.

    Args:
        folder: the store.
        order: what is sampled, and what of it is wanted.

    Raises:
        StoreError: if the store is of another call, or another process writes to it.
        KeyboardInterrupt: at Ctrl-C; what is whole by then is in the store.
    """
    bound = order.bound
    order.sampling.begin(bound)
    suited = order.sampling.blocks(bound)
    size, stream = len(suited[0].rows), suited[0].stream
    with ExitStack() as held:

        def opened(folder: Path) -> tuple[Journal, list[int], bool]:
            journal = _journal(folder, order, size, stream.seed)
            held.enter_context(journal.alone())
            return journal, journal.done(), journal.closed

        ((journal, done, closed),) = shared([folder], lambda own: list(map(opened, own)))
        if not closed:
            said = journal.record
            blocks = blocks_of(bound.rows, said["block_size"], said["seed"], stream.device)
            RowStore(journal, order, blocks).run(done)


def _journal(folder: Path, order: Order, block_size: int, seed: int) -> Journal:
    """Return the store that is there, checked, or a new one."""
    sampling, names, bound = order.sampling, order.names, order.bound
    identity = order.identity()
    if folder.exists() and any(folder.iterdir()):
        journal = Journal(folder)
        if sampling.seed is not None:
            identity["seed"] = seed
        if sampling.block_size is not None:
            identity["block_size"] = block_size
        _check_same(folder, journal.record, identity)
        return journal
    sites = {
        name: [list(names.sites[name]), list(value.shape), str(value.dtype).removeprefix("torch.")]
        for name, value in bound.values().items()
    }
    attrs = {
        **attributes_of(names, method=sampling.kernel, independent=False, complete=False),
        "pyro_idvae_version": __version__,
        "created_at": datetime.now(timezone.utc).isoformat(),
    }
    record = {
        **identity,
        "seed": seed,
        "block_size": block_size,
        "rows": bound.rows,
        "shape": list(sampling.shape),
        "sites": sites,
        "attrs": attrs,
    }
    return Journal.create(folder, record)


def _check_same(folder: Path, record: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise if a store is of another call."""
    for name, value in wanted.items():
        stored = record.get(name)
        if stored == value:
            continue
        here, there = f"{name}={value!r}", f"{stored!r}"
        if isinstance(value, dict) and isinstance(stored, dict):
            keys = [k for k in {**stored, **value} if stored.get(k) != value.get(k)]
            here = f"{name} {keys[0]!r}, {value.get(keys[0])!r}"
            there = f"{stored.get(keys[0])!r}"
        raise StoreError(
            f"store={str(folder)!r} holds draws of another call: its {name} is not that of this "
            f"call ({here}; stored: {there}). Give another folder, or the same model, data and "
            "options"
        )
