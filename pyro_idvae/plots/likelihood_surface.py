# SPDX-License-Identifier: Apache-2.0
"""The likelihood as a function of the latents: flat means unidentifiable."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from pyro_idvae._checks import check_count, check_list
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.plots.axes import check_axes
from pyro_idvae.plots.slices import Slice, mesh, refined, smooth
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.door import open_model
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.unchanged import unchanged

Array = np.ndarray[Any, Any]

LEVELS = (-20.0, -10.0, -5.0, -2.0, -1.0, 0.0)
"""Nats below the maximum. The same in every picture: what is flat within a nat has one colour."""
DEPTH = -LEVELS[0]
LEAST_RANGE = -LEVELS[-2]
"""Nats that the axis of a line spans at least, so that rounding noise is no landscape."""
PRIOR_LEVELS = (-4.5, -2.0, -0.5)
"""Nats below the prior's maximum: 3, 2 and 1 standard deviations of a Normal one."""
PRIOR_COLOUR = "C1"
LOWER = "0.93"
CHARACTERS_AN_INCH = 17.0


@unchanged()
def plot_likelihood_surface(
    model: Program,
    data: Any,
    *,
    site: str | Sequence[str] | None = None,
    row: int = 0,
    dims: Sequence[int] | None = None,
    limits: tuple[Any, Any] = (-3.0, 3.0),
    num_points: int = 41,
    at: Mapping[str, Tensor] | None = None,
    ax: Any = None,
) -> Any:
    """Plot log p(x|z) over one or two latent numbers, and their prior; the others are held.

    By Bayes' rule the posterior is the prior exactly where this surface is flat. Shown are the last
    20 nats below the maximum, in bands at 1, 2, 5, 10 and 20 that are the same in every picture: a
    surface that varies by less than a nat has one colour. All that is lower is grey. Dashed lines
    are the prior ½, 2 and 4½ nats below its own maximum, of a Normal one 1, 2 and 3 standard
    deviations. The title says what is held, and where.

    For latents of a data plate the log-likelihood is that of the one row; if a global latent moves,
    it is that of all data.

    Args:
        model: the model, any callable.
        data: a Tensor, or a tuple or dict of the model's arguments.
        site: the latent site, or two of them, of which one number each moves; the first if None.
        row: the data point, for a latent in the data plate.
        dims: one or two dimensions of one site, or one of each of two sites; the first if None.
        limits: the least and greatest value of both, or such a pair for each.
        num_points: points along each; around a narrow peak the grid is four times finer.
        at: values of the latents where they are held, by site; prior draws if None, with the other
            dimensions of what moves at 0.
        ax: matplotlib axes; new ones if None.

    Returns:
        The axes.

    Raises:
        ArgumentError: for a site, row or dimension that the model does not have.
        DataError: if the likelihood is finite nowhere within the limits.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> ax = idvae.plot_likelihood_surface(vae.model, torch.randn(3, 5), num_points=5)
        >>> ax.get_xlabel()
        'latent[0]'
    """
    check_count("num_points", num_points, minimum=2)
    bound = open_model(model, as_arguments(data))
    sites = _sites(bound, site)
    moving = Slice(bound, sites, dims=dims, row=row, at=at)
    ends = _ends(limits, len(moving.coordinates))
    grids = [np.linspace(low, high, num_points) for low, high in ends]
    height, prior = (
        found.reshape([num_points] * len(grids)) for found in moving.densities(mesh(grids))
    )
    if not np.isfinite(height).any():
        raise DataError(f"log p(x|z) is finite nowhere within limits={limits!r}")
    check_axes("ax", ax)
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
    fine, height = refined(lambda z: moving.densities(z)[0], grids, height, depth=DEPTH)
    fine, height = smooth(fine, height - height.max())
    has_prior = bool(np.isfinite(prior).any() and np.ptp(prior[np.isfinite(prior)]) > 0)
    prior = prior - prior.max() if has_prior else prior
    text = f"log p(x | {', '.join(dict.fromkeys(sites))}) − its maximum (nats)"
    if len(grids) == 1:
        _draw_line(ax, (fine[0], height), (grids[0], prior) if has_prior else None)
        ax.set_ylabel(text)
    else:
        _draw_bands(ax, fine, height, text)
        if has_prior:
            _draw_contours(ax, *smooth(grids, prior))
        ax.set_ylabel(moving.coordinates[1].label)
    ax.set_xlabel(moving.coordinates[0].label)
    _caption(ax, [moving.held(), _of_prior(len(grids), has_prior)])
    return ax


def _sites(bound: BoundModel, site: str | Sequence[str] | None) -> list[str]:
    if site is None:
        site = bound.latents[:1]
    sites = [site] if isinstance(site, str) else check_list("site", site, "names of sites")
    if not 1 <= len(sites) <= 2 or len(set(sites)) < len(sites) or set(sites) - {*bound.latents}:
        raise ArgumentError(
            f"site={site!r}: expected one or two of the latent sites {bound.latents}"
        )
    return sites


def _ends(limits: Any, count: int) -> Array:
    """Return the least and greatest value of each coordinate, of shape (count, 2)."""
    try:
        ends = np.broadcast_to(np.asarray(limits, dtype=float), (count, 2))
    except (TypeError, ValueError):
        ends = np.zeros((1, 2))
    if not (ends[:, 0] < ends[:, 1]).all():
        raise ArgumentError(
            f"limits={limits!r}: expected the least value before the greatest, or such a pair for "
            "each of two numbers"
        )
    return ends


def _draw_line(ax: Any, likelihood: tuple[Array, Array], prior: tuple[Array, Array] | None) -> None:
    ax.plot(*likelihood)
    lowest = likelihood[1].min()
    if prior is not None:
        ax.plot(*prior, ls="--", color=PRIOR_COLOUR)
        lowest = min(lowest, prior[1].min())
    depth = np.clip(-lowest, LEAST_RANGE, DEPTH)
    ax.set_ylim(-1.08 * depth, 0.08 * depth)


def _draw_bands(ax: Any, grids: Sequence[Array], height: Array, text: str) -> None:
    colours = [LOWER, *mpl.colormaps["Blues"](np.linspace(0.15, 0.85, len(LEVELS) - 1))]
    # No density at all has no height that could be drawn.
    drawn = np.maximum(height, 50 * LEVELS[0]).T
    bands = ax.contourf(*grids, drawn, levels=LEVELS, colors=colours, extend="min")
    bar = ax.figure.colorbar(
        bands, ax=ax, spacing="uniform", label=f"{text}\ngrey: below −{DEPTH:g}"
    )
    bar.set_ticks(LEVELS, labels=[f"{level:g}".replace("-", "−") for level in LEVELS])


def _draw_contours(ax: Any, grids: Sequence[Array], prior: Array) -> None:
    lowest = prior[np.isfinite(prior)].min()
    levels = [level for level in PRIOR_LEVELS if level > lowest]
    if levels:
        ax.contour(
            *grids,
            np.maximum(prior, 50 * PRIOR_LEVELS[0]).T,
            levels=levels,
            colors=PRIOR_COLOUR,
            linestyles="--",
            linewidths=1.2,
        )


def _of_prior(count: int, has_prior: bool) -> str:
    if not has_prior:
        return "the prior is flat here"
    if count == 1:
        return "dashed: log prior − its maximum"
    return "dashed: the prior, ½, 2 and 4½ nats below its maximum"


def _caption(ax: Any, lines: Sequence[str]) -> None:
    """Write lines over the axes, under a title that is there."""
    inches = ax.get_position().width * ax.figure.get_size_inches()[0]
    width = max(24, int(CHARACTERS_AN_INCH * inches))
    wrapped = [part for line in lines for part in textwrap.wrap(line, width)]
    ax.set_title("\n".join(filter(None, [ax.get_title(), *wrapped])), fontsize="small")
