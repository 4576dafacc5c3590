# SPDX-License-Identifier: Apache-2.0
"""When a noisy training loss has stopped falling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.fit.callbacks import Callback, Progress

Array = np.ndarray[Any, Any]

LEAST_WINDOW = 16

HISTORY = 4
"""Windows from which the noise and its correlation are estimated."""

LEAST_EFFECTIVE = 4.0
"""Independent epochs that a window must be worth."""


class StopOnPlateau(Callback):
    r"""Ends a fit when its training loss falls by less than a given amount: no validation needed.

    Two windows of W epochs each, one after the other, are compared every W epochs. The fit ends
    when the upper confidence limit of what the second gained on the first,

    .. math:: \bar\ell_1-\bar\ell_2 + t\,s\sqrt{2/W_\mathrm{eff}},

    is below ``min_improvement``: when a fall of that size can be excluded, not when none was seen.
    The noise is what is left around a line in each window, as an autoregression of first order:
    noise that lasts for some epochs, as of parameters that wander, counts as what it is. A window
    worth fewer than 4 independent epochs ends nothing: take a longer one.

    If the loss still falls by ``min_improvement`` a window or more, the k-th comparison ends the
    fit with a probability of at most :math:`6\alpha/(\pi k)^2`: over a run of any length, wrongly
    with probability at most ``alpha``.

    Measured on simulated losses that fall by ``min_improvement`` a window, with independent noise,
    autocorrelations of 0.5 and 0.9, and heavy tails: 2.1 to 3.4 % of runs of 20 comparisons ended
    wrongly at ``alpha=0.05`` (1,000 runs each, ``benchmarks/false_stops.py``).

    Epochs of the KL warm-up are left out.

    Args:
        min_improvement: fall of the loss between two windows that is worth going on for, in nats
            per data point.
        window: epochs W, at least 16.
        alpha: probability to stop wrongly, over all comparisons.

    Raises:
        ArgumentError: for an argument out of range.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> from pyro.infer.autoguide import AutoNormal
        >>> import pyro_idvae as idvae
        >>> def model(x):
        ...     mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(mean, 1.0), obs=x)
        >>> stop = idvae.StopOnPlateau(min_improvement=0.5, window=50)
        >>> options = {"callbacks": [stop], "num_epochs": 5000, "seed": 0, "progress": False}
        >>> result = idvae.fit(model, AutoNormal(model), torch.randn(20) + 1.0, **options)
        >>> result.stopped_early
        True
    """

    def __init__(
        self, min_improvement: float = 0.01, *, window: int = 50, alpha: float = 0.05
    ) -> None:
        self.min_improvement = check_real("min_improvement", min_improvement, above=0.0)
        self.window = check_count("window", window)
        if self.window < LEAST_WINDOW:
            raise ArgumentError(f"window={window}: expected at least {LEAST_WINDOW} epochs")
        self.alpha = check_real("alpha", alpha, above=0.0, below=1.0)

    def on_epoch(self, progress: Progress) -> None:
        """Compare the last two windows, every window's length."""
        losses = np.array(progress.result.losses[progress.kl_warmup :])
        comparison, rest = divmod(len(losses), self.window)
        if rest == 0 and comparison >= 2 and self.has_ended(losses, comparison - 1):
            progress.stop()

    def has_ended(self, losses: Array, comparison: int) -> bool:
        """Tell whether the last two windows exclude an improvement worth going on for.

        Args:
            losses: of all epochs.
            comparison: its number, from 1.
        """
        first, second = losses[-2 * self.window : -self.window], losses[-self.window :]
        gain = float(first.mean() - second.mean())
        recent = losses[-self.window * min(comparison + 1, HISTORY) :].reshape(-1, self.window)
        residuals = recent - _lines(recent)
        variance = float(np.mean(residuals**2))
        if variance == 0.0:
            return gain < self.min_improvement
        # An autoregression estimated from so few epochs comes out too small: its bias (Kendall
        # 1954) and one standard error are added.
        share = float(np.mean(residuals[:, 1:] * residuals[:, :-1])) / variance
        size = residuals.size
        share += (1 + 4 * max(share, 0.0)) / self.window
        share += math.sqrt(max(1 - share**2, 0.0) / size)
        if share >= 1.0:
            return False
        time = max((1 + share) / (1 - share), 1.0)
        effective = self.window / time
        if effective <= LEAST_EFFECTIVE:
            return False
        # A line in each window takes two of its effective epochs.
        error = math.sqrt(2 * variance / (effective - 2))
        level = 6 * self.alpha / (math.pi * comparison) ** 2
        quantile = float(stats.t.isf(level, 2 * (effective - 2)))
        return gain + quantile * error < self.min_improvement


def _lines(windows: Array) -> Array:
    """Return the line of least squares through each row."""
    time = np.linspace(-1.0, 1.0, windows.shape[1])
    slope = windows @ time / (time @ time)
    found: Array = windows.mean(1, keepdims=True) + slope[:, None] * time
    return found
