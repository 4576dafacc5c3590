# SPDX-License-Identifier: Apache-2.0
"""Whether a model and its guide say of each row what they say of it without the others."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import Arguments, take_rows
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.plates import check_amortised
from pyro_idvae.programs.row_density import is_same
from pyro_idvae.programs.run import undisturbed

MIXED = 1e5
"""Units of rounding beyond which a guide's density of a row depends on other rows: modes that are
searched together agree no better than their tolerance."""


def check_rows_apart(bound: BoundModel) -> None:
    """Raise unless rows can be drawn from a guide, and scored, some at a time.

    Half of the rows are left out: what is left must have the densities that it had.

    Raises:
        ArgumentError: for parameters of the guide that belong to certain rows, latents that rows
            share, or densities of rows that depend on other rows.
    """
    half = torch.arange(max(1, bound.rows // 2))
    with undisturbed(bound.arguments), torch.no_grad(), bound.running():
        check_amortised(bound.model, bound.guide, bound.arguments)
        values = bound.draw_guide()[0]
        try:
            check_guide_rows(bound, values, half)
            _check_model_rows(bound, values, half)
        except ArgumentError as error:
            raise ArgumentError(
                f"{error}: its draws cannot be made block by block; leave out block_size and store"
            ) from error


def _check_model_rows(bound: BoundModel, values: Values, some: Tensor) -> None:
    whole = bound.log_densities(values)
    part = _some_rows(bound, values, some), take_rows(bound.arguments, some)
    for side, other in zip(whole, bound.log_densities(*part), strict=True):
        for name, term in side.items():
            if not term.dim():
                raise ArgumentError(f"the density of the site {name!r} is one for all rows")
            if not is_same(other[name], term[: len(some)]):
                raise ArgumentError(f"the density of the site {name!r} of a row depends on others")


def check_guide_rows(bound: BoundModel, values: Values, some: Tensor) -> None:
    """Raise if a guide's density of some rows depends on the others.

    Args:
        bound: model and guide on their data.
        values: a draw of the guide.
        some: which rows.

    Raises:
        ArgumentError: also for a latent that rows share.
    """
    arguments: Arguments = take_rows(bound.arguments, some)
    whole = bound.guide_density(values)
    part = bound.guide_density(_some_rows(bound, values, some), arguments)
    if whole is None or part is None or not whole.dim():
        return
    if not is_same(part, whole[: len(some)], MIXED):
        raise ArgumentError("the guide's density of a row depends on the data of other rows")


def _some_rows(bound: BoundModel, values: Values, rows: Tensor) -> Values:
    found = {}
    for name, value in values.items():
        place = bound.row_place(name)
        if place is None:
            raise ArgumentError(f"the latent site {name!r} is one for all rows")
        found[name] = value.index_select(place, rows.to(value.device))
    return found
