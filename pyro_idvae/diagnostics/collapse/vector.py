# SPDX-License-Identifier: Apache-2.0
"""The divergence of a whole latent vector from its prior, from log densities alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from pyro_idvae.diagnostics.collapse.tails import Tails, heavy_tails, tail_rows
from pyro_idvae.diagnostics.estimators import LEAST_DRAWS, effective_sample_size
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError, DataError

Array = np.ndarray[Any, Any]

ROUNDINGS = 4.0
"""The rounding noise of a sum of log densities is taken to be at least this many units in the last
place."""


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


class VectorRows(NamedTuple):
    """The divergence of the latents of some rows, arrays of shape ``(N,)``; N = 1 of all data."""

    quantity: str
    per_point: bool
    points: Array
    draws_variance: Array
    """Of the mean over posterior draws."""
    base_variance: Array
    """Of the mean over prior draws."""
    floor: Array
    """Rounding error."""
    spread: Array
    """Standard deviation of log p(x|z) over the prior."""
    draws: Array
    """The sum over these rows, by chain and draw."""
    base: Array | None
    """The same at prior draws; None for a guide."""
    finite: bool
    """Whether it is finite at all of these."""
    uneven: bool
    """Whether any row is worth less than its draws."""
    tails: Tails


def vector_rows(
    latents: Latents, worth: Array | float = math.inf, tails_of: Array | None = None
) -> VectorRows:
    """Return the divergences of rows, and what that of all of them is made of.

    Args:
        latents: draws with their log densities; independent ones are a guide's.
        worth: independent draws that each row is worth at most.
        tails_of: rows whose tails are looked at; some of all if None.

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
        chosen = tail_rows(base.shape[2]) if tails_of is None else tails_of
        return _rows(
            "J",
            draws,
            base,
            floor=floor,
            spread=spread,
            local=local,
            worth=worth if local else math.inf,
            tails=heavy_tails(base[..., chosen]),
        )
    log_q, prior = [_log_q(latents)], list(latents.log_prior.values())
    if not prior:
        raise ArgumentError("data has no group log_prior: KL(q‖p) needs it; use from_guide")
    factorised = local and all(_has_rows(values) for values in (*log_q, *prior))
    log_prior = _summed(prior, factorised, "log_prior")
    draws = _summed(log_q, factorised, "sample_stats") - log_prior
    # A joint density of latents that are one for each data point is shared out among them.
    count = len(latents.points) if local and not factorised else 1
    floor = _rounding([*log_q, *prior], log_prior)
    return _rows("KL(q‖p)", draws / count, None, floor=floor / count, spread=spread, local=local)


def vector_divergence(parts: Sequence[VectorRows]) -> VectorDivergence:
    r"""Return the divergence of all latents together from their prior.

    For exact draws, with no normaliser to know,

    .. math:: J(x) = \mathbb E_{p(z|x)}\log p(x|z) - \mathbb E_{p(z)}\log p(x|z)
        = \mathrm{KL}(p(z|x)\|p(z)) + \mathrm{KL}(p(z)\|p(z|x))

    which is 0 exactly where the likelihood is constant. For a guide that identity fails, and
    KL(q ‖ p) = E_q[log q − log p(z)] stands in.

    Args:
        parts: of the rows.
    """
    first = parts[0]
    points, own, reference, floor, spread = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("points", "draws_variance", "base_variance", "floor", "spread")
    )
    # The spread is that of the density at prior draws, which a guide's may have more rows of.
    rows = len(points)
    draws = np.sum([part.draws for part in parts], axis=0) / rows
    size = float(draws.size)
    estimate, effective = float(draws.mean()), size
    if first.base is not None:
        # Antithetic draws are no reason for more confidence than the variance itself warrants.
        effective = min(float(effective_sample_size(draws[..., None])[0]), size)
    sides = [(float(draws.var(ddof=1)) / effective, effective)]
    if first.base is not None:
        # Rows that are worth less than their draws: their mean is no better known than they are.
        if any(part.uneven for part in parts):
            sides[0] = (max(sides[0][0], float(own.sum()) / rows**2), effective)
        base = np.sum([part.base for part in parts if part.base is not None], axis=0) / rows
        finite = all(part.finite for part in parts)
        estimate = estimate - float(base.mean()) if finite else math.inf
        sides.append((float(base.var(ddof=1)) / base.size if finite else 0.0, float(base.size)))
    variance = sum(part for part, _ in sides)
    share = sum(part**2 / max(n - 1.0, 1.0) for part, n in sides)
    return VectorDivergence(
        quantity=first.quantity,
        per_point=first.per_point,
        estimate=estimate,
        standard_error=math.sqrt(variance + float(floor.mean()) ** 2),
        degrees=variance**2 / share if share > 0 else size,
        size=effective,
        heavy=Tails.share([part.tails for part in parts]),
        points=points,
        points_error=np.sqrt(own + reference + floor**2),
        variation=float(spread.mean()),
        points_variation=spread,
    )


def _has_rows(values: Array) -> bool:
    return values.ndim > 2


def _is_constant(pair: tuple[Array, Array]) -> bool:
    """Tell whether a term outside the data plate is one number, whatever the draw."""
    if any(map(_has_rows, pair)):
        return False
    values = np.concatenate([np.ravel(array) for array in pair])
    return bool((values == values[0]).all())


def _rows(
    quantity: str,
    draws: Array,
    base: Array | None,
    *,
    floor: Array,
    spread: Array,
    local: bool,
    worth: Array | float = math.inf,
    tails: Tails | None = None,
) -> VectorRows:
    """Return E draws − E base, row by row."""
    size = float(draws.shape[0] * draws.shape[1])
    effective: Any = size
    points, reference = draws.mean((0, 1)), np.zeros(draws.shape[2])
    finite = True
    if base is not None:
        effective = np.minimum(np.minimum(effective_sample_size(draws), size), worth)
        known = np.isfinite(base).all((0, 1))
        kept = np.where(known, base, 0.0)
        points = np.where(known, points - kept.mean((0, 1)), np.inf)
        reference = kept.var((0, 1), ddof=1) / float(base.shape[0] * base.shape[1])
        finite = bool(known.all())
    return VectorRows(
        quantity=quantity,
        per_point=local,
        points=points,
        draws_variance=draws.var((0, 1), ddof=1) / effective,
        base_variance=reference,
        floor=floor,
        spread=spread,
        draws=draws.sum(2),
        base=None if base is None else base.sum(2),
        finite=finite,
        uneven=bool(np.any(np.isfinite(worth))),
        tails=tails or Tails(0, 0, 0, 0),
    )


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
