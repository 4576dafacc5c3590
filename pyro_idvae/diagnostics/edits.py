# SPDX-License-Identifier: Apache-2.0
"""Whether the groups of ArviZ data still belong together, or some were edited and others not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyro_idvae._stored import checksum
from pyro_idvae.diagnostics.reading import by_row
from pyro_idvae.errors import ArgumentError

Array = np.ndarray[Any, Any]

OF_DRAWS = ("posterior", "sample_stats", "log_likelihood", "log_prior")
OF_PRIOR = ("prior", "sample_stats_prior")
WITH_ROWS = (*OF_DRAWS, *OF_PRIOR, "observed_data")
ROUNDING = 1e-6
"""Relative error of a checksum up to which draws are the same: they may be stored in float32."""
LEAST_STEP = 1e-3
"""A change between draws that is no rounding: of scores, and of draws in units of the largest."""
REMEDY = (
    "select in all groups at once, e.g. data.isel(draw=...), and convert draws that you changed "
    "by from_mcmc"
)


def check_together(groups: Mapping[str, Any], dim: str | None, name: str) -> None:
    """Raise unless groups are of the same draws and rows, and draws are those that were scored.

    What is selected from all groups at once still belongs together, so do chains that were
    concatenated.

    Args:
        groups: datasets by name.
        dim: of the rows.
        name: of the argument, for messages.

    Raises:
        ArgumentError: if one group was thinned, reordered, replaced or changed by itself.
    """
    for together in (OF_DRAWS, OF_PRIOR):
        there = {group: groups[group] for group in together if group in groups}
        _check_made_together(there, name)
        _check_labels(there, ("chain", "draw"), name)
    rows = {group: groups[group] for group in WITH_ROWS if group in groups}
    inner = {str(d) for d in groups["posterior"].dims} - {"chain", "draw"}
    _check_labels(rows, sorted(inner | ({dim} if dim else set())), name)
    for draws, statistics in (("posterior", "sample_stats"), ("prior", "sample_stats_prior")):
        values, stats = groups.get(draws, {}), groups.get(statistics, {})
        for site in map(str, values):
            if not _belong(site, values, stats, dim):
                raise ArgumentError(
                    f"{name} has draws of {site!r} in the group {draws!r} that are not those that "
                    f"{statistics!r} was made of: one was changed and the other not; {REMEDY}"
                )


def _check_made_together(groups: Mapping[str, Any], name: str) -> None:
    """Raise if groups come from different draws."""
    found = {group: data.attrs["draws_id"] for group, data in groups.items() if _has_id(data)}
    first = next(iter(found), "")
    for group, made in found.items():
        if made != found[first]:
            raise ArgumentError(
                f"{name} has the group {group!r} of other draws than {first!r}: take all groups "
                "from one call of from_guide, from_mcmc or mcmc"
            )


def _has_id(data: Any) -> bool:
    return "draws_id" in data.attrs


def _check_labels(groups: Mapping[str, Any], dims: Any, name: str) -> None:
    """Raise unless groups have the same labels along dimensions that they share."""
    for dim in dims:
        first, wanted = None, np.asarray([])
        for group, data in groups.items():
            if dim not in data.dims:
                continue
            labels = np.asarray(data[dim].values)
            if first is None:
                first, wanted = group, labels
            elif len(labels) != len(wanted):
                raise ArgumentError(
                    f"{name} has {len(wanted)} places along {dim!r} in the group {first!r} but "
                    f"{len(labels)} in {group!r}: one was edited and the other not; {REMEDY}"
                )
            elif not np.array_equal(labels, wanted):
                raise ArgumentError(
                    f"{name} has other labels of {dim!r} in the group {group!r} than in {first!r}: "
                    f"one was edited and the other not; {REMEDY}"
                )


def _belong(site: str, values: Any, stats: Any, dim: str | None) -> bool:
    """Tell whether draws of a site are those that the statistics were made of."""
    array, stored, score = by_row(values[site], dim), f"checksum_{site}", f"prior_score_{site}"
    # Files of version 0.1 have scores, but no checksums.
    return (stored not in stats or _has_sum(array, stats[stored], dim)) and (
        score not in stats or _rise_together(array, by_row(stats[score], dim))
    )


def _has_sum(array: Array, stored: Any, dim: str | None) -> bool:
    """Tell whether draws have the checksum that was stored with them."""
    # That of all coordinates says nothing of some.
    if array.shape[-1] != stored.attrs.get("num_coordinates", array.shape[-1]):
        return True
    found, wanted = checksum(array), by_row(stored, dim)[..., 0]
    # Draws that are no numbers are left to the reports.
    same = ~np.isfinite(found) | (abs(found - wanted) <= ROUNDING * checksum(abs(array)))
    return bool(same.all())


def _rise_together(array: Array, scores: Array) -> bool:
    """Tell whether normal scores rise wherever the draws do, as a function of them would."""
    steps, moves = (np.diff(part.astype(float), axis=1) for part in (array, scores))
    clear = (abs(steps) > LEAST_STEP * abs(array).max()) & (abs(moves) > LEAST_STEP)
    return not (clear & (steps * moves < 0)).any()
