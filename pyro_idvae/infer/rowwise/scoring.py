# SPDX-License-Identifier: Apache-2.0
"""Log densities of many draws in one run of a model whose rows are independent."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.infer.batches import take_rows
from pyro_idvae.infer.draws import Draw, Layout

ROWS_AT_ONCE = 2**16


def score_side_by_side(layout: Layout, draws: Draw) -> list[tuple[Draw, Draw]]:
    """Return what ``layout.score`` says of each draw, chain by chain.

    Draws stand side by side as repeated rows, so the model must factorise over its data plate.

    Args:
        layout: the model on its data.
        draws: latents, of shape ``(chain, draw) + site shape``.
    """
    flat = {name: value.flatten(0, 1) for name, value in draws.items()}
    number = len(next(iter(flat.values())))
    group = max(1, ROWS_AT_ONCE // layout.rows)
    found: list[tuple[Draw, Draw]] = []
    wide: Layout | None = None
    for first in range(0, number, group):
        count = min(group, number - first)
        if wide is None or wide.rows != count * layout.rows:
            index = torch.arange(layout.rows).repeat(count)
            wide = Layout(layout.model, None, take_rows(layout.arguments, index))
        part = {name: _as_rows(layout, name, v[first : first + count]) for name, v in flat.items()}
        with torch.no_grad(), wide.running():
            parts = wide.score(part)
        # What is outside the data plate does not depend on the latents: one number for all draws.
        split = [
            {n: v.reshape(count, layout.rows) if v.dim() else v.expand(count) for n, v in t.items()}
            for t in parts
        ]
        found += [
            ({n: v[i] for n, v in split[0].items()}, {n: v[i] for n, v in split[1].items()})
            for i in range(count)
        ]
    return found


def _as_rows(layout: Layout, name: str, values: Tensor) -> Tensor:
    """Return draws of a site with the draws' dimension merged into its rows."""
    place = layout.row_place(name)
    assert place is not None  # the sampler refuses latents outside the data plate
    return values.movedim(0, place).flatten(place, place + 1)
