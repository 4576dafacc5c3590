# SPDX-License-Identifier: Apache-2.0
"""The posterior held against the prior, latent by latent and data point by data point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from pyro_idvae._checks import check_count
from pyro_idvae.diagnostics.latents import check_labels
from pyro_idvae.diagnostics.parts import Source
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.plots.axes import check_axes
from pyro_idvae.plots.marginals import (
    curve,
    draw_curve,
    draw_prior,
    finish_marginal,
    method_label,
    shown,
    support_of,
    visible,
)

Array = np.ndarray[Any, Any]

POOLED_ROWS = 200
"""Data points whose draws of the prior are enough for a smooth density; no others are read."""


def plot_prior_posterior(
    data: Any,
    *,
    var_name: str | None = None,
    num_data: int = 3,
    num_latents: int = 4,
    axes: Any = None,
) -> Any:
    """Plot posterior densities over the prior, a row for each data point, a column a latent.

    Where a posterior lies on the prior, that latent has learned nothing from that data point. A
    prior far lower than the posterior is drawn enlarged, and the panel says by how much.

    Args:
        data: ArviZ data of ``from_guide`` or ``mcmc``; or several by name, drawn over each other.
        var_name: the latent site; the first if None.
        num_data: at most this many data points.
        num_latents: at most this many latent dimensions.
        axes: an array of matplotlib axes, rows by columns; new ones if None.

    Returns:
        The array of axes, of shape ``(data points, latents)``.

    Raises:
        ArgumentError: if there is no such latent, or no prior group, or latents have coordinates
            that are called differently.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.from_guide(vae.model, vae.guide, torch.randn(3, 5), num_samples=50)
        >>> idvae.plot_prior_posterior(draws).shape
        (3, 2)
    """
    check_count("num_data", num_data)
    check_count("num_latents", num_latents)
    given = data if isinstance(data, dict) else {"": data}
    if not given:
        raise ArgumentError("data={}: expected at least one posterior")
    sources = {label: Source.of(value, "data") for label, value in given.items()}
    seen = slice(0, max(num_data, POOLED_ROWS))
    sides = {label: source.latents(seen) for label, source in sources.items()}
    first, total = next(iter(sides.values())), next(iter(sources.values())).length
    if not isinstance(data, dict):
        sides = {method_label(first): first}
    name = first.names[0] if var_name is None else var_name
    if any(name not in side.sites for side in sides.values()):
        raise ArgumentError(f"var_name={name!r}: expected one of {sorted(first.names)}")
    latent = first.sites[name]
    if latent.prior is None:
        raise ArgumentError(
            f"data has the groups {list(first.groups)}: expected prior and posterior of {name!r}"
        )
    if any(side.sites[name].values.shape[2:] != latent.values.shape[2:] for side in sides.values()):
        raise ShapeError(f"the latent {name!r} differs in shape between {list(sides)}")
    check_labels([side.sites[name] for side in sides.values()], list(sides))
    points = [first.point_label(i) for i in range(len(first.points))] if latent.local else None
    labels = points or ["all data"]
    prior = latent.prior.reshape(-1, *latent.prior.shape[2:])
    rows, columns = min(num_data, prior.shape[1]), min(num_latents, prior.shape[2])
    mine = axes is None
    if axes is None:
        _, axes = plt.subplots(
            rows,
            columns,
            figsize=(1.2 + 2.3 * columns, 0.9 + 1.6 * rows),
            sharex="col",
            squeeze=False,
            layout="constrained",
        )
    check_axes("axes", axes)
    if np.size(axes) != rows * columns:
        raise ShapeError(f"axes has {np.size(axes)} axes: expected {rows} by {columns}")
    axes = np.asarray(axes).reshape(rows, columns)
    for column, line in enumerate(axes.T):
        posteriors = {
            label: side.sites[name].values[:, :, :rows, column] for label, side in sides.items()
        }
        # The prior is one for all data points: pooled, its density is smoother.
        _draw_column(line, prior[:, :, column], posteriors)
        line[-1].set_xlabel(latent.labels[column])
    for ax, text in zip(axes[:, 0], labels, strict=False):
        ax.set_ylabel(text)
    left_out = [shown(columns, prior.shape[2], "latents")]
    if latent.local:
        left_out.insert(0, shown(rows, total, "data points"))
    _explain(axes, "\n".join(note for note in left_out if note), mine=mine)
    return axes


def _draw_column(axes: Any, prior: Array, posteriors: Mapping[str, Array]) -> None:
    """Draw one latent, a panel for each data point: draws (chain, draw, N) by label."""
    support = support_of(prior, list(posteriors.values()))
    grid, height = curve(prior, support)
    ends, tallest = [*visible(grid, height)], []
    for row, ax in enumerate(axes):
        drawn = [
            draw_curve(ax, values[:, :, row], support, color=f"C{number}", label=label)
            for number, (label, values) in enumerate(posteriors.items())
        ]
        ends += [end for low, high, _ in drawn for end in (low, high)]
        tallest.append(max(top for *_, top in drawn))
    for ax, top in zip(axes, tallest, strict=True):
        draw_prior(ax, (grid, height), (min(ends), max(ends)), top)
        ax.set_xlim(min(ends), max(ends))
        finish_marginal(ax)


def _explain(axes: Any, title: str, *, mine: bool) -> None:
    """Add one legend: over a figure of our own, in a panel of others' axes."""
    handles, texts = axes[0, -1].get_legend_handles_labels()
    order = sorted(range(len(texts)), key=lambda i: texts[i] != "prior")
    options: dict[str, Any] = {
        "handles": [handles[i] for i in order],
        "labels": [texts[i] for i in order],
        "title": title or None,
        "frameon": False,
    }
    if mine:
        axes[0, 0].figure.legend(loc="outside upper center", ncols=len(texts), **options)
    else:
        axes[0, -1].legend(
            loc="best", fontsize="small", title_fontsize="small", handlelength=1.2, **options
        )
