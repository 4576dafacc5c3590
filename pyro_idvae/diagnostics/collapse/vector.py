# SPDX-License-Identifier: Apache-2.0
"""The divergence of a whole latent vector from its prior, from log densities alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pyro_idvae.arviz_io import pareto_k
from pyro_idvae.diagnostics.estimators import LEAST_DRAWS, effective_sample_size
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError, DataError

Array = np.ndarray[Any, Any]

ROUNDINGS = 4.0
"""The rounding noise of a sum of log densities is taken to be at least this many units in the last
place."""

HEAVY, ONE_DRAW = 0.5, 0.05
"""A mean whose draws have a larger tail index, and of which one draw makes a larger share, is known
less well than its standard error says."""
TAILS = 200
"""Rows whose tails are looked at."""


@dataclass(frozen=True)
class VectorDivergence:
    """One number for all latents together, in nats.

    Attributes:
        quantity: ``"J"``, KL both ways summed, or ``"KL(q‖p)"`` for a guide.
        per_point: whether it is the mean over data points; else it is that of all data together.
        estimate: unbiased; it may lie below 0 by chance.
        standard_error: of ``estimate``, at least rounding error.
        degrees: degrees of freedom of its t limits.
        size: effective draws of the posterior behind it.
        heavy: share of rows whose log p(x|z) has so heavy a tail under the prior that the limits
            are too narrow. 0 for a guide.
        points: the divergence of each data point, of shape ``(N,)``, or ``(1,)`` of all together.
        points_error: their standard errors.
        variation: standard deviation of log p(x|z) over the prior, averaged over data points.
        points_variation: the same for each.
    """

    quantity: str
    per_point: bool
    estimate: float
    standard_error: float
    degrees: float
    size: float
    heavy: float
    points: Array
    points_error: Array
    variation: float
    points_variation: Array

    def limits(self, confidence: float) -> tuple[float, float]:
        """Return the one-sided lower and upper limits, the lower at least 0."""
        if not np.isfinite(self.estimate):
            return self.estimate, self.estimate
        margin = float(stdtrit(self.degrees, confidence)) * self.standard_error
        return max(self.estimate - margin, 0.0), max(self.estimate + margin, 0.0)


def vector_divergence(latents: Latents, worth: Array | float = math.inf) -> VectorDivergence:
    r"""Return the divergence of all latents together from their prior.

    For exact draws, with no normaliser to know,

    .. math:: J(x) = \mathbb E_{p(z|x)}\log p(x|z) - \mathbb E_{p(z)}\log p(x|z)
        = \mathrm{KL}(p(z|x)\|p(z)) + \mathrm{KL}(p(z)\|p(z|x))

    which is 0 exactly where the likelihood is constant. For a guide that identity fails, and
    KL(q ‖ p) = E_q[log q − log p(z)] stands in.

    Args:
        latents: draws with their log densities; independent ones are a guide's.
        worth: independent draws that each row is worth at most.

    Raises:
        ArgumentError: if log densities are missing, or prior draws are fewer than 20.
        DataError: for log densities that are NaN.
    """
    pairs = [
        (values, _prior_density(latents, name)) for name, values in latents.log_likelihood.items()
    ]
    # An observation outside the data plate that depends on no latent, such as a value that the
    # model is conditioned on, is the same for all draws and cancels.
    pairs = [pair for pair in pairs if not _is_constant(pair)] or pairs
    likelihood, prior_likelihood = (list(side) for side in zip(*pairs, strict=True))
    every_site = all(site.local for site in latents.sites.values())
    local = every_site and all(_has_rows(values) for values in likelihood)
    base = _summed(prior_likelihood, local, "sample_stats_prior")
    if base.shape[0] * base.shape[1] < LEAST_DRAWS:
        raise ArgumentError(
            f"data has {base.shape[0] * base.shape[1]} prior draws: J needs at least "
            f"{LEAST_DRAWS}; convert with a larger num_prior_samples"
        )
    finite = np.isfinite(base).all((0, 1))
    spread = np.where(finite, np.where(finite, base, 0.0).std((0, 1), ddof=1), np.inf)
    if not latents.independent:
        draws = _summed(likelihood, local, "log_likelihood")
        floor = _rounding(likelihood, draws)
        most = worth if local else math.inf
        return _contrast("J", draws, base, floor=floor, spread=spread, local=local, worth=most)
    log_q, prior = [_log_q(latents)], list(latents.log_prior.values())
    if not prior:
        raise ArgumentError("data has no group log_prior: KL(q‖p) needs it; use from_guide")
    factorised = local and all(_has_rows(values) for values in (*log_q, *prior))
    log_prior = _summed(prior, factorised, "log_prior")
    draws = _summed(log_q, factorised, "sample_stats") - log_prior
    # A joint density of latents that are one for each data point is shared out among them.
    count = len(latents.points) if local and not factorised else 1
    floor = _rounding([*log_q, *prior], log_prior)
    return _contrast(
        "KL(q‖p)", draws / count, None, floor=floor / count, spread=spread, local=local
    )


def _has_rows(values: Array) -> bool:
    return values.ndim > 2


def _is_constant(pair: tuple[Array, Array]) -> bool:
    """Tell whether a term outside the data plate is one number, whatever the draw."""
    if any(map(_has_rows, pair)):
        return False
    values = np.concatenate([np.ravel(array) for array in pair])
    return bool((values == values[0]).all())


def _contrast(
    quantity: str,
    draws: Array,
    base: Array | None,
    *,
    floor: Array,
    spread: Array,
    local: bool,
    worth: Array | float = math.inf,
) -> VectorDivergence:
    """Return E draws − E base, point by point and for the mean over points."""
    size = draws.shape[0] * draws.shape[1]
    pooled = np.concatenate([draws, draws.mean(2, keepdims=True)], axis=2)
    effective = np.full(pooled.shape[2], float(size))
    if base is not None:
        # Antithetic draws are no reason for more confidence than the variance itself warrants.
        effective = np.minimum(effective_sample_size(pooled), float(size))
        effective[:-1] = np.minimum(effective[:-1], worth)
    found = pooled.mean((0, 1))
    parts = [(pooled.var((0, 1), ddof=1) / effective, effective)]
    if base is not None:
        reference = np.concatenate([base, base.mean(2, keepdims=True)], axis=2)
        num = float(base.shape[0] * base.shape[1])
        finite = np.isfinite(reference).all((0, 1))
        kept = np.where(finite, reference, 0.0)
        found = np.where(finite, found - kept.mean((0, 1)), np.inf)
        parts.append((kept.var((0, 1), ddof=1) / num, np.full(len(found), num)))
    if base is not None:
        # Rows that are worth less than their draws: their mean is no better known than they are.
        apart = parts[0][0][:-1].sum() / (len(found) - 1) ** 2
        parts[0][0][-1] = max(parts[0][0][-1], apart if np.any(np.isfinite(worth)) else 0.0)
    variance = sum(part for part, _ in parts)
    share = sum(part**2 / np.maximum(n - 1.0, 1.0) for part, n in parts)
    floors = np.append(floor, floor.mean())
    error = np.sqrt(variance + floors**2)
    degrees = variance[-1] ** 2 / share[-1] if share[-1] > 0 else float(size)
    return VectorDivergence(
        quantity=quantity,
        per_point=local,
        estimate=float(found[-1]),
        standard_error=float(error[-1]),
        degrees=float(degrees),
        size=float(effective[-1]),
        heavy=0.0 if base is None else _heavy_tails(base),
        points=found[:-1],
        points_error=error[:-1],
        variation=float(spread.mean()),
        points_variation=spread,
    )


def _heavy_tails(base: Array) -> float:
    """Return the share of rows whose log-likelihoods have a heavy lower tail under the prior."""
    rows = np.unique(np.linspace(0, base.shape[2] - 1, min(base.shape[2], TAILS)).astype(int))
    values = base[..., rows].reshape(-1, len(rows)).T
    below = values.max(-1, keepdims=True) - values
    known = np.isfinite(below).all(-1) & (below.max(-1) > 0)
    if not known.any():
        return float((~np.isfinite(below).all(-1)).mean())
    below = below[known]
    with np.errstate(divide="ignore"):
        # The index is fitted to what is exponentiated.
        k = pareto_k(np.log(below))
    heavy = (k > HEAVY) & (below.max(-1) > ONE_DRAW * below.sum(-1))
    return float(heavy.sum() / len(values))


def _summed(terms: Sequence[Array], by_row: bool, group: str) -> Array:
    """Return the sum of log densities, of shape ``(chain, draw, N)``; N = 1 for all rows."""
    total: Any = 0.0
    for term in terms:
        values = term.astype(float)
        if not by_row:
            values = values.reshape(*values.shape[:2], -1).sum(-1, keepdims=True)
        total = total + (values if values.ndim > 2 else values[..., None])
    values = np.asarray(total)
    if np.isnan(values).any() or (group != "sample_stats_prior" and not np.isfinite(values).all()):
        raise DataError(f"{group} holds log densities that are not finite: look at the draws")
    return values


def _rounding(terms: Sequence[Array], like: Array) -> Array:
    """Return how far rounding may move each point's log density."""
    unit = max(np.finfo(term.dtype).eps for term in terms)
    floor: Array = ROUNDINGS * unit * abs(like).max((0, 1))
    return floor


def _prior_density(latents: Latents, name: str) -> Array:
    if name not in latents.prior_log_likelihood:
        raise ArgumentError(
            f"data has no sample_stats_prior/log_likelihood_{name}: J needs log p(x|z) at prior "
            "draws; convert with from_guide, from_mcmc or mcmc"
        )
    return latents.prior_log_likelihood[name]


def _log_q(latents: Latents) -> Array:
    if latents.log_q is None:
        raise ArgumentError(
            "data has no sample_stats/log_q: a guide's draws need its log density; convert with "
            "from_guide"
        )
    return latents.log_q
