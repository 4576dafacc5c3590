# SPDX-License-Identifier: Apache-2.0
"""The logarithm of a mean of weights, and how far it may be off."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

Array = np.ndarray[Any, Any]


class LogMean(NamedTuple):
    """log of the mean weight of each row, in nats; arrays of shape ``(rows,)``."""

    value: Array
    error: Array
    """Its Monte-Carlo standard error."""
    spread: Array
    """Standard deviation of the log weights."""
    size: Array
    """Effective sample size (Σw)² / Σw², at most the number of particles."""


def log_mean(log_weights: Array) -> LogMean:
    r"""Return the logarithm of the mean weight of each row.

    .. math:: \log\bar w,\qquad \mathrm{se} = \frac1{\bar w}\sqrt{\frac{\sum_c (w_c - \bar w)^2}
        {C(C-1)}}

    Args:
        log_weights: of shape ``(particles, rows)``; −inf for a weight of 0.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.evidence.log_means import log_mean
        >>> found = log_mean(np.log([[1.0, 2.0], [3.0, 2.0]]))
        >>> np.exp(found.value).round(3), found.error.round(3), found.size.round(3)
        (array([2., 2.]), array([0.5, 0. ]), array([1.6, 2. ]))
    """
    count = len(log_weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = logsumexp(log_weights, axis=0)
        relative = np.exp(log_weights - (total - math.log(count)))
        error = relative.std(0, ddof=1) / math.sqrt(count)
        size = np.exp(2 * total - logsumexp(2 * log_weights, axis=0))
        spread = log_weights.std(0, ddof=1)
    return LogMean(total - math.log(count), error, spread, size)
