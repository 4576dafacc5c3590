# SPDX-License-Identifier: Apache-2.0
"""The spectrum of data, and what of it is above the noise."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from pyro_idvae.diagnostics.forecast import Forecast
from pyro_idvae.errors import ArgumentError
from pyro_idvae.plots.axes import check_axes

LEAST_SHOWN, MOST_SHOWN = 10, 60
"""Eigenvalues: twice as many as are kept, but no fewer and no more."""
NATS = (0, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10)


def plot_forecast(forecast: Forecast, *, ax: Any = None) -> Any:
    """Plot the eigenvalues of data in units of the noise, and the threshold of a linear decoder.

    Those above the line are kept, at the nats that the scale on the right says; those below
    collapse. The grey band is what noise alone would have in so many rows.

    Args:
        forecast: what :func:`~pyro_idvae.forecast` returns.
        ax: matplotlib axes; new ones if None.

    Returns:
        The axes.

    Raises:
        ArgumentError: if ``forecast`` is none.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> found = idvae.forecast(torch.randn(100, 5), scale=0.5)
        >>> idvae.plot_forecast(found).get_xlabel()
        'latent, from the largest eigenvalue'
    """
    if not isinstance(forecast, Forecast):
        raise ArgumentError(
            f"forecast is a {type(forecast).__name__}: expected a Forecast; call "
            "forecast(x, scale=scale)"
        )
    check_axes("ax", ax)
    if ax is None:
        _, ax = plt.subplots(figsize=(7.4, 4.0), layout="constrained")
    number = int(np.clip(2 * forecast.active, LEAST_SHOWN, MOST_SHOWN))
    values = forecast.eigenvalues[:number]
    place, kept = np.arange(1, len(values) + 1), forecast.active
    threshold = forecast.threshold
    # Zeros have no place on a scale of logarithms.
    seen = float(np.min(values, initial=threshold, where=values > 0))
    floor = max(threshold / 100, 0.7 * min(seen, threshold))
    ax.axhspan(
        floor, forecast.noise_edge, color="0.92", lw=0, zorder=0,
        label=f"noise alone, {forecast.rows:,} rows",
    )  # fmt: skip
    ax.axhline(threshold, color="0.3", lw=1, ls="--", label=f"threshold {threshold:g}")
    ax.plot(place[:kept], values[:kept], "o", color="C0", ms=5, label=f"kept: {kept}")
    if kept < len(values):
        lost = np.maximum(values[kept:], floor)
        ax.plot(place[kept:], lost, "o", mfc="none", color="0.5", ms=5, label="collapse")
    ax.set_yscale("log")
    ax.set_xlim(0, len(values) + 1)
    ax.set_ylim(floor, 2 * max(float(values.max()), forecast.noise_edge, threshold))
    ax.set_xlabel("latent, from the largest eigenvalue")
    ax.set_ylabel("variance of the data / variance of the noise")
    # Half a logarithm of a logarithmic scale: a plain one.
    right = ax.twinx()
    low, high = (0.5 * np.log(end / threshold) for end in ax.get_ylim())
    right.set_ylim(low, high)
    right.set_yticks([nats for nats in NATS if nats < high])
    right.yaxis.set_major_formatter(lambda nats, _: f"{nats:g}")
    right.set_ylabel("nats of the latent")
    right.yaxis.set_label_coords(1.08, 0.5 * (high - low + abs(low)) / (high - low))
    ax.legend(frameon=False)
    hint = "" if forecast.exact else f" ({forecast.family} noise at its base rates: a hint)"
    ax.set_title(f"what a linear decoder keeps{hint}", fontsize="medium")
    return ax
