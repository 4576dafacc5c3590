# SPDX-License-Identifier: Apache-2.0
"""Directions of several latents together that the data may say nothing about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_idvae._chains import balanced
from pyro_idvae.infer.limits.coordinates import Array, Coordinate, Moments
from pyro_idvae.infer.limits.replacing import Replacing
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.sites import unwrap_masks

KNOWN = 0.02
"""Nats up to which a coordinate by itself says nothing: it is no part of a direction."""
NEAR_ONE = (0.5, 2.0)
"""Mean posterior variances, in units of the prior's, of which less than .05 nat may be known."""
ON_AN_AXIS, WITHIN = 0.98, 0.5
"""Largest loading of a direction that is told from a coordinate; largest share of it, squared, that
lies within directions found before."""
MOST = 16
"""Directions at most: those of least information first."""
MOST_COORDINATES = 256
GRADIENT_DRAWS = 16


class Directions(NamedTuple):
    """Directions of the latents of one row, or of the global ones."""

    labels: tuple[str, ...]
    """Of the coordinates."""
    local: bool
    loadings: Array
    """Unit vectors, of shape ``(directions, coordinates)``, in prior standard deviations."""
    moments: Moments
    """Of shape ``(directions, rows)``, or ``(directions, 1)`` of global latents."""


class Candidates(NamedTuple):
    """Directions that may be dead."""

    chosen: tuple[Coordinate, ...]
    local: bool
    vectors: Array
    """Unit vectors, of shape ``(directions, coordinates)``."""

    def without_bounds(self) -> Directions:
        """Return these directions of no rows."""
        nothing = np.empty((len(self.vectors), 0))
        labels = tuple(c.label for c in self.chosen)
        return Directions(labels, self.local, self.vectors, Moments(nothing, nothing, nothing))


Each = Callable[[Callable[[Replacing], Any]], Sequence[Any]]
"""Evaluates a function of the draws of each part of the data, wherever these are."""


def find_candidates(
    bound: BoundModel, means: Mapping[Coordinate, float], each: Each
) -> list[Candidates]:
    r"""Return directions of Normal latents that may be dead.

    They are the eigenvectors of the mean posterior covariance, in units of the prior, whose
    eigenvalues are near 1, and those of

    .. math:: \mathbb E\bigl[\nabla_z\log p(x|z)\,\nabla_z\log p(x|z)^\top\bigr]

    with the least ones: the mean of JᵀI_ηJ over data of the model. That a posterior variance is the
    prior's proves nothing; the bound is that of :class:`Replacing`, with uᵀz replaced.

    Args:
        bound: the model on all data, or on those of any part.
        means: the mean bound of each coordinate, over all rows.
        each: of the parts of the data.
    """
    found = []
    for local in (True, False):
        chosen = tuple(
            coordinate
            for coordinate, mean in means.items()
            if (bound.row_place(coordinate.site) is not None) == local
            and mean > KNOWN
            and normal_prior(bound, coordinate.site) is not None
        )
        if 2 <= len(chosen) <= MOST_COORDINATES:
            vectors = _candidates(each(partial(_spread, chosen=chosen, local=local)))
            if len(vectors):
                found.append(Candidates(chosen, local, vectors))
    return found


@torch.no_grad()
def bound_directions(replacing: Replacing, candidates: Candidates) -> Directions:
    """Return bounds of directions."""
    chosen, local, vectors = candidates
    standard = _Standardised(replacing.bound, chosen, local)
    scores = standard.take(replacing.base)
    fresh = torch.randn(scores.shape[:-1], dtype=scores.dtype, device=scores.device)
    bounds = []
    for u in vectors:
        direction = torch.as_tensor(u, dtype=scores.dtype, device=scores.device)
        step = fresh - scores @ direction
        moved = standard.put(replacing.base, scores + step.unsqueeze(-1) * direction)
        bounds.append(replacing.moments(moved, local=local))
    moments = Moments(*(np.stack(part) for part in zip(*bounds, strict=True)))
    return candidates.without_bounds()._replace(moments=moments)


def normal_prior(bound: BoundModel, name: str) -> tuple[Tensor, Tensor] | None:
    """Return means and standard deviations of a site's prior; None unless it is Normal."""
    base = unwrap_masks(bound.trace.nodes[name]["fn"])
    shape = bound.trace.nodes[name]["value"].shape
    if isinstance(base, dist.Normal):
        return base.loc.expand(shape), base.scale.expand(shape)
    if isinstance(base, dist.MultivariateNormal):
        return base.loc.expand(shape), base.variance.sqrt().expand(shape)
    return None


class _Standardised:
    """Draws of some coordinates in units of their Normal priors, and back."""

    def __init__(self, bound: BoundModel, chosen: Sequence[Coordinate], local: bool) -> None:
        self.bound, self.chosen, self.local = bound, chosen, local
        priors = {c.site: normal_prior(bound, c.site) for c in chosen}
        self.priors = {name: prior for name, prior in priors.items() if prior is not None}

    def take(self, draws: Mapping[str, Tensor]) -> Tensor:
        """Return scores of shape ``(draws, rows, coordinates)``."""
        parts = []
        for c in self.chosen:
            loc, scale = (part[c.place] for part in self.priors[c.site])
            part = (draws[c.site][(slice(None), *c.place)] - loc) / scale
            parts.append(part if self.local else part.unsqueeze(-1))
        return torch.stack(parts, -1)

    def put(self, draws: Mapping[str, Tensor], scores: Tensor) -> dict[str, Tensor]:
        """Return the sites of draws with other scores."""
        moved = {name: draws[name].clone() for name in self.priors}
        for k, c in enumerate(self.chosen):
            loc, scale = (part[c.place] for part in self.priors[c.site])
            part = scores[..., k] if self.local else scores[..., 0, k]
            moved[c.site][(slice(None), *c.place)] = loc + scale * part
        return moved


class _Spread(NamedTuple):
    """Sums over the rows of a part of the data, in units of the prior."""

    covariance: Array
    """Of posterior draws."""
    information: Array
    """Of outer products of gradients."""
    rows: int


@torch.no_grad()
def _spread(replacing: Replacing, *, chosen: tuple[Coordinate, ...], local: bool) -> _Spread:
    standard = _Standardised(replacing.bound, chosen, local)
    scores = standard.take(replacing.base)
    draws = scores.double().cpu().numpy().reshape(*replacing.shape, *scores.shape[1:])
    if replacing.mass is not None and local:
        draws = balanced(draws, replacing.mass.mass.cpu().double().numpy())
    draws = draws.reshape(-1, *draws.shape[2:])
    centred = draws - draws.mean(0)
    covariance = np.einsum("sni,snj->ij", centred, centred) / len(centred)
    return _Spread(covariance, _information(replacing, standard, scores), scores.shape[1])


def _candidates(spreads: Sequence[_Spread]) -> Array:
    """Return unit vectors off the axes, of shape ``(directions, coordinates)``."""
    rows = sum(part.rows for part in spreads)
    covariance = np.stack([part.covariance for part in spreads]).sum(0) / rows
    information = np.stack([part.information for part in spreads]).sum(0) / rows
    values, vectors = np.linalg.eigh(covariance)
    near = (values > NEAR_ONE[0]) & (values < NEAR_ONE[1])
    # What one prior standard deviation changes in nats, squared: J of a direction is about as much.
    weights, axes = np.linalg.eigh(information)
    others = sorted(vectors.T[near], key=lambda u: abs(float(u @ covariance @ u) - 1.0))
    found: list[Array] = []
    span = np.zeros_like(covariance)
    for u in [*axes.T[weights < KNOWN], *others]:
        # What lies in the span of those before is no other direction.
        if np.abs(u).max() < ON_AN_AXIS and u @ span @ u < WITHIN:
            # The sign that makes the largest loading positive.
            found.append(u * np.sign(u[np.abs(u).argmax()]))
            rest = u - span @ u
            span = span + np.outer(rest, rest) / (rest @ rest)
    return np.stack(found[:MOST]) if found else np.empty((0, len(covariance)))


def _information(replacing: Replacing, standard: _Standardised, scores: Tensor) -> Array:
    """Return the sum over rows of the gradients' mean outer products, in units of the prior."""
    index = torch.linspace(0, len(scores) - 1, min(GRADIENT_DRAWS, len(scores))).long()
    total: Any = 0.0
    with torch.enable_grad():
        for i in index.tolist():
            base = {name: value[i : i + 1] for name, value in replacing.base.items()}
            leaf = scores[i : i + 1].detach().clone().requires_grad_()
            moved = standard.put(base, leaf)
            draw = {name: value[0] for name, value in {**base, **moved}.items()}
            with replacing.bound.running():
                likelihood, _ = replacing.bound.log_densities(draw)
            height = torch.stack([term.sum() for term in likelihood.values()]).sum()
            if not height.requires_grad:
                continue
            (gradient,) = torch.autograd.grad(height, leaf)
            flat = gradient.detach().double().flatten(0, -2).nan_to_num()
            total = total + flat.mT @ flat
    if isinstance(total, float):
        return np.zeros((scores.shape[-1],) * 2)
    found: Array = (total / len(index)).cpu().numpy()
    return found
