# SPDX-License-Identifier: Apache-2.0
"""How far ranks are from uniform ones, in the band that chance stays in."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from pyro_idvae.diagnostics.calibration import Calibration
from pyro_idvae.errors import ArgumentError
from pyro_idvae.plots.axes import check_axes

MOST_NAMED = 10
"""Quantities that get a colour: those of the smallest p-values."""


def plot_calibration(calibration: Calibration, *, ax: Any = None) -> Any:
    """Plot the difference of each quantity's ranks from uniform ones.

    A line is the share of truths below that many of their draws, minus what it would be. Chance
    leaves the grey band with any of the lines at most as often as the calibration's level says.
    Lines above it on the left and below on the right belong to draws that are too narrow, the
    reverse to too wide ones; lines on one side to draws that are too high (above) or too low.
    Quantities that are rejected have colours, the others are grey.

    Args:
        calibration: what :func:`~pyro_idvae.diagnostics.calibrate` returns.
        ax: matplotlib axes; new ones if None.

    Returns:
        The axes.

    Raises:
        ArgumentError: if ``calibration`` is none.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> guide = idvae.AutoInjectiveLaplace(vae.model)
        >>> found = idvae.calibrate(vae.model, torch.zeros(3, 5), guide=guide, num_replications=100)
        >>> idvae.plot_calibration(found).get_ylabel()
        'share of truths below, minus uniform'
    """
    if not isinstance(calibration, Calibration):
        raise ArgumentError(
            f"calibration is a {type(calibration).__name__}: expected a Calibration; call "
            "calibrate(model, x, guide=guide)"
        )
    check_axes("ax", ax)
    if ax is None:
        _, ax = plt.subplots(figsize=(7.4, 4.0), layout="constrained")
    number, draws = calibration.num_replications, calibration.num_draws
    band = calibration.band()
    # Both ends are 0: no truth is below none of its draws, all are below one draw more than all.
    share = np.arange(draws + 2) / (draws + 1)

    def difference(counts: Any) -> Any:
        return np.concatenate([[0.0], counts / number - share[1:-1], [0.0]])

    chance = f"chance ({100 * (1 - calibration.level):g} %, all quantities)"
    ax.fill_between(
        share,
        difference(band.lower),
        difference(band.upper),
        color="0.88",
        lw=0,
        step="mid",
        label=chance,
    )
    table = calibration.table.reset_index()
    wrong = table.index[table["p_adjusted"] <= calibration.level]
    named = list(table.loc[wrong].sort_values("p", kind="stable").index[:MOST_NAMED])
    others = [place for place in table.index if place not in named]
    counts = calibration.counts()
    for rank, place in enumerate(others):
        label = ("other quantities" if named else "quantities") if rank == 0 else None
        ax.plot(share, difference(counts[place]), color="0.45", lw=0.8, label=label)
    for colour, place in enumerate(named):
        name, departure = table.loc[place, ["quantity", "departure"]]
        label = f"{name}: {departure}"
        ax.plot(share, difference(counts[place]), color=f"C{colour}", lw=1.6, label=label)
    ax.axhline(0.0, color="0.2", lw=0.6)
    ax.set_xlim(0.0, 1.0)
    ax.set_xlabel(f"share of the {draws} draws")
    ax.set_ylabel("share of truths below, minus uniform")
    ax.set_title(f"{calibration.method}: {calibration.verdict}", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    # Beside the axes, where no line is.
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return ax
