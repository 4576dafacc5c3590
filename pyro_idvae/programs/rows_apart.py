# SPDX-License-Identifier: Apache-2.0
"""Whether a model and its guide say of each row what they say of it without the others."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import take_rows, tensors_of
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.plates import check_amortised
from pyro_idvae.programs.row_density import is_same
from pyro_idvae.programs.run import undisturbed

MIXED = 1e5
"""Units of rounding beyond which a guide's density of a row depends on other rows: modes that are
searched together agree no better than their tolerance."""


def check_rows_apart(bound: BoundModel, remedy: str) -> None:
    """Raise unless rows can be drawn from a guide, and scored, some at a time.

    Rows are left out: what is left must have the densities that it had.

    Args:
        bound: model and guide on their data.
        remedy: what a message advises.

    Raises:
        ArgumentError: for parameters of the guide that belong to certain rows, latents that rows
            share, or densities of rows that depend on other rows, or on their places.
    """
    with undisturbed(bound.arguments), torch.no_grad(), bound.running():
        try:
            check_amortised(bound.model, bound.guide, bound.arguments)
            values = bound.draw_guide()[0]
            for some in some_of(bound):
                check_guide_rows(bound, values, some, strict=True)
                _check_model_rows(bound, values, some)
            nodes = bound.trace.nodes
            if not any(nodes[name]["fn"].support.is_discrete for name in bound.latents):
                check_factorises(bound.without_guide())
        except ArgumentError as error:
            said = str(error).split(". Pass batch_size=None")[0]
            raise ArgumentError(
                f"{said}: its draws cannot be made block by block; {remedy}"
            ) from error


def some_of(bound: BoundModel) -> list[Tensor]:
    """Return rows to keep, in two ways: every other one, and the half with the largest data.

    What depends on neighbours or on the place is another thing for the first, what depends on a
    mean over rows for the second.
    """
    if bound.rows < 2:
        return [torch.arange(bound.rows)]
    size = sum(t.reshape(bound.rows, -1).double().mean(-1) for t in _with_rows(bound))
    largest = torch.as_tensor(size).cpu().argsort(descending=True, stable=True)
    return [torch.arange(1, bound.rows, 2), largest[: bound.rows // 2].sort().values]


def _with_rows(bound: BoundModel) -> list[Tensor]:
    return [t for t in tensors_of(bound.arguments) if t.dim() and t.numel()]


def _check_model_rows(bound: BoundModel, values: Values, some: Tensor) -> None:
    whole = bound.log_densities(values)
    part = _some_rows(bound, values, some), take_rows(bound.arguments, some)
    for side, other in zip(whole, bound.log_densities(*part), strict=True):
        for name, term in side.items():
            if not term.dim():
                raise ArgumentError(f"the density of the site {name!r} is one for all rows")
            if not is_same(other[name], term[some.to(term.device)]):
                raise ArgumentError(f"the density of the site {name!r} of a row depends on others")


def check_guide_rows(
    bound: BoundModel, values: Values, some: Tensor, *, strict: bool = False
) -> None:
    """Raise if a guide's density of some rows depends on the others.

    Args:
        bound: model and guide on their data.
        values: a draw of the guide.
        some: which rows.
        strict: whether to raise, too, if there is no density of single rows to look at.

    Raises:
        ArgumentError: also for a latent that rows share.
    """
    whole = bound.guide_density(values)
    part = _some_rows(bound, values, some)
    if whole is None or not whole.dim():
        if strict:
            raise ArgumentError("the guide has no density of single rows, given its draws")
        return
    found = bound.guide_density(part, take_rows(bound.arguments, some))
    if found is None or not is_same(found, whole[some.to(whole.device)], MIXED):
        raise ArgumentError("the guide's density of a row depends on the data of other rows")


def _some_rows(bound: BoundModel, values: Values, rows: Tensor) -> Values:
    found = {}
    for name, value in values.items():
        place = bound.row_place(name)
        if place is None:
            raise ArgumentError(f"the latent site {name!r} is one for all rows")
        found[name] = value.index_select(place, rows.to(value.device))
    return found
