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
from pyro_idvae.infer.interrupts import warn_caller
from pyro_idvae.infer.pyro_kernels import KERNELS
from pyro_idvae.infer.ranks import Ranks, agreed_seed, first_finds
from pyro_idvae.infer.rowwise.blocks import blocks_of
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.infer.store.chains import ChainStore
from pyro_idvae.infer.store.journal import Journal
from pyro_idvae.infer.store.layout import zarr
from pyro_idvae.infer.store.open_draws import open_draws
from pyro_idvae.infer.store.order import PROBE, Order, is_same_probe
from pyro_idvae.infer.store.rows import RowStore


def checked_folder(store: Any, *, parallel: bool = False) -> Path:
    """Return the folder of a store.

    Raises:
        ArgumentError: for what is no path, or chains in processes of their own.
        StoreError: if Zarr is not installed, or for a path where something else is.
    """
    if not isinstance(store, (str, os.PathLike)) or not os.fspath(store):
        raise ArgumentError(f"store={store!r}: expected the path of a folder, a str or a Path")
    if parallel:
        raise ArgumentError(
            f"store={store!r} with parallel=True: leave out parallel, and start the script by "
            "torchrun, whose processes share the chains"
        )
    zarr()
    folder = Path(store).absolute()
    Journal.is_at(folder)
    there = next(part for part in (folder, *folder.parents) if part.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise StoreError(
            f"store={os.fspath(store)!r} cannot be written: give a folder in one that can be "
            "written to"
        )
    return folder


def stored(folder: Path, order: Order) -> Any:
    """Draw into a store and open it; after an interrupt too, if there is anything in it."""
    try:
        sample_to(folder, order)
        return open_draws(folder)
    except KeyboardInterrupt:
        if Ranks.here().size > 1 or not Journal.is_at(folder):
            raise
        data = open_draws(folder)
        sizes = data["posterior"].sizes
        if 0 in sizes.values():
            raise
        there = f"{sizes['chain']} chains of {sizes['draw']} draws"
        if order.sampling.kernel not in KERNELS:
            there = f"{sizes[order.names.data_dim]} of {order.bound.rows} data points"
        warn_caller(f"interrupted: {there} are in the store {str(folder)!r}; the same call goes on")
        return data


def sample_to(folder: Path, order: Order) -> None:
    """Sample into a store; what is there of an earlier run of the same call is not done again.

    Args:
        folder: the store.
        order: what is sampled, and what of it is wanted.

    Raises:
        StoreError: if the store is of another call, or another process writes to it.
        KeyboardInterrupt: at Ctrl-C; what is whole by then is in the store.
    """
    bound, sampling = order.bound, order.sampling
    identity = order.identity()
    if Journal.is_at(folder):
        _check_same(folder, Journal(folder).record, _with_given(order, identity))
    sampling.begin(bound)
    joint = sampling if isinstance(sampling, Sampling) and sampling.kernel in KERNELS else None
    if joint is not None:
        chosen = {"block_size": bound.rows, "seed": agreed_seed(sampling.seed)}
    else:
        suited = sampling.blocks(bound)
        chosen = {"block_size": len(suited[0].rows), "seed": suited[0].stream.seed}
    with ExitStack() as held:

        def opened() -> tuple[Journal, list[int], bool]:
            if not Journal.is_at(folder):
                _create(folder, order, {**identity, **chosen})
            journal = Journal(folder)
            held.enter_context(journal.alone())
            return journal, journal.done(), journal.closed

        journal, done, closed = first_finds(opened)
        said = journal.record
        if closed:
            return
        if joint is not None:
            ChainStore(journal, order, joint).run()
        else:
            device = next(iter(bound.values().values())).device
            blocks = blocks_of(bound.rows, said["block_size"], said["seed"], device)
            RowStore(journal, order, blocks).run(done)


def _with_given(order: Order, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity with what a store may have chosen itself, if it is given."""
    sampling, given = order.sampling, dict(identity)
    if sampling.seed is not None:
        given["seed"] = sampling.seed
    if sampling.block_size is not None:
        given["block_size"] = min(sampling.block_size, order.bound.rows)
    return given


def _create(folder: Path, order: Order, record: Mapping[str, Any]) -> None:
    """Make a store of what a record says."""
    sampling, names, bound = order.sampling, order.names, order.bound
    sites = {
        name: [list(names.sites[name]), list(value.shape), str(value.dtype).removeprefix("torch.")]
        for name, value in bound.values().items()
    }
    attrs = {
        **attributes_of(
            names, method=sampling.kernel, independent=sampling.independent, complete=False
        ),
        "pyro_idvae_version": __version__,
        "created_at": datetime.now(timezone.utc).isoformat(),
    }
    shape = list(sampling.shape)
    said = {**record, "rows": bound.rows, "shape": shape, "sites": sites, "attrs": attrs}
    Journal.create(folder, said)


def _check_same(folder: Path, record: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise if a store is of another call."""
    for name, value in wanted.items():
        stored = record.get(name)
        if stored == value or (name == PROBE and is_same_probe(stored or [], value)):
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
