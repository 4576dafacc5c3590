# SPDX-License-Identifier: Apache-2.0
"""From draws in tensors to the groups of ArviZ data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any
from uuid import uuid4

import numpy as np
import pyro
from torch import Tensor

from pyro_idvae._stored import checksum
from pyro_idvae.arviz_io import Variable
from pyro_idvae.infer.draws import Draws
from pyro_idvae.infer.limits import Candidates, Directions
from pyro_idvae.infer.names import Names
from pyro_idvae.programs.bound_model import BoundModel, Values

Groups = dict[str, dict[str, Variable]]
Array = np.ndarray[Any, Any]


TOTALS: dict[str, Any] = {"energy": np.add, "diverging": np.logical_or}
"""How statistics of all rows come from those of parts of the rows."""
OF_DIRECTIONS = re.compile(r"(loadings|limit_(mean|variance|size)_direction)_(row|all)$")


def groups_of(
    bound: BoundModel, draws: Draws, new_observations: Values | None, names: Names
) -> Groups:
    """Return posterior draws as the groups of :func:`from_guide`, in plain arrays.

    Args:
        bound: the model the draws are of.
        draws: the draws.
        new_observations: draws of the posterior predictive.
        names: what dimensions and labels are called.
    """
    observed = {name: bound.trace.nodes[name]["value"] for name in bound.observed}
    groups: Groups = {
        "posterior": _variables(names, draws.values),
        "log_likelihood": _densities(names, draws.log_likelihood),
        "log_prior": _densities(names, draws.log_prior),
        "sample_stats": {
            **_statistics(names, draws.stats),
            **_variables(names, draws.normal_scores, "prior_score_"),
            **_checksums(bound, names, draws.values),
            **_summaries(names, draws),
        },
        **_prior_groups(bound, names, draws),
        "observed_data": _variables(names, observed),
    }
    if new_observations is not None:
        groups["posterior_predictive"] = _variables(names, new_observations)
    return groups


def joined_groups(parts: Sequence[Groups], names: Names) -> Groups:
    """Return groups of parts of the rows as those of all rows."""
    first, *others = parts
    if not others:
        return first
    return {
        group: {
            name: _joined(group, name, [part[group][name] for part in parts], names)
            for name in variables
        }
        for group, variables in first.items()
    }


def _joined(group: str, name: str, parts: Sequence[Variable], names: Names) -> Variable:
    dims, arrays = parts[0].dims_in(group), [part.values for part in parts]
    if names.data_dim in dims:
        return parts[0]._replace(values=np.concatenate(arrays, dims.index(names.data_dim)))
    if group == "sample_stats" and name in TOTALS:
        return parts[0]._replace(values=totalled(name, arrays))
    kind = arrays[0].dtype.kind
    if not all(np.array_equal(arrays[0], one, equal_nan=kind == "f") for one in arrays[1:]):
        raise RuntimeError(
            f"{group}/{name} is one for all rows, and differs between blocks of them"
        )
    return parts[0]


def attributes_of(
    names: Names, *, method: str, independent: bool, complete: bool
) -> dict[str, Any]:
    """Return what is written to every group.

    Args:
        names: what dimensions are called.
        method: how the draws were made.
        independent: whether they are independent.
        complete: whether they are all that were wanted.
    """
    return {
        "inference_library": "pyro",
        "inference_library_version": pyro.__version__,
        "inference_method": method,
        # netCDF has no booleans.
        "independent_draws": int(independent),
        "complete": int(complete),
        "data_dim": names.data_dim,
        # What tells groups that were made together from those of other draws.
        "draws_id": uuid4().hex,
    }


def _array(value: Tensor) -> Array:
    return value.detach().cpu().numpy()


def _variables(names: Names, values: Values, prefix: str = "") -> dict[str, Variable]:
    """Return site values of shape (chain, draw, ...) with named dimensions."""
    return {f"{prefix}{n}": Variable(_array(v), names.sites[n]) for n, v in values.items()}


def _densities(names: Names, values: Mapping[str, Tensor], prefix: str = "") -> dict[str, Variable]:
    """Return log densities of shape (chain, draw) or (chain, draw, data)."""
    return {
        f"{prefix}{n}": Variable(_array(v), (names.data_dim,) * (v.dim() - 2))
        for n, v in values.items()
    }


def _statistics(names: Names, stats: Mapping[str, Tensor]) -> dict[str, Variable]:
    """Return the sampler's statistics; of rows that are sampled apart, those of all of them too.

    ArviZ's own plots take one energy, and one divergence or none, for each draw.
    """
    found = dict(stats)
    for name in TOTALS:
        if name in stats and stats[name].dim() > 2:
            found[f"row_{name}"] = stats[name]
            found[name] = total_of(name, stats[name])
    return _densities(names, found)


def total_of(name: str, rows: Tensor) -> Tensor:
    """Return a statistic of all rows together, from that of each, ``(chain, draw, rows)``."""
    # In double: the sum over many rows is large, and its changes are what counts.
    return rows.double().sum(-1) if name == "energy" else (rows != 0).any(-1)


def totalled(name: str, parts: Sequence[Array]) -> Array:
    """Return a statistic of all rows from those of parts of them, in their order."""
    found: Array = reduce(TOTALS[name], parts)
    return found


def is_of_whole(name: str) -> bool:
    """Tell whether a variable of ``sample_stats`` is known once all rows are sampled."""
    return name in TOTALS or OF_DIRECTIONS.match(name) is not None


def _checksums(bound: BoundModel, names: Names, values: Values) -> dict[str, Variable]:
    """Return what ties draws to their statistics: a number for each draw, of each row if local."""
    found = {}
    for name, value in values.items():
        place = bound.row_place(name)
        moved = _array(value if place is None else value.movedim(2 + place, 2))
        draws = moved.reshape(*moved.shape[: 2 if place is None else 3], -1)
        found[f"checksum_{name}"] = Variable(
            checksum(draws),
            () if place is None else (names.data_dim,),
            attrs={"num_coordinates": draws.shape[-1]},
        )
    return found


def _summaries(names: Names, draws: Draws) -> dict[str, Variable]:
    """Return what is known of all draws of a latent together: chains' masses, limits."""
    found: dict[str, Variable] = {}
    row = (names.data_dim,)
    if draws.mass is not None:
        found["chain_mass"] = Variable(_array(draws.mass.mass), row, ("chain",))
        found["chain_mass_size"] = Variable(_array(draws.mass.size), row, ())
    if draws.limits is None:
        return found
    for name, moments in draws.limits.sites.items():
        for field, values in moments._asdict().items():
            found[f"limit_{field}_{name}"] = Variable(values, names.sites[name], ())
    return {**found, **direction_variables(names, draws.limits.directions)}


def direction_variables(names: Names, directions: Sequence[Directions]) -> dict[str, Variable]:
    """Return the bounds of directions."""
    found: dict[str, Variable] = {}
    row = (names.data_dim,)
    for part in directions:
        scope = "row" if part.local else "all"
        own = (f"direction_{scope}",)
        found[f"loadings_{scope}"] = Variable(part.loadings, (*own, f"coordinate_{scope}"), ())
        for field, values in part.moments._asdict().items():
            dims = (*own, *row) if part.local else own
            array = values if part.local else values[:, 0]
            found[f"limit_{field}_{own[0]}"] = Variable(array, dims, ())
    return found


def labels_of(names: Names, directions: Sequence[Candidates]) -> dict[str, Sequence[Any]]:
    """Return the labels along dimensions, of the coordinates of directions too."""
    coordinates = {
        f"coordinate_{'row' if part.local else 'all'}": [
            names.coordinates[c.label] for c in part.chosen
        ]
        for part in directions
    }
    return {**coordinates, **names.labels}  # type: ignore[dict-item]


def _prior_groups(bound: BoundModel, names: Names, draws: Draws) -> Groups:
    if draws.prior is None:
        return {}
    values, likelihood = (
        {name: value.unsqueeze(0) for name, value in part.items()} for part in draws.prior
    )
    return {
        "prior": _variables(names, values),
        "sample_stats_prior": {
            **_densities(names, likelihood, "log_likelihood_"),
            **_checksums(bound, names, values),
        },
    }
