# SPDX-License-Identifier: Apache-2.0
"""Data points in chunks that are evaluated at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_idvae.programs.bound_model import BoundModel

CHUNK_SIZE = {"cpu": 1024, "cuda": 2**17}
"""How many rows are evaluated at once: they fit a processor's cache, or fill a GPU."""


def split_points(bound: BoundModel, chains: int, chunk_size: int | None) -> tuple[Tensor, ...]:
    """Return which data points each chunk has.

    Chunks are of one size, so that one recording serves all: the last one wraps around.

    Args:
        bound: the model on its data.
        chains: rows of each data point.
        chunk_size: rows evaluated at once; by default what suits the device.
    """
    first = next(iter(bound.values().values()))
    size = chunk_size or CHUNK_SIZE.get(first.device.type, CHUNK_SIZE["cpu"])
    number = math.ceil(bound.rows * chains / size)
    data = math.ceil(bound.rows / number)
    points: tuple[Tensor, ...] = torch.arange(number * data).remainder(bound.rows).split(data)
    return points
