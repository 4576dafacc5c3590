# SPDX-License-Identifier: Apache-2.0
"""Is the log density of a model one number, or does it hide random numbers?"""

from __future__ import annotations

import pyro
import torch
from pyro import poutine

from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.row_density import is_same
from pyro_idvae.programs.run import explained, undisturbed

SEEDS = (11, 12)
"""Of the two runs."""
FEW_ROWS = 5
"""Rows that a message names."""


@torch.no_grad()
def check_deterministic(bound: BoundModel) -> Values:
    """Raise if the log densities at one draw differ under other random numbers.

    Returns:
        The densities by site.

    Raises:
        ArgumentError: naming the site; also if they cannot be computed.
    """
    with (
        explained("the log density of the model", bound.arguments),
        undisturbed(bound.arguments),
        bound.running(),
        pyro.validation_enabled(False),
        poutine.block(),
    ):
        found = []
        for seed in SEEDS:
            torch.manual_seed(seed)
            likelihood, prior = bound.log_densities(bound.values())
            found.append({**prior, **likelihood})
    one, other = found
    for name, term in one.items():
        if not is_same(term, other[name]):
            raise random_density(name)
    return one


def check_numbers(densities: Values) -> None:
    """Raise for log densities that are NaN.

    Args:
        densities: by site.

    Raises:
        DataError: naming the site and rows.
    """
    for name, term in densities.items():
        if bool(term.isnan().any()):
            rows = term.isnan().nonzero().flatten().tolist()
            raise DataError(
                f"the log density of the site {name!r} is NaN"
                + (f" in {len(rows)} rows, such as {rows[:FEW_ROWS]}" if term.dim() else "")
                + ": check the data, and the parameters of model and guide"
            )


def random_density(name: str) -> ArgumentError:
    """Return the error for a density that differs from run to run.

    Args:
        name: of the site.
    """
    return ArgumentError(
        f"the log density of the site {name!r} differs from call to call at one point: the model "
        "draws random numbers that are not sample sites, or hides a module in training mode; pass "
        "the module itself, or its bound method, as the model"
    )
