# SPDX-License-Identifier: Apache-2.0
"""Draws of all rows, block by block, by one process or by several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import trange

from pyro_idvae.infer.ranks import Ranks
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


def sample_blocks(
    bound: BoundModel,
    blocks: Sequence[Block],
    *,
    chains: int,
    warmup_steps: int,
    num_samples: int,
    progress: bool,
    **options: Any,
) -> list[Drawn]:
    """Return draws of the data points of some blocks, all blocks side by side.

    Args:
        bound: the model on its data, known to factorise over its plate.
        blocks: of its data points.
        chains: of each.
        warmup_steps: iterations that adapt.
        num_samples: draws a chain; fewer come back from a single process that is interrupted.
        progress: show a progress bar.
        **options: further arguments of :class:`RowSampler`.

    Raises:
        KeyboardInterrupt: if there was no draw yet, or if other processes are drawing, too.
    """
    if not blocks:
        return []
    with as_found(bound.model):
        sampler = RowSampler(
            bound, chains=chains, warmup_steps=warmup_steps, blocks=blocks, **options
        )
    found = _run(sampler, num_samples, progress and Ranks.here().speaks)
    if len(found) < num_samples and Ranks.here().size > 1:
        raise KeyboardInterrupt
    return _by_block(found, blocks)


def on_site_scale(bound: BoundModel, drawn: Drawn) -> tuple[Values, Values]:
    """Return latents of shape ``(chain, draw) + site shape`` and statistics, where the model is.

    Args:
        bound: the model on the data points of these draws.
        drawn: the draws.
    """
    device = next(iter(bound.values().values())).device
    with silent(bound.model), torch.no_grad():
        values, _ = RowDensity(bound).constrain(drawn.positions.to(device))
    return values, {name: value.to(device) for name, value in drawn.stats.items()}


def joined(parts: Sequence[Drawn]) -> Drawn:
    """Return draws of several blocks along their rows."""
    return Drawn(
        torch.cat([part.positions for part in parts], 2),
        {name: torch.cat([part.stats[name] for part in parts], 2) for name in parts[0].stats},
    )


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
