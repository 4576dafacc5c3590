# SPDX-License-Identifier: Apache-2.0
"""Divergences estimated from draws: their bias, their noise, their confidence limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import chndtr, gammaincc, ndtr

from pyro_idvae._checks import check_real

Array = np.ndarray[Any, Any]

STEPS = 60
FEW_DEGREES = 4.0
SHORT_SUM = 500.0


@dataclass(frozen=True)
class DrawKL:
    r"""Divergences fitted to draws, in nats, arrays of one shape ``batch``.

    A fit to draws exceeds 0 by chance. Near 0,

    .. math:: 2n\,\mathrm{raw} \sim \chi'^2_d(2n\,\mathrm{KL})

    whose mean and variance, KL + d/2n and d/2n² + 2 KL/n, are also what matters further away.

    Attributes:
        raw: the fit, biased upward.
        degrees: d, effective degrees of freedom.
        size: n, effective draws.
        variance: of ``raw``, as found, which scales the above where the two differ.
        slack: by how much the bias taken off may itself be wrong; it does not average out.
    """

    raw: Array
    degrees: Array
    size: Array
    variance: Array
    slack: Array

    @classmethod
    def from_noise(cls, raw: Array, trace: Array, square: Array, spread: Array) -> DrawKL:
        """Return fits whose noise is Σ_j λ_j χ²₁/2.

        Args:
            raw: the fits.
            trace: Σ λ_j, twice the bias.
            square: Σ λ_j², twice the variance at KL = 0.
            spread: variance that the log density ratio's mean has.
        """
        size = trace / square
        # Effective sizes are themselves estimates, and the expansion behind the bias is in 1/n.
        slack = trace / 2 * np.minimum(2.0 / np.sqrt(size), 1.0)
        # The fit's own noise spreads the ratio where KL = 0: that is counted already.
        variance = square / 2 + np.maximum(spread - square, 0.0)
        return cls(raw, trace * size, size, variance, slack)

    @property
    def estimate(self) -> Array:
        """KL without the bias of the fit; it may lie below 0 by chance."""
        return self.raw - self.bias

    @property
    def bias(self) -> Array:
        """What draws of the prior itself would show on average, d/2n."""
        bias: Array = self.degrees / (2 * self.size)
        return bias

    @classmethod
    def concatenate(cls, parts: Sequence[DrawKL]) -> DrawKL:
        """Return the fits of several flat batches as one."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def reshape(self, shape: Sequence[int]) -> DrawKL:
        """Return the same fits in another shape."""
        return DrawKL(*(getattr(self, field.name).reshape(shape) for field in fields(self)))

    def mean(self, axis: int = 0) -> DrawKL:
        """Return the mean over independent series, such as those of different data points."""
        count = self.raw.shape[axis]
        bias = self.bias.mean(axis)
        null = (self.degrees / (2 * self.size**2)).sum(axis) / count**2
        size = bias / null
        return DrawKL(
            self.raw.mean(axis),
            2 * size * bias,
            size,
            self.variance.sum(axis) / count**2,
            self.slack.mean(axis),
        )

    def lower(self, confidence: float) -> Array:
        """Return the one-sided lower limit of KL, at least 0."""
        level = check_real("confidence", confidence, above=0.5, below=1.0)
        return self._limit(self.raw - self.slack, level)

    def upper(self, confidence: float) -> Array:
        """Return the one-sided upper limit of KL."""
        level = check_real("confidence", confidence, above=0.5, below=1.0)
        return self._limit(self.raw + self.slack, 1.0 - level)

    def p_value(self) -> Array:
        """Return the chance of a fit as large as this where KL = 0."""
        with np.errstate(invalid="ignore"):
            scaled = 2 * self.size * np.maximum(self.raw - self.slack, 0.0)
        return np.asarray(gammaincc(self.degrees / 2, scaled / 2))

    def _limit(self, raw: Array, level: float) -> Array:
        """Return the KL of which a fit below ``raw`` has the given chance, 0 if there is none."""
        with np.errstate(invalid="ignore"):
            null = self.degrees / (2 * self.size**2)
            known = 2 * null + 2 * np.maximum(self.estimate, 0.0) / self.size
            inflation = (self.variance + null) / known
        inflation = np.maximum(np.where(np.isfinite(inflation), inflation, 1.0), 0.01)
        scale = inflation / (2 * self.size)
        degrees = self.degrees / inflation
        found = np.maximum(np.where(np.isfinite(raw), raw, 1.0), 0.0) / scale
        low, high = np.zeros_like(found), 2 * found + 200.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            # The larger the noncentrality the smaller the chance of a fit below.
            below = noncentral_chi2(found, degrees, middle) > level
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        limit = np.where(noncentral_chi2(found, degrees, 0.0 * found) > level, low, 0.0)
        return np.where(np.isfinite(raw), limit * scale, raw)


def noncentral_chi2(x: Array, degrees: Array, noncentrality: Array) -> Array:
    """Return the distribution function of χ'², also for degrees of freedom in the thousands.

    Reference:
        Sankaran, *Approximations to the non-central chi-square distribution*, Biometrika 50, 1963.
    """
    x, degrees, noncentrality = np.broadcast_arrays(x, degrees, noncentrality)
    first, second = degrees + noncentrality, degrees + 2 * noncentrality
    h = 1 - 2 / 3 * first * (degrees + 3 * noncentrality) / second**2
    p = second / first**2
    m = (h - 1) * (1 - 3 * h)
    centre = 1 + h * p * (h - 1 - (2 - h) * m * p / 2)
    found = np.asarray(ndtr(((x / first) ** h - centre) / (h * np.sqrt(2 * p) * (1 + m * p / 2))))
    # The approximation is poor for one or two degrees of freedom, where the exact sum is short.
    few = (degrees < FEW_DEGREES) & (x < SHORT_SUM) & (noncentrality < SHORT_SUM)
    found[few] = chndtr(x[few], degrees[few], noncentrality[few])
    return found
