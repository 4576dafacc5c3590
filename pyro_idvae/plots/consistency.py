# SPDX-License-Identifier: Apache-2.0
"""How far the latents of several runs agree, and which latent of one is which of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from pyro_idvae._checks import check_list
from pyro_idvae.diagnostics.consistency import Consistency
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.plots.axes import check_axes

LABELS = {
    "mcc": "MCC",
    "r2_permutation": "R², permutation\nand scales",
    "r2_orthogonal": "R², rotation",
    "r2_affine": "R², affine map",
}
LEGEND = (
    "a pair of runs",
    "their mean, with its limits",
    "maps judged on rows they were fitted to",
    "the same, of shuffled rows",
)
NUMBERS_UP_TO = 10
"""Latents up to which correlations are written into the cells."""
LABELS_UP_TO = 24
"""Latents up to which each one's name is written."""


def plot_consistency(report: Consistency, *, pair: Any = None, axes: Any = None) -> Any:
    """Plot how far runs agree up to each class of maps, and the correlations of one pair of runs.

    On the left a row for each measure: the mean with its limits, below it a dot for each pair of
    runs; they lie around 0 for runs that have nothing to do with each other. The open diamond above
    is the mean of maps judged on the rows they were fitted to, the stroke what that would be by
    chance.

    On the right the absolute correlations of two runs' latents, partners on the diagonal: one cell
    in each row and column for latents that are the same but for order, sign and scale. Latents
    without variance are left out.

    Args:
        report: what :func:`~pyro_idvae.diagnostics.consistency` returns.
        pair: names of the two runs on the right, two of ``report.runs``; the first two if None.
        axes: two matplotlib axes; new ones if None.

    Returns:
        The array of both axes.

    Raises:
        ArgumentError: if ``report`` is none, or ``pair`` not of its runs.
        ShapeError: for another number of axes.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> z = torch.randn(100, 2)
        >>> found = idvae.consistency([z, z + 0.3 * torch.randn(100, 2)])
        >>> idvae.plot_consistency(found)[0].get_xlabel()
        'agreement, without what fits gain by chance'
    """
    if not isinstance(report, Consistency):
        raise ArgumentError(
            f"report is a {type(report).__name__}: expected a Consistency; call consistency(runs)"
        )
    first, second = _pair(report, pair)
    check_axes("axes", axes)
    if axes is None:
        _, axes = plt.subplots(
            1, 2, figsize=(10.6, 4.4), width_ratios=(1.4, 1.0), layout="constrained"
        )
    axes = np.ravel(np.asarray(axes, dtype=object))
    if axes.size != 2:
        raise ShapeError(f"axes has {axes.size} axes: expected 2")
    _draw_measures(axes[0], report)
    _draw_correlations(axes[1], report, first, second)
    return axes


def _pair(report: Consistency, pair: Any) -> tuple[str, str]:
    given = report.runs[:2] if pair is None else check_list("pair", pair, "names of two runs")
    if len(given) != 2 or given[0] == given[1] or any(one not in report.runs for one in given):
        raise ArgumentError(f"pair={pair!r}: expected two of {list(report.runs)}")
    return given[0], given[1]


def _draw_measures(ax: Any, report: Consistency) -> None:
    table, pairs = report.table, report.pairs
    for place, measure in enumerate(table.index):
        mean, lower, upper = table.loc[measure, ["mean", "lower", "upper"]]
        labels: Sequence[str | None] = LEGEND if place == 0 else (None,) * len(LEGEND)
        values = pairs[measure].to_numpy()
        ax.plot(
            values,
            np.full(len(values), place + 0.22),
            "o",
            color="C0",
            alpha=0.45,
            ms=4,
            mew=0,
            label=labels[0],
        )
        ax.hlines(place, lower, upper, color="C0", lw=2.6)
        ax.plot(
            mean,
            place,
            "o",
            color="C0",
            ms=6,
            label=labels[1],
        )
        row = table.loc[measure]
        ax.plot(
            row["in_sample"],
            place - 0.22,
            "D",
            mfc="none",
            color="0.35",
            ms=5,
            label=labels[2],
        )
        ax.plot(
            row["by_chance"],
            place - 0.22,
            "|",
            color="0.35",
            ms=10,
            mew=1.6,
            label=labels[3],
        )
    ax.axvline(0.0, color="0.85", lw=0.8, zorder=0)
    least = np.nanmin([pairs[list(table.index)].to_numpy().min(), 0.0])
    ax.set_xlim(least - 0.03, 1.03)
    ax.set_yticks(range(len(table)), [LABELS[name] for name in table.index])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel("agreement, without what fits gain by chance")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.42, 1.0),
        ncols=2,
        columnspacing=1.2,
        handletextpad=0.4,
        frameon=False,
        fontsize="small",
    )


def _draw_correlations(ax: Any, report: Consistency, first: str, second: str) -> None:
    table = report.correlations.get((first, second))
    if table is None:
        table = report.correlations[(second, first)].T
    if not table.size:
        ax.set_axis_off()
        ax.text(
            0.5, 0.5, "no latent with variance", ha="center", va="center", transform=ax.transAxes
        )
        return
    values = table.abs().to_numpy()
    image = ax.imshow(values, cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal")
    ax.figure.colorbar(image, ax=ax, label="|correlation|", ticks=(0, 0.5, 1), shrink=0.8)
    if max(values.shape) <= NUMBERS_UP_TO:
        for i, j in np.ndindex(*values.shape):
            colour, text = "white" if values[i, j] > 0.6 else "black", f"{values[i, j]:.2f}"
            ax.text(j, i, text, ha="center", va="center", color=colour, fontsize="small")
    for axis, labels in ((ax.yaxis, table.index), (ax.xaxis, table.columns)):
        if len(labels) <= LABELS_UP_TO:
            axis.set_ticks(range(len(labels)), list(labels))
        else:
            axis.set_ticks([])
    if len(table.columns) > 4:
        ax.tick_params(axis="x", labelrotation=90)
    ax.set_ylabel(f"latents of {first}")
    ax.set_xlabel(f"latents of {second}, partners on the diagonal")
