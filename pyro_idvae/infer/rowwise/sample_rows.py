# SPDX-License-Identifier: Apache-2.0
"""Draws of all rows, block by block, by one process or by several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import trange

from pyro_idvae.infer.ranks import Ranks, shared
from pyro_idvae.infer.rowwise.blocks import Block
from pyro_idvae.infer.rowwise.vectorized import RowSampler, Sweep
from pyro_idvae.programs.as_found import as_found
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import silent


class Drawn(NamedTuple):
    """What is drawn of some rows, on the processor; each of shape ``(chain, draw, rows, …)``."""

    positions: Tensor
    """Unconstrained latents."""
    stats: dict[str, Tensor]


def sample_rows(
    bound: BoundModel,
    blocks: Sequence[Block],
    *,
    chains: int,
    warmup_steps: int,
    num_samples: int,
    progress: bool,
    **options: Any,
) -> tuple[Values, Values]:
    """Return draws of shape ``(chain, draw) + site shape``, and statistics with rows.

    Processes that ``torchrun`` started share the blocks, and all return the draws of all rows.

    Args:
        bound: the model on its data, known to factorise over its plate.
        blocks: all its data points.
        chains: of each.
        warmup_steps: iterations that adapt.
        num_samples: draws a chain.
        progress: show a progress bar.
        **options: further arguments of :class:`RowSampler`.

    Raises:
        KeyboardInterrupt: if there was no draw yet, or if others were drawing, too.
    """

    def draw(own: Sequence[Block]) -> list[Drawn]:
        if not own:
            return []
        with as_found(bound.model):
            sampler = RowSampler(
                bound, chains=chains, warmup_steps=warmup_steps, blocks=own, **options
            )
        found = _run(sampler, num_samples, progress and Ranks.here().speaks)
        whole = len(found) == num_samples or Ranks.here().size == 1
        return _by_block(found, own) if whole else []

    parts = shared(blocks, draw)
    device = next(iter(bound.values().values())).device
    positions, stats = (
        torch.cat([part.positions for part in parts], 2).to(device),
        {
            name: torch.cat([part.stats[name] for part in parts], 2).to(device)
            for name in parts[0].stats
        },
    )
    with silent(bound.model), torch.no_grad():
        return RowDensity(bound).constrain(positions)[0], stats


def _run(sampler: RowSampler, num_samples: int, progress: bool) -> list[Sweep]:
    """Return the iterations after warm-up; when an interrupt comes those that were done."""
    sweeps: list[Sweep] = []
    steps = sampler.warmup_steps + num_samples
    try:
        with as_found(sampler.bound.model):
            for iteration in trange(
                steps, desc="vectorized HMC", unit="step", disable=not progress
            ):
                sweep = sampler.advance()
                if iteration >= sampler.warmup_steps:
                    sweeps.append(sweep)
    except KeyboardInterrupt:
        if not sweeps:
            raise
    return sweeps


def _by_block(sweeps: list[Sweep], blocks: Sequence[Block]) -> list[Drawn]:
    sizes = [block.kept for block in blocks]
    positions = torch.stack([sweep.positions for sweep in sweeps], 1).cpu().split(sizes, 2)
    stats = {
        name: torch.stack([sweep.stats[name] for sweep in sweeps], 1).cpu().split(sizes, 2)
        for name in sweeps[0].stats
    }
    return [
        Drawn(part, {name: values[place] for name, values in stats.items()})
        for place, part in enumerate(positions)
    ]
