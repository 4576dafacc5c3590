# SPDX-License-Identifier: Apache-2.0
"""Rows moved together, apart and far out: what ties them to one another will show."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import take_rows
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.row_density import ROUNDING, RowDensity, is_same

Terms = tuple[Values, Values]
"""Log densities by site: of each row, and outside the data plate."""

MOST_ROWS, FEWEST_ROWS = 48, 8
"""How many rows are moved: a switch that ties thousands ties some of them, too."""
STEPS = (1.0, -1.0, 3.0, -3.0, 10.0, -10.0, 30.0, -30.0)
"""How far all rows move together, in units of the latents' spread."""
FACTORS = (-1.0, 0.1, 3.0, -3.0, 10.0, -10.0, 30.0)
"""What the distance of each row from the middle is multiplied by."""
NEAR = 5.0
"""Spreads; farther out a density may be rounded more coarsely."""
COARSE = 20 * ROUNDING


def check_ties(bound: BoundModel, start: Tensor, other: Tensor) -> None:
    """Raise if the density of a row moves with other rows' latents.

    All rows stand at one place, then half of them at another: neither half may notice. What
    switches between the two places, such as a sum or a maximum that passes a threshold, is seen by
    one of the halves, whichever they are. The places are near and far: rows shifted together, drawn
    out, pulled together, mirrored, all on one side of the middle.

    Args:
        bound: the model.
        start: unconstrained latents of all rows, of shape ``(rows, dim)``.
        other: others, as far away as the latents spread.

    Raises:
        ArgumentError: naming the site.
    """
    index = torch.randperm(bound.rows)[:MOST_ROWS]
    index = index.repeat(-(-FEWEST_ROWS // len(index)))
    density = RowDensity(bound, take_rows(bound.arguments, index))
    here, there = start[index.to(start.device)], other[index.to(start.device)]
    before = density.terms(here)
    for place, far in places(here, there):
        whole = _terms(density, place)
        if whole is None:
            continue
        check_outside(before, whole)
        for moved in (_half(len(here)), _one(len(here)))[: 1 + far]:
            which = moved.to(here.device)
            mixed = _terms(density, torch.where(which.unsqueeze(-1), place, here))
            if mixed is not None:
                check_rows_same(bound, ~which, before, mixed)
                check_rows_same(bound, which, whole, mixed, COARSE if far else ROUNDING)


def places(here: Tensor, there: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Yield where rows move to, and whether that is far out.

    Args:
        here: where they are, of shape ``(rows, dim)``.
        there: another such place.
    """
    both = torch.stack([here, there])
    middle, spread = both.mean((0, 1)), both.std((0, 1))
    yield there, False
    yield 0.01 * here, False
    for sign in (1.0, -1.0):
        yield middle + sign * (here - middle).abs(), False
    for factor in FACTORS:
        yield middle + factor * (here - middle), abs(factor) > 1
    for step in STEPS:
        # Along a diagonal, then along another one: what cancels in one does not in the other.
        for signs in (torch.ones(here.shape[-1]), _signs(here.shape[-1])):
            yield here + step * signs.to(here) * spread, abs(step) > NEAR


def _terms(density: RowDensity, u: Tensor) -> Terms | None:
    """Return log densities; None where the model cannot be run, as far out it may not."""
    try:
        return density.terms(u)
    except (RuntimeError, ValueError):
        return None


def _signs(size: int) -> Tensor:
    return 1.0 - 2.0 * (torch.rand(size) < 0.5)


def _half(rows: int) -> Tensor:
    """Return which rows move: about half, at least one, and not all."""
    moved = torch.rand(rows) < 0.5
    moved[0], moved[-1] = False, rows > 1
    return moved[torch.randperm(rows)]


def _one(rows: int) -> Tensor:
    return torch.arange(rows) == torch.randint(rows, ())


def check_moved(bound: BoundModel, moved: Tensor, one: Terms, other: Terms) -> None:
    """Raise if a row that has not moved has another density, or anything outside the plate.

    Args:
        bound: the model.
        moved: which rows have.
        one: log densities before.
        other: those after.
    """
    check_outside(one, other)
    check_rows_same(bound, ~moved, one, other)


def check_outside(one: Terms, other: Terms) -> None:
    """Raise if what stands outside the data plate has another density."""
    for name, term in one[1].items():
        if not is_same(term, other[1][name]):
            raise ArgumentError(
                f"the site {name!r} outside the data plate depends on the rows' latents: the log "
                "density does not factorise over the plate; use kernel='nuts'"
            )


def check_rows_same(
    bound: BoundModel, which: Tensor, one: Terms, other: Terms, rounding: float = ROUNDING
) -> None:
    """Raise if some rows have another density.

    Compared site by site, as a coupling may hide behind another site's large density.
    """
    for name, term in one[0].items():
        if not is_same(term[which], other[0][name][which], rounding):
            raise coupled(bound, name)


def coupled(bound: BoundModel, name: str) -> ArgumentError:
    """Return the error for rows that depend on one another.

    Args:
        bound: the model.
        name: of the site where they do; empty for the supports.
    """
    return ArgumentError(
        f"the log density of one row of the plate {bound.plate!r} depends on other rows"
        + (f", at the site {name!r}" if name else "")
        + ": it does not factorise, and rows cannot be sampled side by side; use kernel='nuts'"
    )
