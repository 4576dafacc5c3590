# SPDX-License-Identifier: Apache-2.0
"""The pictures of the mixture and of the probabilistic PCA experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter
from scipy import stats

from pyro_idvae.datasets import MIXTURE_REGIMES
from pyro_idvae.experiments.endings import save_figure

COLOURS = {
    "closed form": "k",
    "exact (HMC)": "C0",
    "NUTS": "C0",
    "mean field": "C1",
    "full rank": "C2",
}
MARKERS = {"exact (HMC)": "o", "NUTS": "D", "mean field": "s", "full rank": "^"}
LINES: dict[str, tuple[str, float]] = {
    "NUTS": ("-", 2.6),
    "mean field": ("--", 1.6),
    "full rank": (":", 1.8),
}
SHIFTS = {"exact (HMC)": -0.2, "NUTS": 0.0, "mean field": 0.0, "full rank": 0.2}
NARROW = 0.03
"""Posterior standard deviations of θ below this are shown magnified too."""
LEAST_SHOWN = 1e-4
"""Nats below which a logarithmic axis ends."""


def plot_mixture(
    found: pd.DataFrame, curves: Mapping[str, Mapping[str, Any]], concentration: float, path: Path
) -> None:
    """Draw the posteriors of θ over its prior, one panel a regime.

    Args:
        found: the table of the experiment.
        curves: draws of θ by regime and method.
        concentration: both parameters of θ's Beta prior.
        path: the file to write.
    """
    figure, axes = plt.subplots(
        1,
        len(curves),
        figsize=(4.4 * len(curves), 4.2),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for ax, (regime, draws) in zip(axes[0], curves.items(), strict=True):
        own = found[found["regime"] == regime].set_index("method")
        truth = own["true_theta"].iloc[0]
        _densities(ax, draws, concentration, truth, (0.0, 1.0))
        ax.set_ylim(0.0, 1.12)
        ax.set_xlabel("θ, weight of the component with the lower mean")
        ax.set_title(_title(regime, own), fontsize=10)
        if own["sd"].max() < NARROW:
            low = (own["mean"] - 4 * own["sd"]).min()
            high = (own["mean"] + 4 * own["sd"]).max()
            inset = ax.inset_axes((0.52, 0.3, 0.45, 0.5))
            _densities(inset, draws, concentration, truth, (low, high))
            inset.set_ylim(0.0, 1.12)
            inset.set_yticks([])
            inset.set_title("magnified", fontsize=8)
            inset.tick_params(labelsize=7)
    axes[0, 0].set_ylabel("density, relative to its maximum")
    handles, labels = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    save_figure(figure, path)


def _densities(
    ax: Any,
    draws: Mapping[str, Any],
    concentration: float,
    truth: float,
    limits: tuple[float, float],
) -> None:
    """Draw the prior and the posteriors, each scaled to the height 1 over [0, 1]."""
    prior = stats.beta(concentration, concentration)
    grid = np.linspace(*limits, 1601)
    name = f"prior Beta({concentration:g}, {concentration:g})"
    ax.fill_between(grid, prior.pdf(grid) / prior.pdf(0.5), color="0.87", label=name)
    for method, values in draws.items():
        height = stats.gaussian_kde(np.ravel(values))(grid)
        style, width = LINES[method]
        ax.plot(
            grid, height / height.max(), ls=style, color=COLOURS[method], lw=width, label=method
        )
    if np.isfinite(truth):
        ax.axvline(truth, color="k", lw=0.8, label="true θ")
    ax.set_xlim(*limits)


def _title(regime: str, own: pd.DataFrame) -> str:
    """Return the regime, its means and each verdict with the methods it is of."""
    first, second = MIXTURE_REGIMES[regime]
    means = f"{first:g}" if first == second else f"{first:g} and {second:g}"
    verdicts = own["verdict"]
    lines = [
        f"{', '.join(verdicts.index[verdicts == verdict])}: {verdict}"
        for verdict in dict.fromkeys(verdicts)
    ]
    if len(lines) == 1:
        lines = [f"all three methods: {verdicts.iloc[0]}"]
    means = means.replace("-", "−")
    return "\n".join([f"{regime} (data around {means})", *lines])


def plot_pca(found: pd.DataFrame, epsilon: float, path: Path) -> None:
    """Draw the KL to the prior of each latent, at given loadings and with them sampled.

    Args:
        found: the table of the experiment.
        epsilon: nats below which a divergence counts as none.
        path: the file to write.
    """
    shown = found[found["latent"].str.startswith(("z[", "|z|"))]
    sampled = shown["setting"].str.contains("sampled")
    parts = [shown[~sampled], shown[sampled]]
    places = [list(dict.fromkeys(zip(p["setting"], p["latent"], strict=True))) for p in parts]
    figure, axes = plt.subplots(
        1,
        2,
        figsize=(11.5, 4.6),
        layout="constrained",
        sharey=True,
        width_ratios=[len(names) for names in places],
    )
    titles = (
        "loadings given: every method has a target",
        "loadings sampled by NUTS: z up to a rotation",
    )
    for ax, part, names, title in zip(axes, parts, places, titles, strict=True):
        _divergences(ax, part, names)
        ax.axhline(epsilon, color="0.2", ls="--", lw=1, label=f"ε = {epsilon:g}, collapsed below")
        ax.set_title(title, fontsize=10)
    axes[0].set_yscale("log")
    axes[0].set_ylim(LEAST_SHOWN, 3.0)
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].set_ylabel("KL from the prior, mean over data points (nats)")
    labelled: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    figure.legend(
        labelled.values(), labelled.keys(), loc="outside lower center", ncols=6, frameon=False
    )
    save_figure(figure, path)


def _divergences(ax: Any, part: pd.DataFrame, names: list[tuple[str, str]]) -> None:
    """Draw one mark a method at each (setting, latent)."""
    for method in dict.fromkeys(part["method"]):
        own = part[part["method"] == method].set_index(["setting", "latent"]).loc[names]
        value = own["estimate"].to_numpy()
        if method == "closed form":
            value = np.maximum(value, LEAST_SHOWN)
            at = np.arange(float(len(names)))
            ax.hlines(value, at - 0.38, at + 0.38, color="k", lw=1.4, label=method, clip_on=False)
            for x in at[own["estimate"] < LEAST_SHOWN]:
                ax.annotate(
                    "closed form: 0",
                    (x - 0.42, LEAST_SHOWN),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8,
                )
            continue
        low = np.clip(own["lower"].to_numpy(), LEAST_SHOWN, None)
        high = np.clip(own["upper"].to_numpy(), LEAST_SHOWN, None)
        at = np.arange(float(len(names))) + SHIFTS[method]
        colour = COLOURS[method]
        ax.vlines(at, low, high, color=colour, lw=1.6)
        seen = value > LEAST_SHOWN
        ax.plot(at[seen], value[seen], MARKERS[method], color=colour, ms=6, label=method)
        if method == "NUTS":
            for x, top, rhat in zip(at, np.maximum(value, high), own["rhat"], strict=True):
                ax.annotate(
                    f"R-hat {rhat:.2f}",
                    (x, top),
                    xytext=(0, 9),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
        for x, top in zip(at[~seen], high[~seen], strict=True):
            ax.plot(x, top, "_", color=colour, ms=8)
            ax.plot(x, LEAST_SHOWN, "v", color=colour, ms=7, clip_on=False)
    ax.set_xticks(range(len(names)), [latent for _, latent in names])
    ax.set_xlim(-0.5, len(names) - 0.5)
    for setting in dict.fromkeys(setting for setting, _ in names):
        own = [number for number, name in enumerate(names) if name[0] == setting]
        if own[0]:
            ax.axvline(own[0] - 0.5, color="0.85", lw=0.8)
        middle = (own[0] + own[-1]) / 2
        text = setting.replace(", ", "\n")
        # Below the tick labels, in the units of the axes.
        ax.annotate(
            text,
            (middle, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -22),
            textcoords="offset points",
            ha="center",
            va="top",
        )
