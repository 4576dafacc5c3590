# SPDX-License-Identifier: Apache-2.0
"""Divergences estimated from draws: their bias, their noise, their confidence limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import chndtr, chndtrinc, gammaincc, ndtri

from pyro_idvae._checks import check_real

Array = np.ndarray[Any, Any]

LARGE = 1e9
"""Beyond it √χ'² is Normal to more digits than the exact distribution is solved for."""


@dataclass(frozen=True)
class KLEstimate:
    r"""Divergences fitted to draws, in nats, arrays of one shape ``batch``.

    A fit to draws exceeds 0 by chance. Near 0,

    .. math:: 2n\,\mathrm{raw} \sim \chi'^2_d(2n\,\mathrm{KL})

    Further away from 0 only its mean, KL + d/2n, and its variance, d/2n² + 2 KL/n, are relied on.

    Attributes:
        raw: the fit, biased upward.
        degrees: d, effective degrees of freedom.
        size: n, effective draws.
        variance: of ``raw``, as found, which scales the above where the two differ.
        slack: by how much the bias that is taken off may itself be wrong. A mean over series has
            as much of it as each of them.
    """

    raw: Array
    degrees: Array
    size: Array
    variance: Array
    slack: Array

    @classmethod
    def from_noise(cls, raw: Array, trace: Array, square: Array, spread: Array) -> KLEstimate:
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
    def concatenate(cls, parts: Sequence[KLEstimate]) -> KLEstimate:
        """Return the fits of several flat batches as one."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def reshape(self, shape: Sequence[int]) -> KLEstimate:
        """Return the same fits in another shape."""
        return KLEstimate(*(getattr(self, field.name).reshape(shape) for field in fields(self)))

    def mean(self, axis: int = 0) -> KLEstimate:
        """Return the mean over independent series, such as those of different data points."""
        count = self.raw.shape[axis]
        bias = self.bias.mean(axis)
        null = (self.degrees / (2 * self.size**2)).sum(axis) / count**2
        size = bias / null
        return KLEstimate(
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
        found = np.maximum(np.where(np.isfinite(raw), raw, 1.0), 0.0) / scale
        limit = noncentrality(found, self.degrees / inflation, level)
        return np.where(np.isfinite(raw), limit * scale, raw)


def noncentrality(x: Array, degrees: Array, level: float) -> Array:
    """Return the noncentrality at which χ'² is below x with this probability; 0 if there is none.

    The larger the noncentrality, the smaller the probability.

    Args:
        x: values from 0.
        degrees: degrees of freedom, of a shape that broadcasts with it.
        level: the probability.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.kl_estimate import noncentrality
        >>> noncentrality(np.array([3.0, 12.0]), np.array([5.0, 5.0]), 0.5).round(3)
        array([0.   , 7.929])
    """
    x, degrees = np.broadcast_arrays(x, degrees)
    none = chndtr(np.minimum(x, LARGE), degrees, 0.0) <= level
    solved = chndtrinc(np.where(none | (x > LARGE), degrees + 1.0, x), degrees, level)
    wide = (np.sqrt(x) - ndtri(level)) ** 2 - degrees
    return np.where(none, 0.0, np.where(x > LARGE, np.maximum(wide, 0.0), solved))
