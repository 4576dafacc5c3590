# SPDX-License-Identifier: Apache-2.0
"""Rows whose chains disagree: weighed by the masses of their modes, or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from pyro_idvae._chains import LEAST_PER_CHAIN, RHAT_LIMIT, balanced, split_rhat
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import DataError

Array = np.ndarray[Any, Any]

MOST_LEFT_OUT = 0.05
"""Share of rows beyond which those that are left are a selection."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """Draws in which chains count by the masses of their modes.

    Attributes:
        latents: the draws, without the rows that are left out.
        rows: places of the rows that are kept.
        worth: independent draws that each kept row is worth at most.
        rhat: split R-hat by site, of shape ``(N, K)``, of the draws as they came.
        num_weighed: rows whose chains disagreed and were weighed.
        num_left_out: rows whose chains disagree by more than can be weighed.
        selection: whether so many are left out that the others are a selection.
    """

    latents: Latents
    rows: Array
    worth: Array
    rhat: Mapping[str, Array]
    num_weighed: int
    num_left_out: int
    selection: bool

    @property
    def worst_rhat(self) -> float:
        """The largest R-hat; NaN for independent draws."""
        return max((float(np.max(values)) for values in self.rhat.values()), default=np.nan)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Whether the chains of some rows agree.

    Attributes:
        rhat: split R-hat by site, of shape ``(N, K)``; empty for independent or too few draws.
        disagree: rows in which it is above 1.05 for any latent.
        known: rows whose chains' masses are known.
    """

    rhat: Mapping[str, Array]
    disagree: Array
    known: Array

    @property
    def left_out(self) -> Array:
        """Rows whose chains disagree by more than can be weighed."""
        return np.asarray(self.disagree & ~self.known)

    @property
    def weighed(self) -> Array:
        """Rows whose chains disagree and count by the masses of their modes."""
        return np.asarray(self.disagree & self.known)

    @property
    def selection(self) -> bool:
        """Whether so many are left out that the others are a selection."""
        return int(self.left_out.sum()) > MOST_LEFT_OUT * len(self.disagree)

    @classmethod
    def join(cls, parts: Sequence[Agreement], local: Mapping[str, bool]) -> Agreement:
        """Return that of the rows of several parts.

        Args:
            parts: the parts.
            local: whether a site has rows, by site.
        """
        rhat = {
            name: np.concatenate([part.rhat[name] for part in parts]) if local[name] else values
            for name, values in parts[0].rhat.items()
        }
        disagree, known = (
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("disagree", "known")
        )
        return cls(rhat, disagree, known)


def agreement(latents: Latents) -> Agreement:
    """Tell in which rows chains agree.

    Raises:
        DataError: for draws that are not finite.
    """
    for name, site in latents.sites.items():
        if not np.isfinite(site.values).all():
            raise DataError(f"draws of {name!r} are not all finite: look at the sampler")
    count = _count(latents)
    disagree, known = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    if latents.independent or latents.shape[1] < 2 * LEAST_PER_CHAIN:
        return Agreement({}, disagree, known)
    rhat = {name: split_rhat(site.values) for name, site in latents.sites.items()}
    for name, site in latents.sites.items():
        if site.local:
            disagree |= ~(rhat[name] <= RHAT_LIMIT).all(-1)
    mass = latents.mass
    if mass is not None and mass.shape[1] == count:
        known = np.asarray(np.isfinite(mass).all(0))
    return Agreement(rhat, disagree, known)


def _count(latents: Latents) -> int:
    return max((s.values.shape[2] for s in latents.sites.values() if s.local), default=1)


def mixed(
    latents: Latents, agreed: Agreement | None = None, selection: bool | None = None
) -> Mixed:
    """Return draws in which chains count by the masses of their modes.

    A row of latents is looked at if the R-hat of any of them is above 1.05. If too many rows would
    be left out, all are kept, and it is said.

    Args:
        latents: the draws.
        agreed: of these draws; found if None.
        selection: whether too many would be left out of all rows, if these are some of them.

    Raises:
        DataError: for draws that are not finite.
    """
    agreed = agreement(latents) if agreed is None else agreed
    selection = agreed.selection if selection is None else selection
    count = _count(latents)
    everything, worth = np.arange(count), np.full(count, np.inf)
    mass = latents.mass
    if agreed.rhat and mass is not None and mass.shape[1] == count:
        distinct = latents.shape[0] * latents.shape[1] / (len(mass) * (mass**2).sum(0))
        size = np.inf if latents.mass_size is None else latents.mass_size
        uneven = agreed.known & (np.ptp(mass, axis=0) > 0)
        worth = np.where(uneven, np.minimum(distinct, size), np.inf)
        latents = weighed(latents)
    if agreed.left_out.any() and not selection:
        everything = np.flatnonzero(~agreed.left_out)
        latents = some_rows(latents, everything)
    return Mixed(
        latents,
        everything,
        worth[everything],
        agreed.rhat,
        int(agreed.weighed.sum()),
        int(agreed.left_out.sum()),
        selection,
    )


def weighed(latents: Latents) -> Latents:
    """Return all rows, chains in the shares of their modes' masses where these are known."""
    mass = latents.mass
    return latents if mass is None else _changed(latents, partial(balanced, mass=mass))


def _changed(latents: Latents, change: Callable[[Array], Array]) -> Latents:
    """Return the latents with their posterior draws and densities of rows changed."""
    sites = {
        name: replace(
            site,
            values=change(site.values),
            normal_scores=None if site.normal_scores is None else change(site.normal_scores),
        )
        if site.local
        else site
        for name, site in latents.sites.items()
    }
    return replace(
        latents,
        sites=sites,
        log_likelihood=_densities(latents.log_likelihood, change),
        log_prior=_densities(latents.log_prior, change),
    )


def _densities(values: Mapping[str, Array], change: Callable[[Array], Array]) -> dict[str, Array]:
    return {name: change(v) if v.ndim > 2 else v for name, v in values.items()}


def some_rows(latents: Latents, rows: Array) -> Latents:
    """Return the latents of some rows."""

    def take(values: Array) -> Array:
        return values[:, :, rows]

    kept = _changed(latents, take)
    sites = {
        name: replace(site, prior=take(site.prior))
        if site.local and site.prior is not None
        else site
        for name, site in kept.sites.items()
    }
    return replace(
        kept,
        sites=sites,
        points=latents.points[rows],
        prior_log_likelihood=_densities(latents.prior_log_likelihood, take),
        bounds={name: bound.take(rows) for name, bound in latents.bounds.items()},
        directions=tuple(replace(d, bound=d.bound.take(rows)) for d in latents.directions),
    )
