# SPDX-License-Identifier: Apache-2.0
"""The runs that somebody gives: pairs of a model and its guide, draws, or posterior means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from pyro_idvae._checks import check_list
from pyro_idvae.diagnostics.consistency.means import (
    Means,
    means_of_array,
    means_of_draws,
    means_of_pair,
)
from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from pyro_idvae.programs.arguments import as_arguments, is_array, kind_of

WANTED = (
    "pairs (model, guide), objects that have both, ArviZ data of from_guide or mcmc, or arrays of "
    "posterior means"
)


def read_runs(
    runs: Any, data: Any, *, var_names: Sequence[str] | None, num_samples: int, seed: int
) -> list[Means]:
    """Return the posterior means of all runs on the same rows.

    Args:
        runs: a list of them, or a dict by name.
        data: what pairs are run on; None if there are none.
        var_names: latent sites; all if None.
        num_samples: draws of a guide that is not Normal.
        seed: of these draws.

    Raises:
        ArgumentError: for fewer than two runs, or what is none.
        DataError: for runs on different observations.
        ShapeError: for runs on different numbers of rows.
    """
    named = _named(runs)
    found = []
    for name, run in named.items():
        pair = None if _has_groups(run) else _pair(name, run)
        if pair is not None:
            if data is None:
                raise ArgumentError(
                    f"data is None, but {name} is a model and its guide: pass the rows to look at"
                )
            arguments = as_arguments(data)
            found.append(
                means_of_pair(
                    name, *pair, arguments, var_names=var_names, num_samples=num_samples, seed=seed
                )
            )
        elif isinstance(run, Tensor | np.ndarray) or (is_array(run) and not _has_groups(run)):
            found.append(means_of_array(name, run))
        elif _has_groups(run):
            found.append(means_of_draws(name, run, var_names))
        else:
            raise ArgumentError(f"{name} is {kind_of(run)}: expected one of {WANTED}")
    if data is not None and not any(_pair(*one) for one in named.items()):
        raise ArgumentError(
            "data was given, but no run is a model with its guide: leave it out; draws and "
            "posterior means are of their own rows"
        )
    _check_rows(found)
    return found


def _named(runs: Any) -> dict[str, Any]:
    if isinstance(runs, Mapping) and not _has_groups(runs):
        named = {str(name): run for name, run in runs.items()}
    else:
        if isinstance(runs, Tensor) or is_array(runs) or _has_groups(runs):
            raise ArgumentError(f"runs is {kind_of(runs)}: expected a list or a dict of {WANTED}")
        listed = check_list("runs", runs, f"a list or a dict of {WANTED}")
        named = {f"run {number}": run for number, run in enumerate(listed)}
    if len(named) < 2:
        raise ArgumentError(f"runs has {len(named)}: expected at least two to compare")
    return named


def _has_groups(run: Any) -> bool:
    return (hasattr(run, "children") and hasattr(run, "to_dataset")) or hasattr(run, "add_groups")


def _pair(name: str, run: Any) -> tuple[Any, Any] | None:
    """Return a model and its guide, if that is what somebody gave."""
    if isinstance(run, tuple):
        if len(run) != 2:
            raise ArgumentError(f"{name} is a tuple of {len(run)}: expected a model and its guide")
        return run
    model, guide = getattr(run, "model", None), getattr(run, "guide", None)
    return (model, guide) if callable(model) and callable(guide) else None


def _check_rows(found: list[Means]) -> None:
    """Raise unless all are of as many rows, and draws given the same observations."""
    for one, other in combinations(found, 2):
        if len(other.values) != len(one.values):
            raise ShapeError(
                f"{one.name} has {len(one.values)} rows but {other.name} {len(other.values)}: give "
                "all runs the same rows"
            )
        for site in sorted(set(one.observed) & set(other.observed)):
            ours, theirs = one.observed[site], other.observed[site]
            numbers = ours.dtype.kind == "f"
            if not np.array_equal(ours, theirs, equal_nan=numbers):
                raise DataError(
                    f"{one.name} and {other.name} differ in their observations {site!r}: draw all "
                    "given the same rows in the same order"
                )
