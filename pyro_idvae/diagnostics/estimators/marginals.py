# SPDX-License-Identifier: Apache-2.0
"""How far two samples of one-dimensional marginals lie apart, many marginals at once.

Arrays of draws have the shape ``(chain, draw, cells)``, a cell being one coordinate of a latent at
one data point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae._chains import effective_sample_size
from pyro_idvae.diagnostics.estimators.divergence import kl_to_normal
from pyro_idvae.diagnostics.estimators.ranks import count_below, normal_scores, sorted_rows

Array = np.ndarray[Any, Any]

SIZE_STEP = 0.1
"""Logarithm of the factor within which effective sizes are taken for one."""
RANGE_LEVEL = 0.001
"""Probability of refusing a KL between equal laws because draws fall outside the other's range."""


class Moments(NamedTuple):
    """Mean and standard deviation of each cell, their Monte-Carlo errors and the effective size."""

    mean: Array
    sd: Array
    mean_error: Array
    sd_error: Array
    size: Array


def moments(draws: Array, *, independent: bool) -> Moments:
    r"""Return means and standard deviations with their Monte-Carlo standard errors.

    .. math:: \mathrm{MCSE}(\bar z) = \frac{s}{\sqrt{\mathrm{ESS}(z)}},\qquad
        \mathrm{MCSE}(s) = \frac{\mathrm{sd}(d)}{2s\sqrt{\mathrm{ESS}(d)}},\quad d = (z-\bar z)^2

    Args:
        draws: of shape ``(chain, draw, cells)``.
        independent: whether the draws are independent, and count in full.

    Returns:
        :class:`Moments` of arrays of shape ``(cells,)``, errors 0 where the draws are constant.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.marginals import moments
        >>> draws = np.random.default_rng(0).normal(size=(1, 400, 2))
        >>> np.allclose(moments(draws, independent=True).mean_error, 0.05, atol=0.01)
        True

    Reference:
        Vehtari et al., *Rank-normalization, folding, and localization: An improved R-hat*,
        Bayesian Analysis 2021.
    """
    count = draws.shape[0] * draws.shape[1]
    mean, sd = draws.mean((0, 1)), draws.std((0, 1), ddof=1)
    squares = (draws - mean) ** 2
    moving = sd > 0
    size, size_of_squares = np.full((2, *mean.shape), float(count))
    if not independent and moving.any():
        size[moving] = effective_sample_size(draws[..., moving])
        size_of_squares[moving] = effective_sample_size(squares[..., moving])
    sd_error = squares.std((0, 1), ddof=1) / np.sqrt(size_of_squares)
    sd_error = np.divide(sd_error, 2 * sd, out=np.zeros_like(sd), where=moving)
    return Moments(mean, sd, sd / np.sqrt(size), sd_error, size)


def wasserstein(draws: Array, other: Array, size: Array, other_size: Array) -> tuple[Array, Array]:
    r"""Return the 1-Wasserstein distance of two samples, and what chance alone would show.

    .. math:: W_1 = \int |F(z) - G(z)|\,dz,\qquad
        \mathbb E\,W_1 \approx \sqrt{\tfrac2\pi\left(\tfrac1n+\tfrac1m\right)}
        \int\!\sqrt{G(1-G)}\,dz

    The second is the expectation for n and m independent draws of one law of cdf G.

    Args:
        draws: of shape ``(chain, draw, cells)``.
        other: draws of the same cells, of any number; their empirical cdf is G.
        size: n, the effective size of ``draws``, of shape ``(cells,)``.
        other_size: m, that of ``other``.

    Returns:
        The distance and its expectation under equal laws, in the unit of the draws and of shape
        ``(cells,)``.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.marginals import wasserstein
        >>> draws = np.random.default_rng(0).normal(size=(1, 100, 2))
        >>> distance, by_chance = wasserstein(draws, draws + 3.0, np.full(2, 100), np.full(2, 100))
        >>> distance.round(6), bool((by_chance < 0.2).all())
        (array([3., 3.]), True)
    """
    first, second = sorted_rows(draws), sorted_rows(other)
    merged = np.sort(np.concatenate([first, second], -1), axis=-1)
    left, steps = np.ascontiguousarray(merged[:, :-1]), np.diff(merged, axis=-1)
    cdf, other_cdf = (
        count_below(rows, left, side="right") / rows.shape[-1] for rows in (first, second)
    )
    spread = (np.sqrt(other_cdf * (1 - other_cdf)) * steps).sum(-1)
    by_chance = np.sqrt(2 / np.pi * (1 / size + 1 / other_size)) * spread
    return (np.abs(cdf - other_cdf) * steps).sum(-1), by_chance


def inside_range(draws: Array, reference: Array, size: Array, reference_size: Array) -> Array:
    r"""Tell where draws lie inside a reference sample's range, up to what sampling leaves out.

    Of n draws, the number K outside the range of m draws of the same law follows, for large n + m,

    .. math:: \Pr(K \ge k) = (1-p)^k(1 + kp),\qquad p = \frac{m}{m+n}

    With effective sizes for n and m, and the observed share of draws outside as k/n, the answer is
    no where this probability is below 0.001. Beyond its range a sample says nothing of the density,
    so a KL to its law would be a guess. Close to the limit the KL errs low, by about its standard
    error.

    Args:
        draws: of shape ``(chain, draw, cells)``.
        reference: draws of the same cells.
        size: effective size of ``draws``, of shape ``(cells,)``.
        reference_size: effective size of ``reference``, of shape ``(cells,)``.

    Returns:
        A boolean array of shape ``(cells,)``.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.marginals import inside_range
        >>> draws = np.random.default_rng(0).normal(size=(1, 100, 1)) * np.array([1.0, 3.0])
        >>> inside_range(draws, draws[..., :1], np.full(2, 100), np.full(2, 100))
        array([ True, False])
    """
    low, high = reference.min((0, 1)), reference.max((0, 1))
    outside = ((draws < low) | (draws > high)).mean((0, 1)) * size
    p = reference_size / (reference_size + size)
    chance: Array = (1 - p) ** outside * (1 + outside * p)
    return chance >= RANGE_LEVEL


def kl_of_draws(
    draws: Array, reference: Array, size: Array, reference_size: Array, *, independent: bool
) -> tuple[Array, Array]:
    """Return the KL of the law of draws from that of a reference, with its standard error.

    Args:
        draws: of shape ``(chain, draw, cells)``.
        reference: draws of the same cells.
        size: effective size of ``draws``, of shape ``(cells,)``.
        reference_size: effective size of ``reference``, of shape ``(cells,)``.
        independent: whether ``draws`` are independent.

    Returns:
        Nats and their standard error, of shape ``(cells,)``; NaN where draws are constant or
        :func:`inside_range` says no.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.marginals import kl_of_draws
        >>> a, b = np.random.default_rng(0).normal(size=(2, 1, 500, 1))
        >>> size = np.full(1, 500.0)
        >>> nats, error = kl_of_draws(a, 9.0 + b, size, size, independent=True)
        >>> nats
        array([nan])
    """
    nats, error = np.full((2, draws.shape[-1]), np.nan)
    sound = inside_range(draws, reference, size, reference_size)
    sound &= (np.ptp(draws, (0, 1)) > 0) & (np.ptp(reference, (0, 1)) > 0)
    # One call takes one reference size: cells of about the same share one, rounded down.
    steps = np.floor(np.log(np.maximum(reference_size, 1.0)) / SIZE_STEP)
    for step in np.unique(steps[sound]):
        cells = sound & (steps == step)
        estimate = kl_to_normal(
            normal_scores(draws[..., cells], reference[..., cells]),
            reference_size=float(np.exp(step * SIZE_STEP)),
            independent=independent,
        )
        nats[cells], error[cells] = estimate.estimate, np.sqrt(estimate.variance)
    return nats, error


def coverages(draws: Array, exact: Array, probs: Sequence[float]) -> Array:
    """Return the share of exact draws inside the central intervals of draws.

    Args:
        draws: of shape ``(chain, draw, cells)``.
        exact: draws of the same cells.
        probs: mass of each interval.

    Returns:
        Shares, of shape ``(len(probs), cells)``.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.marginals import coverages
        >>> draws = np.linspace(-1.0, 1.0, 101).reshape(1, 101, 1)
        >>> coverages(draws, 2 * draws, [0.5]).round(2)
        array([[0.25]])
    """
    found = []
    for prob in probs:
        low, high = np.quantile(draws, [0.5 - prob / 2, 0.5 + prob / 2], axis=(0, 1))
        found.append(((exact >= low) & (exact <= high)).mean((0, 1)))
    return np.stack(found)
