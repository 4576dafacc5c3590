# SPDX-License-Identifier: Apache-2.0
"""Directions of several latents together, and what the data say of each."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from pyro_idvae._checks import check_count
from pyro_idvae.diagnostics.collapse import COLLAPSED, CollapseReport
from pyro_idvae.diagnostics.collapse.verdicts import at_most
from pyro_idvae.errors import ArgumentError
from pyro_idvae.plots.axes import check_axes

NUMBERS_UP_TO = 12
"""Latents up to which loadings are written into the cells."""


def plot_directions(report: CollapseReport, *, num_directions: int = 8, ax: Any = None) -> Any:
    """Plot the loadings of directions that the data may say nothing of.

    A row for each direction, those of which least is known on top, and a column for each latent;
    the label says at most how many nats the data tell of it. A latent can be informative and yet
    be known only in a combination with others: what is dead is then a direction off the axes.

    Args:
        report: what :func:`collapse_report` returns, of exact draws that hold such directions.
        num_directions: at most this many.
        ax: matplotlib axes; new ones if None.

    Returns:
        The axes.

    Raises:
        ArgumentError: if ``report`` is no report, or has no directions.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_idvae as idvae
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        ...         pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)
        >>> draws = idvae.mcmc(
        ...     model, 1.7 * torch.randn(20), kernel="vectorized", seed=0, progress=False
        ... )
        >>> idvae.plot_directions(idvae.collapse_report(draws)).get_xlabel()
        'loading (prior standard deviations)'
    """
    check_count("num_directions", num_directions)
    if not isinstance(report, CollapseReport):
        raise ArgumentError(
            f"report is a {type(report).__name__}: expected a CollapseReport; call "
            "collapse_report(data)"
        )
    table = report.directions.head(num_directions)
    if not len(table):
        raise ArgumentError(
            "the report has no directions: none of several latents together looked dead, or the "
            "draws are a guide's or of an older file; sample by mcmc"
        )
    labels = list(dict.fromkeys(label for row in table["loadings"] for label in row))
    loadings = np.array([[row.get(label, 0.0) for label in labels] for row in table["loadings"]])
    check_axes("ax", ax)
    if ax is None:
        size = (3.6 + 0.55 * len(labels), 1.5 + 0.42 * len(table))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    image = ax.imshow(loadings, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="loading", ticks=(-1, 0, 1))
    if len(labels) <= NUMBERS_UP_TO:
        for i, j in np.ndindex(*loadings.shape):
            colour = "white" if abs(loadings[i, j]) > 0.6 else "black"
            text = f"{loadings[i, j] + 0.0:.2f}".replace("-", "−")
            ax.text(j, i, text, ha="center", va="center", color=colour, fontsize="small")
    ax.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) <= 6 else 90)
    names = [
        f"{'nothing known: ' * (row['verdict'] == COLLAPSED)}{at_most(row['limit'])}"
        for _, row in table.iterrows()
    ]
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("loading (prior standard deviations)")
    return ax
