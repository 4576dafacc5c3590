# SPDX-License-Identifier: Apache-2.0
"""Chains of many series at once: what their draws are worth, whether they agree, how to mix them.

ArviZ's own functions go series by series: for 10⁵ of them they take about ten times as long with
either version. The tests compare with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import fft

from pyro_idvae.errors import ShapeError

Array = np.ndarray[Any, Any]

RHAT_LIMIT = 1.05
"""Split R-hat above which chains disagree."""
LEAST_PER_CHAIN = 4
"""How many draws a chain must have: two for each half."""
CHUNK = 2**22
"""How many numbers one Fourier transform holds at once."""


def effective_sample_size(draws: Array) -> Array:
    r"""Return the effective number of draws for the mean of each series.

    .. math:: \frac{S}{-1 + 2\sum_{t \le T}\hat\rho_t + \hat\rho_{T+1}}

    over all S draws, with each chain split in two, autocorrelations by Fourier transform, and
    Geyer's initial monotone sequence; ArviZ's ``ess(method="mean")`` for a whole array at once. A
    series that never moves counts as S draws: its mean is known.

    Args:
        draws: of shape ``(chain, draw) + batch``, at least 4 draws a chain.

    Returns:
        An array of shape ``batch``; NaN where a series is not finite.

    Raises:
        ShapeError: for fewer than two dimensions or four draws.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae._chains import effective_sample_size
        >>> draws = np.random.default_rng(0).normal(size=(2, 1000, 3))
        >>> bool((effective_sample_size(draws) > 1000).all())
        True

    Reference:
        Vehtari et al., *Rank-normalization, folding, and localization: an improved R-hat for
        assessing convergence of MCMC*, Bayesian Analysis 16, 2021.
    """
    draws = np.asarray(draws)
    if draws.ndim < 2 or draws.shape[1] < LEAST_PER_CHAIN:
        raise ShapeError(
            f"draws has shape {draws.shape}: expected (chain, draw, ...) with at least "
            f"{LEAST_PER_CHAIN} draws a chain"
        )
    chains, num_draws, *batch = draws.shape
    half = num_draws // 2
    flat = draws.reshape(chains, num_draws, -1)
    split = (flat[:, :half], flat[:, num_draws - half :])
    found = np.empty(flat.shape[2])
    step = max(1, CHUNK // (4 * chains * half))
    for start in range(0, len(found), step):
        part = slice(start, start + step)
        series = np.concatenate([piece[..., part] for piece in split])
        # Transforms are fastest along the last dimension.
        found[part] = _ess(np.ascontiguousarray(np.moveaxis(series, 1, 2), dtype=float))
    return found.reshape(batch)


def split_rhat(draws: Array) -> Array:
    """Return the split R-hat of each series: near 1 where the halves of all chains agree.

    Args:
        draws: of shape ``(chain, draw) + batch``, at least 4 draws a chain.

    Returns:
        An array of shape ``batch``; 1 for series that never move.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae._chains import split_rhat
        >>> draws = np.random.default_rng(0).normal(size=(4, 500, 3))
        >>> bool((split_rhat(draws) < 1.01).all())
        True

    Reference:
        Gelman et al., *Bayesian Data Analysis*, third edition, section 11.4.
    """
    draws = np.asarray(draws, dtype=float)
    half = draws.shape[1] // 2
    parts = np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]])
    within = parts.var(1, ddof=1).mean(0)
    between = parts.mean(1).var(0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rhat = np.sqrt((half - 1) / half + between / within)
    return np.where((within == 0) & (between == 0), 1.0, rhat)


def balanced(draws: Array, mass: Array) -> Array:
    r"""Return draws in which each chain of a row has the share that its mode has of the posterior.

    A chain that cannot leave its mode counts for 1/C of the draws whatever the mode's mass. Here
    each of C new chains takes its s-th draw from the s-th ones of the old chains, from chain c for
    a share w_c of the draws. Rows whose masses are equal, or NaN, stay as they are.

    Args:
        draws: of shape ``(chain, draw, rows, ...)``.
        mass: w, of shape ``(chain, rows)``.

    Returns:
        An array of the shape of ``draws``.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae._chains import balanced
        >>> draws = np.stack([np.zeros((50, 1)), np.ones((50, 1))])
        >>> float(balanced(draws, np.array([[0.9], [0.1]])).mean())
        0.1
    """
    chains, length = draws.shape[:2]
    rows = np.flatnonzero(np.isfinite(mass).all(0) & (np.ptp(mass, axis=0) > 0))
    if not len(rows):
        return draws
    # The golden ratio's multiples fill the unit interval evenly, however few are taken.
    grid = (np.arange(length * chains) * (np.sqrt(5.0) - 1) / 2 + 0.5) % 1.0
    place = grid.reshape(length, chains).T
    mixed = draws.copy()
    time = np.arange(length)
    for row in rows:
        edges = np.cumsum(mass[:, row])[:-1] / mass[:, row].sum()
        mixed[:, :, row] = draws[np.searchsorted(edges, place, side="right"), time, row]
    return mixed


def _ess(series: Array) -> Array:
    """Return the effective sizes of series of shape ``(chain, batch, draw)``."""
    chains, _, n = series.shape
    total = chains * n
    spread = series.max((0, 2)) - series.min((0, 2))
    constant = spread < np.finfo(float).resolution
    rho = _autocorrelations(series, ~constant)
    # Geyer's sum runs over pairs of lags and stops at the first pair that is not positive.
    last = max((n - 3) // 2, 0)
    even, odd = rho[:, 0 : 2 * last + 1 : 2], rho[:, 1 : 2 * last + 2 : 2]
    pairs = even + odd
    negative = pairs <= 0
    stop = np.where(negative.any(1), negative.argmax(1), last)
    lags = np.arange(last + 1)
    kept = np.where(lags < stop[:, None], pairs, np.inf)
    monotone = np.minimum.accumulate(kept, axis=1)
    summed = np.where(lags < stop[:, None], monotone, 0.0).sum(1)
    tail, pair = (np.take_along_axis(a, stop[:, None], axis=1)[:, 0] for a in (even, pairs))
    tau = -1.0 + 2.0 * summed + np.where((tail > 0) | (pair >= 0), tail, 0.0)
    found = total / np.maximum(tau, 1.0 / np.log10(total))
    found = np.where(constant, float(total), found)
    return np.where(np.isfinite(series).all((0, 2)), found, np.nan)


def _autocorrelations(series: Array, moving: Array) -> Array:
    """Return ρ of shape ``(batch, draw)`` from variances within and between chains."""
    chains, _, n = series.shape
    means = series.mean(2)
    size = fft.next_fast_len(2 * n, real=True)
    transformed = fft.rfft(series - means[..., None], n=size, axis=2)
    power = (transformed.real**2 + transformed.imag**2).sum(0)
    covariance = fft.irfft(power, n=size, axis=1)[:, :n] / (n * chains)
    within = covariance[:, 0] * n / (n - 1.0)
    total = covariance[:, 0] + (means.var(0, ddof=1) if chains > 1 else 0.0)
    total = np.where(moving & (total > 0), total, 1.0)
    rho: Array = 1.0 - (within[:, None] - covariance) / total[:, None]
    rho[:, 0] = 1.0
    return rho
