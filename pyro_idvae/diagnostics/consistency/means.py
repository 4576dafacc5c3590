# SPDX-License-Identifier: Apache-2.0
"""Posterior means of the rows of one run: of a guide, of draws, or as they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.diagnostics.estimators import LEAST_DRAWS
from pyro_idvae.diagnostics.estimators.marginals import moments
from pyro_idvae.diagnostics.evaluation.row_normals import row_normals
from pyro_idvae.diagnostics.latents import Latents, latent_labels
from pyro_idvae.diagnostics.mixing import agreement, weighed
from pyro_idvae.diagnostics.parts import Parts, observations
from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.door import open_pair
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.unchanged import unchanged

Array = np.ndarray[Any, Any]

NOISY = 0.01
"""Share of the variance of posterior means from which on the noise of few draws is said."""


@dataclass(frozen=True, eq=False)
class Means:
    """Posterior means of one run's latents.

    Attributes:
        name: of the run.
        labels: of the K latents.
        values: posterior means, of shape ``(rows, K)``.
        share: what share of the variance of each latent its posterior means have, of shape
            ``(K,)``.
        noise: what share of the variance of posterior means is the noise of few draws, likewise.
        observed: what was observed, by site; empty if that is not known.
        notes: what else to know of them.
    """

    name: str
    labels: tuple[str, ...]
    values: Array
    share: Array
    noise: Array
    observed: dict[str, Array]
    notes: tuple[str, ...] = ()

    def active(self, threshold: float) -> Array:
        """Return the places of the latents that have variance."""
        return np.flatnonzero(self.share > threshold)

    @classmethod
    def of_parts(
        cls, name: str, labels: Sequence[str], mean: Array, error: Array, within: Array, **more: Any
    ) -> Means:
        """Return means with what is known of their noise and of the variance around them.

        Args:
            name: of the run.
            labels: of the latents.
            mean: of shape ``(rows, K)``.
            error: Monte-Carlo standard errors of the means, likewise.
            within: variances of the posterior, likewise.
            **more: the other attributes.
        """
        seen, chance = _variance(mean), np.square(error).mean(0)
        signal, around = np.maximum(seen - chance, 0.0), within.mean(0)
        # Of a point nothing but its own variance is known: its latents have 1, it is taken.
        whole = np.where(around > 0, signal + around, 1.0)
        share, noise = (
            np.divide(part, of, out=np.zeros(part.shape), where=of > 0)
            for part, of in ((signal, whole), (np.minimum(chance, seen), seen))
        )
        return cls(name, tuple(labels), mean, share, noise, **more)


def means_of_array(name: str, value: Any) -> Means:
    """Return the posterior means that an array holds; its latents have variance 1, it is taken."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ArgumentError(f"{name} holds no real numbers: expected posterior means")
    array = array.astype(np.float64)
    if array.ndim != 2 or not array.size:
        raise ShapeError(
            f"{name} has shape {array.shape}: expected posterior means of shape (rows, latents)"
        )
    if not np.isfinite(array).all():
        raise DataError(f"{name} has entries that are not finite: leave these rows out everywhere")
    labels = latent_labels("z", (array.shape[1],))
    return Means(name, labels, array, _variance(array), np.zeros(array.shape[1]), {})


def _variance(values: Array) -> Array:
    """Return the variance over rows, 0 for a single one."""
    found: Array = values.var(0, ddof=min(1, len(values) - 1))
    return found


def means_of_draws(name: str, data: Any, var_names: Sequence[str] | None) -> Means:
    """Return the posterior means of draws, chains in the shares of their modes' masses."""
    parts, disagree = Parts.of(data, name), 0
    pieces: list[tuple[Array, ...]] = []
    for drawn in parts:
        agreed = agreement(drawn)
        disagree += int(agreed.left_out.sum())
        labels, piece = _of_rows(name, weighed(drawn), var_names)
        pieces.append(piece)
    notes = []
    if disagree:
        notes.append(
            f"{name}: chains of {disagree} rows disagree, and the masses of their modes are not "
            "known: their means may be of some modes only"
        )
    mean, error, within = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return Means.of_parts(
        name, labels, mean, error, within, observed=observations(data), notes=tuple(notes)
    )


def _of_rows(
    name: str, latents: Latents, var_names: Sequence[str] | None
) -> tuple[list[str], tuple[Array, ...]]:
    """Return labels of latents, and of each row their means, errors and variances."""
    count = latents.shape[0] * latents.shape[1]
    if count < LEAST_DRAWS:
        raise ArgumentError(f"{name} has {count} draws: expected at least {LEAST_DRAWS}")
    sites = {
        site.name: site
        for site in latents.sites.values()
        if site.local and site.values.dtype.kind == "f"
    }
    labels: list[str] = []
    columns: list[list[Array]] = [[], [], []]
    for site in _picked(name, list(sites), var_names):
        found, latent = moments(sites[site].cells(), independent=latents.independent), sites[site]
        labels += latent.labels
        parts = (found.mean, found.mean_error, np.square(found.sd))
        for column, part in zip(columns, parts, strict=True):
            column.append(part.reshape(len(latent.labels), -1).T)
    return labels, tuple(np.concatenate(column, 1) for column in columns)


@left_as_found
@unchanged()
def means_of_pair(
    name: str,
    model: Program,
    guide: Program,
    arguments: Arguments,
    *,
    var_names: Sequence[str] | None,
    num_samples: int,
    seed: int,
) -> Means:
    """Return the means of a guide: in closed form if it is Normal, else of draws."""
    bound = open_pair(model, guide, arguments)
    nodes: Any = bound.trace.nodes
    local = [
        site
        for site in bound.latents
        if bound.row_place(site) is not None and nodes[site]["value"].is_floating_point()
    ]
    names = _picked(name, local, var_names)
    labels = [label for site in names for label in _labels(bound, site)]
    found = _closed_form(bound, names)
    if found is None:
        torch.manual_seed(seed)
        found = _of_draws(bound, names, num_samples)
    return Means.of_parts(name, labels, *found, observed={})


def _picked(name: str, known: list[str], var_names: Sequence[str] | None) -> list[str]:
    """Return the sites to look at."""
    names = known if var_names is None else list(var_names)
    if not known:
        raise ArgumentError(
            f"{name} has no continuous latent with a value for each row: there is nothing to "
            "compare over rows"
        )
    if not names or any(site not in known for site in names):
        raise ArgumentError(
            f"var_names={var_names!r}: expected some of {known}, the continuous latents of each "
            f"row in {name}"
        )
    return names


def _labels(bound: BoundModel, site: str) -> tuple[str, ...]:
    nodes: Any = bound.trace.nodes
    shape = list(nodes[site]["value"].shape)
    del shape[bound.row_place(site) or 0]
    return latent_labels(site, tuple(shape))


def _closed_form(bound: BoundModel, names: list[str]) -> tuple[Array, Array, Array] | None:
    """Return means, errors of 0 and variances of a guide of Normals; None for another."""
    guide: Any = bound.guide_trace
    for site in names:
        helper = _upstream.unconstrained_site(guide, site)
        # A Normal on the unconstrained scale has other means on this one.
        if helper is not None and not torch.equal(helper["value"], guide.nodes[site]["value"]):
            return None
    normals = row_normals(bound)
    if normals is None:
        return None
    picked = [normals[bound.latents.index(site)] for site in names]
    mean = torch.cat([one.loc + one.origin for one in picked], -1).cpu().numpy()
    within = torch.cat(
        [one.scale.square() if one.diagonal else one.scale.square().sum(-1) for one in picked], -1
    )
    return mean, np.zeros(mean.shape), within.cpu().numpy()


@torch.no_grad()
def _of_draws(bound: BoundModel, names: list[str], count: int) -> tuple[Array, Array, Array]:
    """Return means of draws, their errors and variances, by Welford's recursion."""
    mean = squares = torch.zeros((), dtype=torch.double)
    with bound.running():
        for number in range(1, count + 1):
            values = bound.draw_guide()[0]
            parts = [values[n].movedim(bound.row_place(n) or 0, 0).double() for n in names]
            draw = torch.cat([part.reshape(bound.rows, -1) for part in parts], -1)
            step = draw - mean
            mean = mean + step / number
            squares = squares + step * (draw - mean)
    within = (squares / (count - 1)).cpu().numpy()
    return mean.cpu().numpy(), np.sqrt(within / count), within
