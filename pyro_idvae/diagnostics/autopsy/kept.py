# SPDX-License-Identifier: Apache-2.0
"""How much of the exact posterior's information a q keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_idvae.diagnostics.autopsy.marginals import marginal_log_prob
from pyro_idvae.diagnostics.collapse.latent_kl import prior_of
from pyro_idvae.diagnostics.estimators import fitted_log_ratio, normal_scores
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.infer.draws import flat
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.dependence import guide_dependences, prior_dependences
from pyro_idvae.programs.side_by_side import count_of, densities_of, nth
from pyro_idvae.programs.sites import latent_sites

Array = np.ndarray[Any, Any]

FITTED_DRAWS = 1000
"""Draws that a law is fitted to, and that the fit is evaluated at."""
JOINT_DRAWS = 100
"""Exact draws at which joint densities are evaluated."""


NEGLIGIBLE = 0.05
"""Nats by which a q may be worse than the prior without being called wrong."""


class KeptRows(NamedTuple):
    """What a q keeps in each of some rows, in nats."""

    latents: list[Array]
    """An array for each latent dimension; of one number for a global one."""
    joint: Array | None
    """Of all latents together; None if unknown."""


def mean_kept(parts: Sequence[Array | None]) -> float:
    """Return the mean over the rows of all parts, of at least 0 each; NaN if any is unknown."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return math.nan
    return float(np.maximum(np.concatenate(known), 0.0).mean())


@dataclass(frozen=True)
class Kept:
    """What one q keeps of the exact posterior's information, in nats.

    Attributes:
        latents: of each latent, a mean over rows.
        floored: the same with at least 0 in each row: a q that is far off in one row of a hundred,
            such as one that has missed a small mode there, has not lost the others.
        wrong: the share of rows where q is worse than the prior.
        joint: of all latents together, at least 0 in each row; NaN if unknown.
    """

    latents: Array
    floored: Array
    wrong: Array
    joint: float

    @classmethod
    def of(cls, parts: Sequence[KeptRows]) -> Kept:
        """Summarise what is kept in each row, of all parts of the rows."""
        latents = zip(*(part.latents for part in parts), strict=True)
        rows = [np.concatenate(found) for found in latents]
        return cls(
            np.array([float(r.mean()) for r in rows]),
            np.array([float(np.maximum(r, 0.0).mean()) for r in rows]),
            np.array([float((r < -NEGLIGIBLE).mean()) for r in rows]),
            mean_kept([part.joint for part in parts]),
        )

    def or_better(self, other: Kept) -> Kept:
        """Return, latent by latent, the better of the two."""
        return Kept(
            np.fmax(self.latents, other.latents),
            np.fmax(self.floored, other.floored),
            np.fmin(self.wrong, other.wrong),
            float(np.fmax(self.joint, other.joint)),
        )


def information_kept(
    exact: Latents, q: Latents, ratios: Mapping[str, Array] | None = None
) -> list[Array]:
    r"""Return E_{p(z_k|x)}[log q(z_k|x) − log p(z_k)] of each row, in nats.

    By q's marginals in closed form where there are some; else by the law that the collapse report
    fits to draws of q, on the scale on which the prior is N(0, 1), evaluated at the exact draws.

    Args:
        exact: draws of the exact posterior.
        q: draws of q.
        ratios: log q(z_k|x) − log p(z_k) at the exact draws, averaged over them, by site: of shape
            ``(rows, K)``.

    Returns:
        An array for each latent dimension, in the order of a collapse report; of one number for a
        global one.
    """
    kept: list[Array] = []
    for name, latent in exact.sites.items():
        if not latent.values.shape[2]:  # all rows of a block were left out
            kept.extend([np.empty(0)] * len(latent.labels))
            continue
        if ratios is not None and name in ratios:
            kept.extend(ratios[name].T)
            continue
        other = q.sites[name]
        truth, drawn, size = latent.normal_scores, other.normal_scores, math.inf
        if truth is None or drawn is None:
            prior = prior_of(latent)
            truth, drawn = (normal_scores(side.values, prior) for side in (latent, other))
            size = float(prior.shape[0] * prior.shape[1])
        ratio = fitted_log_ratio(_some(drawn), _some(truth), reference_size=size)
        kept.extend(ratio.mean((0, 1)).T)
    return kept


def _some(draws: Array) -> Array:
    """Return some draws of each chain."""
    step = -(-draws.shape[0] * draws.shape[1] // FITTED_DRAWS)
    return draws[:, ::step]


@torch.no_grad()
def closed_ratios(
    bound: BoundModel, distributions: Mapping[str, Any], draws: Values, rows: Array
) -> dict[str, Array]:
    """Return log q(z_k|x) − log p(z_k), averaged over exact draws, where both are closed forms.

    Args:
        bound: the model.
        distributions: q by site.
        draws: exact draws, of shape ``(chain, draw) + site shape``.
        rows: which rows to keep.

    Returns:
        Arrays of shape ``(rows, K)`` by site.
    """
    found = {}
    links = prior_dependences(bound)
    for name, fn in distributions.items():
        if links[name] or bound.depends_on_summed(name):
            continue
        values = draws[name]
        q = marginal_log_prob(fn, values)
        p = marginal_log_prob(bound.trace.nodes[name]["fn"], values)
        if q is None or p is None:
            continue
        mean = (q - p).double().mean((0, 1))
        place = bound.row_place(name)
        mean = mean.unsqueeze(0) if place is None else mean.movedim(place, 0)
        array = mean.reshape(len(mean), -1).cpu().numpy()
        found[name] = array if place is None else array[rows]
    return found


def site_distributions(bound: BoundModel) -> dict[str, Any]:
    """Return a guide's distributions of the model's latents, of those that depend on no other."""
    links = guide_dependences(bound)
    sites = latent_sites(bound.guide_trace)
    return {name: sites[name]["fn"] for name in bound.latents if not links[name]}


def thin(draws: Values, number: int = JOINT_DRAWS) -> Values:
    """Return some draws of all chains along one dimension."""
    one = flat(draws)
    index = torch.linspace(0, count_of(one) - 1, min(number, count_of(one))).long()
    return {name: value[index.to(value.device)] for name, value in one.items()}


@torch.no_grad()
def joint_kept(alone: BoundModel, log_q: Tensor | None, draws: Values, rows: Array) -> Array | None:
    """Return E_{p(z|x)}[log q(z|x) − log p(z)] of each row.

    None if q has no density.

    Args:
        alone: the model.
        log_q: at the draws, of shape ``(draws, rows)``.
        draws: exact draws with one leading dimension.
        rows: which rows to keep.
    """
    if log_q is None:
        return None
    prior = torch.stack(list(densities_of(alone, draws).prior.values())).sum(0)
    if prior.dim() < 2:
        return None
    kept = (log_q - prior).double().mean(0)[torch.as_tensor(rows)]
    return kept.cpu().numpy()


@torch.no_grad()
def guide_log_prob(bound: BoundModel, draws: Values) -> Tensor | None:
    """Return a guide's log density at draws, row by row: of shape ``(draws, rows)``.

    None for a guide that draws helpers, such as an autoguide, or not row by row.
    """
    with bound.running():
        found = [bound.guide_density(nth(draws, i)) for i in range(count_of(draws))]
    known = [density for density in found if density is not None and density.dim()]
    return torch.stack(known) if len(known) == len(found) else None


@torch.no_grad()
def normal_log_prob(u: Tensor, volume: Tensor) -> Tensor:
    """Return the log density of the Normal fitted to unconstrained draws, row by row.

    Args:
        u: draws of shape ``(draws, rows, dim)``.
        volume: log|det| of the transforms there, of shape ``(draws, rows)``.

    Returns:
        Densities of the latents themselves, of shape ``(draws, rows)``.
    """
    u = u.double()
    centred = u - u.mean(0)
    covariance = torch.einsum("sni,snj->nij", centred, centred) / len(u)
    ridge = 1e-6 * covariance.diagonal(dim1=-2, dim2=-1) + torch.finfo(torch.float32).tiny
    normal = torch.distributions.MultivariateNormal(u.mean(0), covariance + torch.diag_embed(ridge))
    log_q: Tensor = normal.log_prob(u) - volume
    return log_q
