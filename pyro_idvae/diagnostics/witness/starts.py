# SPDX-License-Identifier: Apache-2.0
"""Pairs to start a search from: prior draws, and what known symmetries make of them."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.diagnostics.witness.settings import Settings


def start_pairs(settings: Settings, count: int) -> Tensor:
    """Return pairs of points, of shape ``(2, count, dim)``.

    Of each four, one is of two prior draws. In the others the second point is the first with its
    signs turned in some sites; with signs turned along dimensions of one size, whichever sites have
    them, such as the factors of a factor model; or with entries in another order along such
    dimensions, such as the components of a mixture.
    """
    pairs = []
    for number in range(count):
        one, other = settings.draws[torch.randperm(len(settings.draws))[:2]]
        move = (None, _turn_sites, _turn_entries, _reorder)[number % 4]
        if move is not None:
            moved = move(settings, one)
            other = other if torch.equal(moved, one) else moved
        pairs.append(torch.stack([one, other]))
    return torch.stack(pairs, 1)


def _turn_sites(settings: Settings, point: Tensor) -> Tensor:
    """Turn the signs of some sites on the unconstrained scale: of a positive one, 1/a."""
    u = settings.unconstrained(point)
    signs = {name: 1 - 2 * int(torch.rand(()) < 0.5) for name in u}
    return _point(settings, {name: signs[name] * value for name, value in u.items()})


def _turn_entries(settings: Settings, point: Tensor) -> Tensor:
    u = settings.unconstrained(point)
    size = _some_size(u)
    signs = 1 - 2 * (torch.rand(size) < 0.5).to(point)
    turned = {}
    for name, value in u.items():
        # On other scales a sign is no symmetry.
        real = torch.equal(settings.transforms[name](value), value)
        flips = torch.ones_like(value)
        for dim, length in enumerate(value.shape):
            if real and length == size:
                shape = [size if d == dim else 1 for d in range(value.dim())]
                flips = flips * signs.to(value).reshape(shape)
        turned[name] = flips * value
    return _point(settings, turned)


def _reorder(settings: Settings, point: Tensor) -> Tensor:
    values = settings.values(point)
    size = _some_size(values)
    order = torch.randperm(size, device=point.device)
    for name, value in values.items():
        moved = value
        for dim, length in enumerate(value.shape):
            if length == size:
                moved = moved.index_select(dim, order)
        if bool(settings.bound.trace.nodes[name]["fn"].support.check(moved).all()):
            values[name] = moved
    return settings.point(values)


def _some_size(tensors: dict[str, Tensor]) -> int:
    sizes = sorted({size for value in tensors.values() for size in value.shape if size > 1})
    return sizes[int(torch.randint(len(sizes), ()))] if sizes else 1


def _point(settings: Settings, u: dict[str, Tensor]) -> Tensor:
    return settings.point({name: settings.transforms[name](value) for name, value in u.items()})
