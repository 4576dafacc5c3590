# SPDX-License-Identifier: Apache-2.0
"""Standard errors from leaving out one block of rows at a time, and limits made of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

Array = np.ndarray[Any, Any]

EXACT = 1e-9
"""Shares left unexplained below this are rounding."""


class Jackknifed(NamedTuple):
    """An estimate and its standard error, of one shape, and the number of blocks."""

    estimate: Array
    error: Array
    blocks: int


def all_and_without_each(blocks: int) -> Array:
    """Return which blocks are kept: all of them, then all but one, of shape ``(1 + G, G)``.

    Example:
        >>> from pyro_idvae.diagnostics.estimators.jackknife import all_and_without_each
        >>> all_and_without_each(2)
        array([[1., 1.],
               [0., 1.],
               [1., 0.]])
    """
    return np.concatenate([np.ones((1, blocks)), 1.0 - np.eye(blocks)])


def jackknife(values: Array, *, biased: bool = False) -> Jackknifed:
    r"""Return an estimate with its standard error over rows like these.

    .. math:: \mathrm{SE}^2 = \frac{G-1}{G}\sum_g(t_{-g} - \bar t)^2, \qquad
        t + (G - 1)(t - \bar t)

    The second is the estimate less its bias, if that falls as 1/n.

    Args:
        values: the estimate t from all G blocks, then :math:`t_{-g}` without one each, of shape
            ``(1 + G,) + batch``.
        biased: whether the bias is to be taken off.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.jackknife import (
        ...     all_and_without_each,
        ...     jackknife,
        ... )
        >>> x, kept = np.array([1.0, 2.0, 6.0]), all_and_without_each(3)
        >>> mean, square = ((kept @ part) / kept.sum(1) for part in (x, x**2))
        >>> found = jackknife(mean)
        >>> float(found.estimate), bool(np.isclose(found.error, x.std(ddof=1) / 3**0.5))
        (3.0, True)
        >>> bool(np.isclose(jackknife(square - mean**2, biased=True).estimate, x.var(ddof=1)))
        True

    Reference:
        Efron & Stein, *The jackknife estimate of variance*, Annals of Statistics 1981.
    """
    blocks = len(values) - 1
    mean = values[1:].mean(0)
    error = np.sqrt((blocks - 1) / blocks * np.square(values[1:] - mean).sum(0))
    estimate = values[0] + (blocks - 1) * (values[0] - mean) if biased else values[0]
    return Jackknifed(estimate, error, blocks)


def correlation_limits(found: Jackknifed, confidence: float) -> tuple[Array, Array]:
    r"""Return limits of a correlation, or a mean of such, on Fisher's scale.

    .. math:: \tanh\bigl(\mathrm{artanh}\,r \pm t\,\mathrm{SE}/(1 - r^2)\bigr)

    with t Student's quantile of G − 1 degrees of freedom.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.jackknife import Jackknifed, correlation_limits
        >>> np.round(correlation_limits(Jackknifed(0.9, 0.02, 30), 0.95), 2)
        array([0.85, 0.93])
    """
    estimate = np.clip(found.estimate, -1.0, 1.0)
    left = 1.0 - np.square(estimate)
    exact = left < EXACT
    left = np.where(exact, 1.0, left)
    middle = np.arctanh(np.where(exact, 0.0, estimate))
    margin = _quantile(found, confidence) * found.error / left
    low, high = np.tanh(middle - margin), np.tanh(middle + margin)
    return np.where(exact, estimate, low), np.where(exact, estimate, high)


def share_limits(found: Jackknifed, confidence: float) -> tuple[Array, Array]:
    r"""Return limits of a share of variance, from 0 to 1, on the scale of what is left of it.

    .. math:: 1 - (1 - R^2)\exp\bigl(\pm t\,\mathrm{SE}/(1 - R^2)\bigr)

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.jackknife import Jackknifed, share_limits
        >>> np.round(share_limits(Jackknifed(0.9, 0.02, 30), 0.95), 3)
        array([0.849, 0.934])
    """
    left = 1.0 - found.estimate
    exact = left < EXACT
    left = np.where(exact, 1.0, left)
    with np.errstate(over="ignore"):
        factor = np.exp(_quantile(found, confidence) * found.error / left)
        limits = [np.clip(1.0 - left * change, 0.0, 1.0) for change in (factor, 1.0 / factor)]
    return np.where(exact, 1.0, limits[0]), np.where(exact, 1.0, limits[1])


def _quantile(found: Jackknifed, confidence: float) -> float:
    return float(stdtrit(found.blocks - 1, 0.5 + confidence / 2))
