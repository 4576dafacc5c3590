# SPDX-License-Identifier: Apache-2.0
"""Other values of a latent, near and far, and other data: what depends on them will show."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to

from pyro_idvae.programs.arguments import Arguments, tensors_of, with_tensors

FACTORS = (1.0, 1.0, -1.0, 3.0, -3.0, 10.0, -10.0, 30.0, -30.0)
"""How far a latent moves along the line to a prior draw, in units of the distance to it."""
FARTHEST = 40.0
NUM_AXES = 8
"""Moves of one coordinate alone, each row another one."""
NUM_VALUES = 512
"""How many values of the latent there are to be in all, prior draws and others."""
FEWEST, MOST = 16, 128
"""Limits of the number of runs for that: every row moves in each, one shared latent only once."""


def moved_latents(prior: Any, start: Tensor) -> list[Tensor]:
    """Return values of a latent, near and far, to both sides and coordinate by coordinate.

    Args:
        prior: the distribution of the latent site.
        start: its value, of shape ``batch + (K,)``; each row moves by itself.

    Returns:
        Tensors of the shape of ``start``, inside the prior's support.
    """
    rows, size = start.shape[:-1], start.shape[-1]
    factors = [torch.full((*rows, 1), factor) for factor in FACTORS]
    place = torch.arange(rows.numel()).reshape(*rows, 1)
    for k in range(NUM_AXES):
        factors.append(_distances(rows) * (torch.arange(size) == (place + k) % size))
    for k in range(min(max(NUM_VALUES // rows.numel(), FEWEST), MOST)):
        factors.append(torch.ones(*rows, 1) if k % 2 else _distances(rows))
    return [_moved(prior, start, factor.to(start)) for factor in factors]


def _distances(rows: torch.Size) -> Tensor:
    """Return factors of either sign, small to large alike."""
    sign = 2.0 * torch.randint(0, 2, (*rows, 1)) - 1.0
    return sign * FARTHEST ** (1.3 * torch.rand(*rows, 1) - 0.3)


def _moved(prior: Any, start: Tensor, factor: Tensor) -> Tensor:
    """Return a latent moved along the line to a prior draw, in unconstrained coordinates."""
    draw: Tensor = prior.sample()
    try:
        transform = biject_to(prior.support)
    except NotImplementedError:  # a support that no transform has
        return draw
    begin = transform.inv(start)
    if begin.shape != draw.shape:
        return draw
    moved = transform(begin + factor * (transform.inv(draw) - begin))
    return torch.where(moved.isfinite(), moved, draw)


def other_data(arguments: Arguments, site: Any, entries: Tensor) -> Arguments | None:
    """Return the arguments with what is observed drawn anew; None if it is not among them.

    Missing entries stay missing, so that masks made of them stay what they are.

    Args:
        arguments: the arguments of the model.
        site: the node of the observed site.
        entries: which of its entries are observed.
    """
    value, fn = site["value"], site["fn"]
    fresh = fn.sample(value.shape[: value.dim() - len(fn.shape())]).expand(value.shape)
    # Where nothing is observed, the model may have put what it likes.
    tensors, found = tensors_of(arguments), False
    for place, tensor in enumerate(tensors):
        if tensor.dtype == torch.bool or tensor.numel() != value.numel():
            continue
        shaped = tensor.reshape(value.shape)
        free = ~entries | shaped.isnan()
        if bool(free.all()) or not bool((free | (shaped == value)).all()):
            continue
        found = True
        moved = torch.where(free, shaped, fresh.to(tensor.dtype))
        tensors[place] = moved.reshape(tensor.shape)
    return with_tensors(arguments, tuple(tensors)) if found else None
