# SPDX-License-Identifier: Apache-2.0
"""Draws of latents with their labels and densities, in plain arrays: what every report reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_idvae._stored import coordinate_labels
from pyro_idvae.diagnostics.edits import check_together
from pyro_idvae.diagnostics.limits import (
    Bound,
    Directions,
    bounds_in,
    bounds_of,
    directions_in,
)
from pyro_idvae.diagnostics.reading import (
    by_row,
    checked_groups,
    data_dim_of,
    densities,
    density,
    divergences,
)
from pyro_idvae.errors import ArgumentError

if TYPE_CHECKING:
    from pyro_idvae.infer.draws import Draws
    from pyro_idvae.programs.bound_model import BoundModel

Array = np.ndarray[Any, Any]


def latent_labels(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the labels of a site's coordinates without names: ``z``, ``z[0]`` or ``z[0,1]``.

    Example:
        >>> from pyro_idvae.diagnostics.latents import latent_labels
        >>> latent_labels("z", (2,))
        ('z[0]', 'z[1]')
    """
    return coordinate_labels(name, [range(size) for size in shape])


@dataclass(frozen=True, eq=False)
class Latent:
    """The draws of one latent site.

    Attributes:
        name: of the site.
        labels: of its coordinates, by the labels of its dimensions if they have any.
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

    def without_draws(self) -> Latent:
        """Return the site with no rows of draws."""
        chains, draws, _, coordinates = self.values.shape
        nothing = np.empty((chains, draws, 0, coordinates), self.values.dtype)
        return replace(self, values=nothing, prior=None, normal_scores=None)

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
        divergences: divergent transitions of the sampler, of all rows.
        mass: what share of each row's posterior its chains stand for, of shape ``(chain, N)``, NaN
            where that is unknown; None if it was never asked.
        mass_size: independent draws that these shares are worth, of shape ``(N,)``.
        bounds: bounds on what the coordinates of a site know, by site.
        directions: bounds for directions off the axes.
        complete: whether these are all the draws that were wanted: no interrupt ended the sampling.
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
    complete: bool = True

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
        return label if isinstance(label, str) else f"{self.data_dim} {label}"

    def point_labels(self, latent: Latent) -> list[Any]:
        """Return the labels of a site's data points; ``["all"]`` for a global one."""
        return self.points.tolist() if latent.local else ["all"]

    def without_draws(self) -> Latents:
        """Return what is known besides draws and their densities."""
        return replace(
            self,
            sites={name: site.without_draws() for name, site in self.sites.items()},
            log_likelihood={},
            prior_log_likelihood={},
            log_prior={},
            log_q=None,
            observed={},
            mass=None,
            mass_size=None,
        )

    @classmethod
    def of(cls, data: Any, name: str = "data") -> Latents:
        """Return the latents of ArviZ data.

        Args:
            data: what :func:`from_guide`, :func:`from_mcmc` or :func:`mcmc` returns.
            name: of the argument, for messages.

        Raises:
            ArgumentError: for data without a group ``posterior``, or whose groups do not belong
                together: some were edited.
        """
        if isinstance(data, Latents):
            return data
        return cls.of_groups(checked_groups(data, name), name)

    @classmethod
    def of_groups(cls, groups: Mapping[str, Any], name: str) -> Latents:
        """Return the latents of datasets by group, a posterior among them."""
        posterior, dim = groups["posterior"], data_dim_of(groups)
        check_together(groups, dim, name)
        stats: Any = groups.get("sample_stats", {})
        prior: Any = groups.get("prior", {})
        sites = {}
        for site in map(str, posterior.data_vars):
            array, score = posterior[site], f"prior_score_{site}"
            axes = [array[d].values for d in array.dims if d not in ("chain", "draw", dim)]
            sites[site] = Latent(
                site,
                coordinate_labels(site, axes),
                dim in array.dims,
                by_row(array, dim),
                by_row(prior[site], dim) if site in prior else None,
                by_row(stats[score], dim) if score in stats else None,
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
            log_likelihood=densities(groups.get("log_likelihood"), dim),
            prior_log_likelihood={
                str(n).removeprefix(prefix): density(at_prior[n], dim)
                for n in at_prior
                if str(n).startswith(prefix)
            },
            log_prior=densities(groups.get("log_prior"), dim),
            log_q=density(stats["log_q"], dim) if "log_q" in stats else None,
            observed={str(n): v.values for n, v in groups.get("observed_data", {}).items()},
            divergences=divergences(stats),
            groups=tuple(sorted(groups)),
            mass=np.asarray(stats["chain_mass"].values) if "chain_mass" in stats else None,
            mass_size=stats["chain_mass_size"].values if "chain_mass" in stats else None,
            bounds=bounds_in(stats, list(sites), dim),
            directions=directions_in(stats, dim),
            complete=bool(posterior.attrs.get("complete", True)),
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
            complete=draws.complete,
        )


def check_labels(sites: Sequence[Latent], sides: Sequence[str]) -> None:
    """Raise unless the coordinates of one latent are called the same everywhere."""
    for site, side in zip(sites[1:], sides[1:], strict=True):
        if site.labels != sites[0].labels:
            raise ArgumentError(
                f"the coordinates of {site.name!r} are {list(sites[0].labels)} in {sides[0]} but "
                f"{list(site.labels)} in {side}: give both the same coords and dims"
            )


def _array(value: Any) -> Array:
    found: Array = value.detach().cpu().numpy()
    return found


def _flat_tensor(value: Any, place: int | None) -> Array:
    """Return draws of shape (chain, draw, N, K) of a tensor of (chain, draw) + site shape."""
    moved = value.unsqueeze(2) if place is None else value.movedim(2 + place, 2)
    return _array(moved.reshape(*moved.shape[:3], -1))
