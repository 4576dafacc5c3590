# SPDX-License-Identifier: Apache-2.0
"""The likelihood as a function of the latents: flat means unidentifiable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pyro_idvae._checks import check_count
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.side_by_side import densities_of

LEAST_RANGE = 1.0
"""Nats the scale spans at least, so that rounding noise does not look like a landscape."""


def plot_likelihood_surface(
    model: Program,
    data: Any,
    *,
    site: str | None = None,
    row: int = 0,
    dims: Sequence[int] = (0, 1),
    limits: tuple[float, float] = (-3.0, 3.0),
    num_points: int = 41,
    at: Mapping[str, Tensor] | None = None,
    ax: Any = None,
) -> Any:
    """Plot log p(x|z) over one or two latent dimensions, the others held fixed.

    By Bayes' rule the posterior is the prior exactly where this surface is flat. The scale spans at
    least one nat. For a latent of a data plate the log-likelihood is that of the one row; for a
    global latent it is that of all data.

    Args:
        model: the model, any callable.
        data: a Tensor, or a tuple or dict of the model's arguments.
        site: the latent site; the first if None.
        row: the data point, for a latent in the data plate.
        dims: one or two dimensions of the latent; a scalar latent has just 0.
        limits: the least and greatest value of both.
        num_points: points along each.
        at: values of the latents where they are held, by site; prior draws if None, with this
            site's other dimensions at 0.
        ax: matplotlib axes; new ones if None.

    Returns:
        The axes.

    Raises:
        ArgumentError: for a site, row or dimension that the model does not have.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> ax = idvae.plot_likelihood_surface(vae.model, torch.randn(3, 5), num_points=5)
        >>> ax.get_xlabel()
        'latent[0]'
    """
    check_count("num_points", num_points, minimum=2)
    if not limits[0] < limits[1]:
        raise ArgumentError(f"limits={limits!r}: expected the least value before the greatest")
    bound = BoundModel(model, None, as_arguments(data))
    name = bound.latents[0] if site is None and bound.latents else site
    if name not in bound.latents:
        raise ArgumentError(f"site={site!r}: expected one of the latent sites {bound.latents}")
    value, place = _slice(bound, name, row)
    size = value[place].numel()
    wanted = tuple(dims)[: min(size, 2)]
    if len(set(wanted)) != len(wanted) or any(not 0 <= d < size for d in wanted):
        raise ArgumentError(f"dims={tuple(dims)!r}: the site {name!r} has {size} dimensions")
    grid = torch.linspace(*limits, num_points).to(value)
    surface = _evaluate(bound, name, place=place, dims=wanted, grid=grid, row=row, at=at)
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 4.0), layout="constrained")
    height = surface - surface.max()
    low = min(float(height.min()), -LEAST_RANGE)
    labels = [f"{name}[{d}]" if size > 1 else name for d in wanted]
    text = f"log p(x | {name}) − its maximum (nats)"
    if len(wanted) == 1:
        ax.plot(grid, height)
        ax.set_ylim(1.08 * low, -0.08 * low)
        ax.set_ylabel(text)
    else:
        levels = [level for level in MaxNLocator(12).tick_values(low, 0.0) if level <= 0]
        image = ax.contourf(grid, grid, height.T, levels=levels, cmap="viridis")
        ax.figure.colorbar(image, ax=ax, label=text)
        ax.set_ylabel(labels[1])
    ax.set_xlabel(labels[0])
    return ax


def _slice(bound: BoundModel, name: str, row: int) -> tuple[Tensor, tuple[Any, ...]]:
    """Return a value of the site and the index of the one row in it (of all, if global)."""
    value: Tensor = bound.trace.nodes[name]["value"]
    position = bound.row_place(name)
    if position is None:
        return value, (...,)
    if not -bound.rows <= row < bound.rows:
        raise ArgumentError(f"row={row}: data has {bound.rows} rows")
    return value, (*[slice(None)] * position, row)


@torch.no_grad()
def _evaluate(
    bound: BoundModel,
    name: str,
    *,
    place: tuple[Any, ...],
    dims: tuple[int, ...],
    grid: Tensor,
    row: int,
    at: Mapping[str, Tensor] | None,
) -> np.ndarray[Any, Any]:
    """Return log p(x|z) on the grid, of one dimension or two."""
    with bound.running():
        base = {**bound.run_prior()[0], **(at or {})}
    value = base[name].clone()
    part = value[place].reshape(-1).clone()
    if at is None or name not in at:
        part.zero_()
    shape, values = value[place].shape, []
    for index in np.ndindex(*[len(grid)] * len(dims)):
        for d, i in zip(dims, index, strict=True):
            part[d] = grid[i]
        value[place] = part.reshape(shape)
        values.append(value.clone())
    count = len(values)
    others = {n: v.expand(count, *v.shape) for n, v in base.items()}
    likelihood = densities_of(bound, {**others, name: torch.stack(values)}).likelihood
    per_row = place != (...,)
    terms = [
        v[:, row] if per_row and v.dim() > 1 else v.reshape(count, -1).sum(1)
        for v in likelihood.values()
    ]
    surface: np.ndarray[Any, Any] = torch.stack(terms).sum(0).cpu().numpy()
    return surface.reshape([len(grid)] * len(dims))
