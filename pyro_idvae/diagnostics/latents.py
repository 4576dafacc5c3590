# SPDX-License-Identifier: Apache-2.0
"""Draws of latents with their labels and densities, in plain arrays: what every report reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_idvae.arviz_io import groups_of
from pyro_idvae.diagnostics.limits import (
    Bound,
    Directions,
    bounds_in,
    bounds_of,
    directions_in,
)
from pyro_idvae.errors import ArgumentError

if TYPE_CHECKING:
    from pyro_idvae.infer.draws import Draws
    from pyro_idvae.programs.bound_model import BoundModel

Array = np.ndarray[Any, Any]

DATA_DIMS = ("data", "row", "data_point")
"""What older files, which do not say it, call the dimension of data points."""


def latent_labels(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the labels of a site's coordinates: ``z``, ``z[0]`` or ``z[0,1]``.

    Example:
        >>> from pyro_idvae.diagnostics.latents import latent_labels
        >>> latent_labels("z", (2,))
        ('z[0]', 'z[1]')
    """
    if not shape:
        return (name,)
    return tuple(f"{name}[{','.join(map(str, place))}]" for place in np.ndindex(*shape))


@dataclass(frozen=True, eq=False)
class Latent:
    """The draws of one latent site.

    Attributes:
        name: of the site.
        labels: of its coordinates.
        local: whether it has a value for each data point; else N = 1.
        values: posterior draws, of shape ``(chain, draw, N, K)``.
        prior: prior draws, of the same kind of shape; None if there are none.
        normal_scores: posterior draws on the scale on which the prior is N(0, 1); None if unknown.
    """

    name: str
    labels: tuple[str, ...]
    local: bool
    values: Array
    prior: Array | None
    normal_scores: Array | None

    def cells(self) -> Array:
        """Return draws of shape ``(chain, draw, K * N)``, coordinate by coordinate, in double."""
        values = np.moveaxis(self.values.astype(np.float64), 3, 2)
        return np.ascontiguousarray(values.reshape(*values.shape[:2], -1))


@dataclass(frozen=True, eq=False)
class Latents:
    """All latents of a model's draws, with their log densities in nats.

    Attributes:
        sites: the latents, by name.
        data_dim: name of the dimension of data points; None if nothing has one.
        points: labels of the data points; empty without a dimension for them.
        independent: whether the draws are independent, as a guide's are, or come from chains.
        method: how they were made.
        log_likelihood: log p(x|z) by observed site, of shape ``(chain, draw, N)``, or
            ``(chain, draw)`` outside the data plate.
        prior_log_likelihood: the same at prior draws.
        log_prior: log p(z) by latent site, likewise.
        log_q: a guide's log density, likewise; None without one.
        observed: observations by site.
        divergences: divergent transitions of the sampler.
        mass: what share of each row's posterior its chains stand for, of shape ``(chain, N)``, NaN
            where that is unknown; None if it was never asked.
        mass_size: independent draws that these shares are worth, of shape ``(N,)``.
        bounds: bounds on what the coordinates of a site know, by site.
        directions: bounds for directions off the axes.
        groups: names of the groups the draws came with.
    """

    sites: Mapping[str, Latent]
    data_dim: str | None
    points: Array
    independent: bool
    method: str | None
    log_likelihood: Mapping[str, Array]
    prior_log_likelihood: Mapping[str, Array]
    log_prior: Mapping[str, Array]
    log_q: Array | None
    observed: Mapping[str, Array]
    divergences: int
    groups: tuple[str, ...]
    mass: Array | None = None
    mass_size: Array | None = None
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    directions: tuple[Directions, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of chains and of draws in each."""
        chains, draws = next(iter(self.sites.values())).values.shape[:2]
        return chains, draws

    @property
    def names(self) -> list[str]:
        """The names of the sites."""
        return list(self.sites)

    def point_label(self, row: int) -> str:
        """Return what to call a data point: its own label if it has one, else its number."""
        label = self.points[row]
        return label if isinstance(label, str) else f"data {label}"

    def point_labels(self, latent: Latent) -> list[Any]:
        """Return the labels of a site's data points; ``["all"]`` for a global one."""
        return self.points.tolist() if latent.local else ["all"]

    @classmethod
    def of(cls, data: Any, name: str = "data") -> Latents:
        """Return the latents of ArviZ data.

        Args:
            data: what :func:`from_guide`, :func:`from_mcmc` or :func:`mcmc` returns.
            name: of the argument, for messages.

        Raises:
            ArgumentError: for data without a group ``posterior``.
        """
        if isinstance(data, Latents):
            return data
        groups = groups_of(data)
        posterior = groups.get("posterior")
        if posterior is None or not posterior.data_vars:
            raise ArgumentError(
                f"{name} has the groups {sorted(groups)}: expected a posterior; pass what "
                "from_guide, mcmc or from_mcmc returns"
            )
        dim = _data_dim(groups)
        stats: Any = groups.get("sample_stats", {})
        prior: Any = groups.get("prior", {})
        sites = {}
        for site in map(str, posterior.data_vars):
            array, score = posterior[site], f"prior_score_{site}"
            shape = tuple(array.sizes[d] for d in array.dims if d not in ("chain", "draw", dim))
            sites[site] = Latent(
                site,
                latent_labels(site, shape),
                dim in array.dims,
                _flat(array, dim),
                _flat(prior[site], dim) if site in prior else None,
                _flat(stats[score], dim) if score in stats else None,
            )
        method = posterior.attrs.get("inference_method")
        at_prior: Any = groups.get("sample_stats_prior", {})
        prefix = "log_likelihood_"
        return cls(
            sites=sites,
            data_dim=dim,
            points=np.asarray(posterior[dim].values if dim in posterior.dims else []),
            # Files written before the attribute existed say it by their method alone.
            independent=bool(posterior.attrs.get("independent_draws", method == "svi")),
            method=method,
            log_likelihood=_densities(groups.get("log_likelihood"), dim),
            prior_log_likelihood={
                str(n).removeprefix(prefix): _density(at_prior[n], dim)
                for n in at_prior
                if str(n).startswith(prefix)
            },
            log_prior=_densities(groups.get("log_prior"), dim),
            log_q=_density(stats["log_q"], dim) if "log_q" in stats else None,
            observed={str(n): v.values for n, v in groups.get("observed_data", {}).items()},
            divergences=int(stats["diverging"].sum()) if "diverging" in stats else 0,
            groups=tuple(sorted(groups)),
            mass=np.asarray(stats["chain_mass"].values) if "chain_mass" in stats else None,
            mass_size=stats["chain_mass_size"].values if "chain_mass" in stats else None,
            bounds=bounds_in(stats, list(sites), dim),
            directions=directions_in(stats, dim),
        )

    @classmethod
    def of_draws(cls, bound: BoundModel, draws: Draws) -> Latents:
        """Return the latents of draws, without a detour through files' formats."""
        sites, groups = {}, ["posterior", "log_likelihood", "log_prior", "sample_stats"]
        values, likelihood = ({}, {}) if draws.prior is None else draws.prior
        for name, value in draws.values.items():
            place = bound.row_place(name)
            score = draws.normal_scores.get(name)
            shape = list(value.shape[2:])
            if place is not None:
                del shape[place]
            sites[name] = Latent(
                name,
                latent_labels(name, tuple(shape)),
                place is not None,
                _flat_tensor(value, place),
                _flat_tensor(values[name].unsqueeze(0), place) if name in values else None,
                None if score is None else _flat_tensor(score, place),
            )
        local = any(site.local for site in sites.values())
        log_q = draws.stats.get("log_q")
        bounds: Mapping[str, Any] = {}
        directions: tuple[Any, ...] = ()
        if draws.limits is not None:
            bounds, directions = draws.limits.sites, draws.limits.directions
        return cls(
            sites=sites,
            data_dim=bound.data_dim if bound.plate is not None else None,
            points=np.arange(bound.rows) if local else np.asarray([]),
            independent=draws.independent,
            method=draws.method,
            log_likelihood={n: _array(v) for n, v in draws.log_likelihood.items()},
            prior_log_likelihood={n: _array(v)[None] for n, v in likelihood.items()},
            log_prior={n: _array(v) for n, v in draws.log_prior.items()},
            log_q=None if log_q is None else _array(log_q),
            observed={n: _array(bound.trace.nodes[n]["value"]) for n in bound.observed},
            divergences=int(draws.stats["diverging"].sum()) if "diverging" in draws.stats else 0,
            groups=tuple(groups if draws.prior is None else [*groups, "prior"]),
            mass=None if draws.mass is None else _array(draws.mass.mass),
            mass_size=None if draws.mass is None else _array(draws.mass.size),
            bounds=bounds_of(bounds, {n: bound.row_place(n) for n in bounds}),
            directions=tuple(
                Directions(d.labels, d.local, d.loadings, Bound(*(m.T for m in d.moments)))
                for d in directions
            ),
        )


def _data_dim(groups: Mapping[str, Any]) -> str | None:
    """Return the name of the dimension of data points, if anything has it."""
    said = groups["posterior"].attrs.get("data_dim")
    used = {
        str(dim)
        for group in ("posterior", "log_likelihood")
        for array in groups.get(group, {}).values()
        for dim in array.dims
    }
    if said is not None:
        return str(said) if said in used else None
    for array in groups.get("log_likelihood", {}).values():
        if array.ndim > 2:
            return str(array.dims[2])
    return next((dim for dim in DATA_DIMS if dim in used), None)


def _flat(array: Any, dim: str | None) -> Array:
    """Return draws of shape (chain, draw, N, K)."""
    local = dim in array.dims
    leading = ("chain", "draw", dim) if local else ("chain", "draw")
    values = np.asarray(array.transpose(*leading, ...).values)
    return values.reshape(*values.shape[:2], values.shape[2] if local else 1, -1)


def _densities(group: Any, dim: str | None) -> dict[str, Array]:
    return {} if group is None else {str(n): _density(v, dim) for n, v in group.items()}


def _density(array: Any, dim: str | None) -> Array:
    """Return log densities of shape (chain, draw, N) or (chain, draw)."""
    leading = ("chain", "draw", dim) if dim in array.dims else ("chain", "draw")
    values = np.asarray(array.transpose(*leading, ...).values)
    rest = tuple(range(len(leading), values.ndim))
    return np.asarray(values.sum(rest)) if rest else values


def _array(value: Any) -> Array:
    found: Array = value.detach().cpu().numpy()
    return found


def _flat_tensor(value: Any, place: int | None) -> Array:
    """Return draws of shape (chain, draw, N, K) of a tensor of (chain, draw) + site shape."""
    moved = value.unsqueeze(2) if place is None else value.movedim(2 + place, 2)
    return _array(moved.reshape(*moved.shape[:3], -1))
