# SPDX-License-Identifier: Apache-2.0
"""How far each latent's posterior is from its prior, with limits."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from pyro_idvae.diagnostics.collapse import CollapseReport
from pyro_idvae.errors import ArgumentError
from pyro_idvae.plots.axes import check_axes

COLOURS = {"collapsed": "C3", "informative": "C0", "joint": "C1", "undecided": "0.55"}


def plot_collapse(report: CollapseReport, *, ax: Any = None) -> Any:
    """Plot the KL to the prior of each latent with its limits, and ε.

    The axis is linear up to ε and logarithmic beyond. A thick bar holds the limits of the KL that
    was fitted to the draws; a thin line ends in a stroke at the limit that decides: left of ε, the
    latent has collapsed. The diamond on top is all latents together.

    Args:
        report: what :func:`collapse_report` returns.
        ax: matplotlib axes; new ones if None.

    Returns:
        The axes.

    Raises:
        ArgumentError: if ``report`` is no report.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.from_guide(vae.model, vae.guide, torch.randn(3, 5), num_samples=100)
        >>> idvae.plot_collapse(idvae.collapse_report(draws)).get_xlabel()
        'divergence from the prior (nats)'
    """
    if not isinstance(report, CollapseReport):
        raise ArgumentError(
            f"report is a {type(report).__name__}: expected a CollapseReport; call "
            "collapse_report(data)"
        )
    table, vector = report.table, report.vector
    rows = len(table) + 1
    check_axes("ax", ax)
    if ax is None:
        _, ax = plt.subplots(figsize=(7.6, 1.3 + 0.26 * rows), layout="constrained")
    values = np.append(vector["estimate"], table["kl"])
    lower = np.append(vector["lower"], table["kl_lower"])
    upper = np.append(vector["upper"], table["kl_upper"])
    limit = np.append(vector["upper"], table["limit"])
    verdicts = np.append(vector["verdict"], table["verdict"])
    finite = np.concatenate([upper, limit])
    finite = finite[np.isfinite(finite)]
    edge = 2.0 * max(finite.max(initial=0.0), report.epsilon)
    heights = np.arange(rows)
    for verdict, colour in COLOURS.items():
        chosen = verdicts == verdict
        if not chosen.any():
            continue
        # An infinite divergence runs out of the picture.
        low, high = np.minimum(lower[chosen], edge), np.minimum(upper[chosen], edge)
        ax.hlines(heights[chosen], low, high, color=colour, lw=2.6, label=verdict)
        ax.hlines(heights[chosen], low, np.minimum(limit[chosen], edge), color=colour, lw=0.9)
        ax.plot(limit[chosen], heights[chosen], "|", color=colour, ms=8)
        centres = np.clip(values[chosen], 0.0, edge)
        for vectorial, marker, size in ((True, "D", 6), (False, "o", 5)):
            own = (heights[chosen] == 0) == vectorial
            ax.plot(
                centres[own], heights[chosen][own], marker, color=colour, ms=size, clip_on=False
            )
    ax.axvline(report.epsilon, color="0.2", ls="--", lw=1, label=f"ε = {report.epsilon:g}")
    ax.axhline(0.5, color="0.85", lw=0.8)
    ax.set_xscale("symlog", linthresh=report.epsilon, linscale=1.0)
    ax.set_xlim(0.0, edge)
    steps = (1,) if edge > 100 * report.epsilon else (1, 2, 5)
    decades = [step * 10.0**k for k in range(-9, 9) for step in steps]
    ticks = [0.0, *(tick for tick in decades if report.epsilon < tick < edge)]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_yticks(heights, [f"all, {vector['quantity']}", *map(str, table.index)])
    ax.set_ylim(rows - 0.4, -0.6)
    ax.set_xlabel("divergence from the prior (nats)")
    ax.spines[["top", "right"]].set_visible(False)
    handles, _ = ax.get_legend_handles_labels()
    handles.append(Line2D([], [], color="0.4", marker="|", lw=0.9, label="limit that decides"))
    # Beside the axes, where neither an interval nor a title can be.
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return ax
