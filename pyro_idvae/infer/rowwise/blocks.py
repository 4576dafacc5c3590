# SPDX-License-Identifier: Apache-2.0
"""Data points in blocks that are evaluated at once, each with random numbers of its own."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.stream import Stream
from pyro_idvae.programs.bound_model import BoundModel

ROWS = {"cpu": 1024, "cuda": 2**17}
"""Chains times data points of a block: they fit a processor's cache, or fill a GPU."""


class Block(NamedTuple):
    """Data points that are evaluated at once, and depend on no others."""

    rows: Tensor
    """Which data points; those of the last block begin anew with the first ones."""
    kept: int
    """How many of them count."""
    stream: Stream
    """Random numbers of this block alone."""


def split_rows(bound: BoundModel, chains: int, block_size: int | None, seed: int) -> list[Block]:
    """Return the blocks of a model's data points.

    Blocks are of one size, so that one recording serves all. What is drawn for a block depends on
    the seed, its number and its data points, not on which others are drawn, where, or when.

    Args:
        bound: the model on its data.
        chains: of each data point.
        block_size: data points evaluated at once; by default what suits the device, in blocks as
            even as can be.
        seed: of all blocks.
    """
    device = next(iter(bound.values().values())).device
    if block_size is None:
        number = math.ceil(bound.rows * chains / ROWS.get(device.type, ROWS["cpu"]))
        block_size = math.ceil(bound.rows / number)
    return blocks_of(bound.rows, block_size, seed, device)


def blocks_of(rows: int, block_size: int, seed: int, device: torch.device) -> list[Block]:
    """Return the blocks of so many data points.

    Args:
        rows: data points.
        block_size: of each block, if there are as many.
        seed: of all blocks.
        device: where they draw, besides the processor.
    """
    size = min(block_size, rows)
    parts = torch.arange(math.ceil(rows / size) * size).remainder(rows).split(size)
    return [
        Block(index, min(size, rows - place * size), Stream(seed, place, device))
        for place, index in enumerate(parts)
    ]
