# SPDX-License-Identifier: Apache-2.0
"""Draws of Pyro's own kernels in a store, with all that the next ones depend on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from pyro_idvae.infer.arviz import all_groups
from pyro_idvae.infer.draws import evaluated
from pyro_idvae.infer.fit import container
from pyro_idvae.infer.pyro_kernels import ChainState, Draw
from pyro_idvae.infer.ranks import Ranks, first_finds, shared
from pyro_idvae.infer.rowwise.stream import set_generator_states
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.infer.shares import Shares
from pyro_idvae.infer.store.journal import Journal
from pyro_idvae.infer.store.layout import (
    Layout,
    Spec,
    create_array,
    part_of,
    write_dataset,
    zarr,
)
from pyro_idvae.infer.store.order import Order
from pyro_idvae.programs.as_found import as_found

EVERY, SECONDS = 50, 30.0
"""Draws, or the time, from which on draws are written."""
GENERATORS = ("random", "random_cuda")
STATISTICS = ("diverging", "energy", "acceptance_rate", "step_size")


class ChainStore:
    """The sampling of joint posteriors into a store, chain by chain, by one process or several.

    Args:
        journal: the store.
        order: what is sampled, and what of it is wanted.
        sampling: how.
    """

    def __init__(self, journal: Journal, order: Order, sampling: Sampling) -> None:
        self.journal, self.order, self.sampling = journal, order, sampling
        self.bound, self.names = order.bound, order.names

    def run(self) -> None:
        """Draw what is not drawn, then what is of all draws.

        Raises:
            KeyboardInterrupt: at Ctrl-C; what is written by then is in the store.
        """
        torch.manual_seed(self.journal.record["seed"])
        task = self.sampling.task(self.bound)
        first_finds(lambda: self._prepare(self.journal.chains))

        def draw(chains: Sequence[int]) -> list[None]:
            for chain in chains:
                with as_found(self.bound.model):
                    self._draw(chain, replace(task, seed=task.seed + chain))
            return [None] * len(chains)

        shared(range(self.sampling.num_chains), draw)
        first_finds(lambda: self._close(self.journal.draws))

    def _prepare(self, path: Path) -> None:
        """Make the arrays of all draws, if they are not there."""
        if path.exists():
            return
        chains, draws = self.sampling.shape
        variables: dict[str, Any] = {
            name: (self.names.sites[name], tuple(value.shape), value.cpu().numpy().dtype)
            for name, value in self.bound.values().items()
        }
        # As they are drawn: of torch's default type.
        real = torch.empty(0).numpy().dtype
        statistics: dict[str, Any] = dict.fromkeys(STATISTICS, ((), (), real))
        statistics["diverging"] = (), (), np.dtype(bool)
        part = part_of(path)
        for group, arrays in (("posterior", variables), ("sample_stats", statistics)):
            sizes = {"chain": chains, "draw": draws}
            for dims, shape, _ in arrays.values():
                sizes.update(zip(dims, shape, strict=True))
            labels = self.names.labels
            coords = {dim: labels.get(dim, np.arange(size)) for dim, size in sizes.items()}
            empty = xr.Dataset(coords=coords, attrs=self.journal.record["attrs"])
            write_dataset(part, group, empty)
            target = zarr().open_group(part, mode="a", zarr_format=2)[group]
            for name, (dims, shape, dtype) in arrays.items():
                whole, chunks = (chains, draws, *shape), (1, min(EVERY, draws), *shape)
                spec = Spec(whole, chunks, dtype, ("chain", "draw", *dims))
                create_array(target, name, spec)
        part.replace(path)

    def _draw(self, chain: int, task: Any) -> None:
        """Draw the rest of a chain."""
        begun = self._state(chain)
        if begun is not None and begun.draws >= self.sampling.num_samples:
            return
        root = zarr().open_group(self.journal.chains, mode="r+", zarr_format=2)
        waiting: list[Draw] = []
        last = time.monotonic()

        def watch(draws: int, state: Callable[[], ChainState]) -> None:
            nonlocal last
            full = draws % EVERY == 0 or draws == self.sampling.num_samples
            if not full and time.monotonic() - last < SECONDS:
                return
            place = (chain, slice(draws - len(waiting), draws))
            for group, kind, names in (
                ("posterior", "values", self.bound.latents),
                ("sample_stats", "stats", STATISTICS),
            ):
                for name in names:
                    found = torch.stack([getattr(draw, kind)[name] for draw in waiting])
                    root[group][name][place] = found.cpu().numpy()
            self._note(chain, state())
            waiting.clear()
            last = time.monotonic()

        shown = task.progress and Ranks.here().speaks
        replace(task, progress=shown).run(waiting.append, begun=begun, watch=watch)

    def _note(self, chain: int, state: ChainState) -> None:
        """Say how many draws count, with all that the next ones depend on: written last."""
        said = {"kind": "chain", "roles": [], "draws": state.draws, "numbers": state.numbers}
        tensors = {**state.tensors, **state.random}
        container.write(self.journal.chain_file(chain), tensors, said)

    def _state(self, chain: int) -> ChainState | None:
        path = self.journal.chain_file(chain)
        if not path.exists():
            return None
        tensors, said = container.read(path)
        random: dict[str, Any] = {n: tensors.pop(n) for n in GENERATORS if n in tensors}
        device = next(iter(self.bound.values().values())).device
        kept = {name: value.to(device) for name, value in tensors.items()}
        return ChainState(kept, said["numbers"], random, said["draws"])

    def _close(self, path: Path) -> None:
        """Write the groups of all draws, as memory would hold them."""
        last = self._state(self.sampling.num_chains - 1)
        if last is not None:
            set_generator_states(last.random)
        root = zarr().open_group(self.journal.chains, mode="r", zarr_format=2)
        like = self.bound.values()
        device = next(iter(like.values())).device
        values = {n: torch.as_tensor(root["posterior"][n][:]).to(v) for n, v in like.items()}
        stats = {n: torch.as_tensor(root["sample_stats"][n][:]).to(device) for n in STATISTICS}
        order = self.order
        draws = evaluated(self.bound, values, stats, independent=False, method=self.sampling.kernel)
        groups, labels = all_groups(
            Shares.whole(self.bound),
            [draws],
            self.names,
            num_prior_samples=order.num_prior_samples,
            num_limit_draws=order.num_limit_draws,
            posterior_predictive=order.posterior_predictive,
        )
        rows = self.bound.rows
        layout = Layout(path, rows=rows, block_size=rows, data_dim=self.names.data_dim)
        layout.prepare(groups, labels, self.journal.record["attrs"])
        layout.write(groups, 0)
        layout.close()
        self.journal.close()
