# SPDX-License-Identifier: Apache-2.0
"""The posterior held against the prior, latent by latent and data point by data point."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from pyro_idvae._checks import check_count
from pyro_idvae.arviz_io import density, groups_of
from pyro_idvae.errors import ArgumentError


def _select(array: Any, num_data: int, num_latents: int) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Return draws of shape (draws, rows, latents) and labels of the rows."""
    values = np.asarray(array.values)
    values = values.reshape(-1, *values.shape[2:])
    if "data" in array.dims:
        values = np.moveaxis(values, array.dims.index("data") - 1, 1)
        labels = [
            label if isinstance(label, str) else f"data {label}" for label in array["data"].values
        ]
    else:
        values, labels = values[:, None], ["all data"]
    values = values.reshape(len(values), values.shape[1], -1)
    return values[:, :num_data, :num_latents], labels[:num_data]


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
    groups = {name: groups_of(value) for name, value in named.items()}
    first = next(iter(groups.values()))
    if "prior" not in first or "posterior" not in first:
        raise ArgumentError(f"data has the groups {sorted(first)}: expected prior and posterior")
    name = var_name or next(iter(first["posterior"].data_vars))
    if any(name not in group["posterior"] for group in groups.values()):
        raise ArgumentError(
            f"var_name={name!r}: expected one of {sorted(map(str, first['posterior'].data_vars))}"
        )
    prior, labels = _select(first["prior"][name], num_data, num_latents)
    rows, columns = prior.shape[1:]
    scalar = not set(first["prior"][name].dims) - {"chain", "draw", "data"}
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
            for number, (label, group) in enumerate(groups.items()):
                values, _ = _select(group["posterior"][name], num_data, num_latents)
                ax.plot(*density(values[:, row, column]), color=f"C{number}", label=label)
            ax.set_yticks([])
            ax.set_ylim(bottom=0)
            for side in ("top", "right", "left"):
                ax.spines[side].set_visible(False)
            if row == rows - 1:
                ax.set_xlabel(name if scalar else f"{name}[{column}]")
            if column == 0:
                ax.set_ylabel(labels[row])
    handles, texts = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].figure.legend(
        handles, texts, loc="outside upper center", ncols=len(texts), frameon=False
    )
    return axes
