# SPDX-License-Identifier: Apache-2.0
"""The posterior held against the prior, latent by latent and data point by data point."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from pyro_idvae._checks import check_count
from pyro_idvae.arviz_io import density
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError, ShapeError


def plot_prior_posterior(
    data: Any,
    *,
    var_name: str | None = None,
    num_data: int = 3,
    num_latents: int = 4,
    axes: Any = None,
) -> Any:
    """Plot posterior densities over the prior, a row for each data point, a column a latent.

    Where a posterior lies on the prior, that latent has learned nothing from that data point.

    Args:
        data: ArviZ data of ``from_guide`` or ``mcmc``; or several by name, drawn over each other.
        var_name: the latent site; the first if None.
        num_data: at most this many data points.
        num_latents: at most this many latent dimensions.
        axes: an array of matplotlib axes, rows by columns; new ones if None.

    Returns:
        The array of axes, of shape ``(data points, latents)``.

    Raises:
        ArgumentError: if there is no such latent, or no prior group.

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
    named = dict(data) if isinstance(data, dict) else {"posterior": data}
    if not named:
        raise ArgumentError("data={}: expected at least one posterior")
    sides = {label: Latents.of(value) for label, value in named.items()}
    first = next(iter(sides.values()))
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
    points = [first.point_label(i) for i in range(len(first.points))] if latent.local else None
    labels = points or ["all data"]
    prior = latent.prior.reshape(-1, *latent.prior.shape[2:])
    rows, columns = min(num_data, prior.shape[1]), min(num_latents, prior.shape[2])
    if axes is None:
        _, axes = plt.subplots(
            rows,
            columns,
            figsize=(1.2 + 2.3 * columns, 0.9 + 1.6 * rows),
            sharex="col",
            squeeze=False,
            layout="constrained",
        )
    axes = np.asarray(axes).reshape(rows, columns)
    for column in range(columns):
        # The prior is one for all data points: pooled, its density is the smoothest.
        grid, height = density(prior[:, :, column])
        for row in range(rows):
            ax = axes[row, column]
            ax.fill_between(grid, height, color="0.8", label="prior")
            for number, (label, latents) in enumerate(sides.items()):
                values = latents.sites[name].values[:, :, row, column]
                ax.plot(*density(values), color=f"C{number}", label=label)
            ax.set_yticks([])
            ax.set_ylim(bottom=0)
            for side in ("top", "right", "left"):
                ax.spines[side].set_visible(False)
            if row == rows - 1:
                ax.set_xlabel(latent.labels[column])
            if column == 0:
                ax.set_ylabel(labels[row])
    handles, texts = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].figure.legend(
        handles, texts, loc="outside upper center", ncols=len(texts), frameon=False
    )
    return axes
