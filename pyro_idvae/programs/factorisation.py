# SPDX-License-Identifier: Apache-2.0
"""Does each row's log density depend on its own data and latents only?"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs.arguments import repeat_rows, take_rows
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.coupling import check_moved, check_ties, coupled
from pyro_idvae.programs.determinism import random_density
from pyro_idvae.programs.row_density import RowDensity, is_same
from pyro_idvae.programs.run import silent, undisturbed
from pyro_idvae.programs.sites import check_sampled


def check_factorises(bound: BoundModel) -> None:
    """Raise unless each row's log density depends on its own data and latents only.

    Half of the rows are left out, and each row is repeated: what is left, and the copies, must have
    the density they had. The density is evaluated twice: it must not be random. The latents of half
    of the rows move, again and again, near and far: the other rows must not notice.

    What has passed is noted in ``bound.factorises``, and not checked again.

    Raises:
        ArgumentError: if the model does not factorise over its data plate.
        DataError: if the density of a prior draw is not finite.
    """
    if bound.factorises:
        return
    check_sampled(bound.trace, bound.latents)
    if bound.plate is None:
        raise ArgumentError(
            "the model has no plate of the size of its data: rows cannot be sampled side by side; "
            "put them in pyro.plate('data', len(x)), or use kernel='nuts'"
        )
    rows = bound.rows
    half = max(1, rows // 2)
    doubled = repeat_rows(bound.arguments, 2)
    with torch.no_grad(), undisturbed(bound.arguments), silent(bound.model):
        once = RowDensity(bound)
        twice, redrawn = RowDensity(bound, doubled), RowDensity(bound, doubled)
        fewer = RowDensity(bound, take_rows(bound.arguments, torch.arange(half)))
        start = once.flatten(once.values())
        both = start.repeat(2, 1)
        _check_supports(twice, redrawn, both)
        (first, fixed), (again, _) = twice.terms(both), twice.terms(both)
        (single, _), (alone, _) = once.own_terms(), fewer.terms(start[:half])
        if not all(bool(term.isfinite().all()) for term in first.values()):
            raise DataError(
                "the log density of a draw from the prior is not finite: check the data"
            )
        for name, term in first.items():
            if not is_same(term, again[name]):
                raise random_density(name)
            copied = is_same(term, single[name].repeat(2))
            if not copied or not is_same(alone[name], single[name][:half]):
                raise coupled(bound, name)
        here, densities = both, (first, fixed)
        for drawn in (twice, redrawn):
            fresh, moved = twice.flatten(drawn.values()), _random_half(twice)
            # Half of the rows move, then the others: all draws are used.
            for which in (moved, ~moved):
                there = torch.where(which.unsqueeze(-1), fresh, here)
                after = twice.terms(there)
                check_moved(bound, which, densities, after)
                here, densities = there, after
        check_ties(bound, start, twice.flatten(redrawn.values())[:rows])
    bound.factorises = True


def _random_half(density: RowDensity) -> Tensor:
    """Return which rows move: at least one does, and one does not, if there are two."""
    moved = torch.rand(density.rows) < 0.5
    moved[0], moved[-1] = False, density.rows > 1
    return moved.to(next(iter(density.values().values())).device)


@torch.no_grad()
def check_rows(density: RowDensity, one: Tensor, other: Tensor) -> None:
    """Raise if rows notice that the latents of other rows move from one point to another."""
    moved = _random_half(density)
    with silent(density.bound.model):
        before = density.terms(one)
        after = density.terms(torch.where(moved.unsqueeze(-1), other, one))
        check_moved(density.bound, moved, before, after)
        with undisturbed(density.bound.arguments):
            check_ties(density.bound, one, other)


def _check_supports(density: RowDensity, other: RowDensity, u: Tensor) -> None:
    """Raise if the support of a latent moves with other latents: the transform would not."""
    here, _ = density.constrain(u)
    there, _ = other.constrain(u)
    for name, value in here.items():
        if not torch.allclose(value, there[name], rtol=1e-4, atol=1e-5):
            raise ArgumentError(
                f"the support of the site {name!r} depends on other latents: sample it on a fixed "
                "support and transform it in the model"
            )
