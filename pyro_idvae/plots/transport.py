# SPDX-License-Identifier: Apache-2.0
"""What the three maps of an injection do to a grid of latent values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from pyro_idvae._checks import check_count, check_interval, check_list
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.plots.axes import check_axes
from pyro_idvae.transforms import BrenierInjection
from pyro_idvae.transforms.bounds import weights_not_finite

Array = np.ndarray[Any, Any]

POINTS_ON_A_LINE = 101
TITLES = ("z", "g₁(z)", "β g₁(z)", "f(z) = g₂(β g₁(z))")
COLORMAPS = ("winter", "autumn")
COLORMAP = "viridis"


class _Panel(NamedTuple):
    """Lines of shape (lines, points, 1 or 2) and the names of their axes."""

    lines: Array
    axis_names: list[str]


def plot_transport(
    injection: BrenierInjection,
    *,
    limits: tuple[float, float] = (-2.5, 2.5),
    num_lines: int = 13,
    dims: Sequence[int] = (0, 1),
    axes: Any = None,
) -> Any:
    """Plot a grid of the latent plane as g1, β and g2 of an injection move it.

    Four panels: z, g1(z), β g1(z) and f(z) = g2(β g1(z)). Lines on which a coordinate of z is
    constant have the colour of its value. With one latent dimension it is one line, coloured by z.
    Of more than two latent dimensions the plane of two is shown, the others 0, and g1(z) in the
    same two coordinates. Data of more than two dimensions are projected, in both of their panels,
    on the first two principal axes of the shown points f(z).

    Args:
        injection: a :class:`~pyro_idvae.transforms.BrenierInjection`, e.g.
            ``likelihood.injection``.
        limits: least and greatest value of the grid.
        num_lines: lines in each direction; for one latent dimension, dots on the line.
        dims: one or two latent dimensions; of a one-dimensional latent there is just 0.
        axes: four matplotlib axes; new ones if None.

    Returns:
        The array of four axes.

    Raises:
        ArgumentError: for another kind of map, one whose values on the grid are not finite, or
            arguments out of range.
        ShapeError: if ``axes`` are not four.

    Example:
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.transforms import brenier_injection
        >>> axes = idvae.plot_transport(brenier_injection(2, 5, hidden_dims=[16]), num_lines=5)
        >>> [ax.get_title() for ax in axes[:2]]
        ['z', 'g₁(z)']
    """
    if not isinstance(injection, BrenierInjection):
        raise ArgumentError(
            f"injection is a {type(injection).__name__}: expected a BrenierInjection, e.g. "
            "likelihood.injection"
        )
    check_axes("axes", axes)
    low, high = check_interval("limits", limits)
    check_count("num_lines", num_lines, minimum=2)
    size = injection.latent_dim
    shown = tuple(check_list("dims", dims, "one or two dimensions"))[: min(size, 2)]
    if not shown or len(set(shown)) != len(shown) or any(not 0 <= d < size for d in shown):
        raise ArgumentError(f"dims={tuple(dims)!r}: expected one or two of {size} dimensions")
    if axes is None:
        figure = plt.figure(figsize=(14.0, 3.5), layout=ConstrainedLayoutEngine(w_pad=0.08))
        axes = figure.subplots(1, len(TITLES))
    axes = np.asarray(axes).reshape(-1)
    if axes.size != len(TITLES):
        raise ShapeError(f"axes has {axes.size} axes: expected {len(TITLES)}")
    ticks = np.linspace(low, high, num_lines)
    panels = _panels(injection, _grid(ticks, len(shown)), shown)
    norm = Normalize(low, high)
    for ax, title, panel in zip(axes, TITLES, panels, strict=True):
        if len(shown) == 1:
            _draw_line(ax, panel, ticks, norm)
        else:
            for direction in (0, 1):
                lines = panel.lines[direction * num_lines : (direction + 1) * num_lines]
                ax.add_collection(
                    LineCollection(
                        list(lines), array=ticks, cmap=COLORMAPS[direction], norm=norm, lw=1.1
                    )
                )
        _label(ax, title, panel)
    if size > len(shown):
        axes[0].set_title("z (other dimensions 0)")
    for place in reversed(range(len(shown))):
        name = "z" if size == 1 else f"z[{shown[place]}]"
        label = name if len(shown) == 1 else f"lines of constant {name}"
        colors = ScalarMappable(norm, COLORMAP if len(shown) == 1 else COLORMAPS[place])
        axes[-1].figure.colorbar(colors, ax=list(axes), label=label, pad=0.01, aspect=30)
    return axes


def _grid(ticks: Array, count: int) -> Array:
    """Return points of shape (lines, points, count): one line, or a net of twice ``len(ticks)``."""
    along = np.linspace(ticks[0], ticks[-1], POINTS_ON_A_LINE)
    if count == 1:
        return along[None, :, None]
    fixed, moving = np.meshgrid(ticks, along, indexing="ij")
    return np.concatenate([np.stack([fixed, moving], -1), np.stack([moving, fixed], -1)])


@torch.no_grad()
def _panels(injection: BrenierInjection, grid: Array, dims: tuple[int, ...]) -> list[_Panel]:
    like = next(injection.parameters())
    z = like.new_zeros(*grid.shape[:-1], injection.latent_dim)
    z[..., list(dims)] = torch.as_tensor(grid).to(like)
    inner = injection.g1(z)
    middle = injection.beta(inner)
    stages = [_array(value) for value in (z, inner, middle, injection.g2(middle))]
    if not all(np.isfinite(stage).all() for stage in stages):
        broken = weights_not_finite(injection)
        raise ArgumentError(
            f"injection has weights {broken} that are not finite: restore those of before training "
            "diverged, e.g. from a checkpoint"
            if broken
            else "injection overflows on the grid: take smaller limits, or double precision"
        )
    panels = []
    for name, value in (("z", stages[0]), ("g₁(z)", stages[1])):
        names = [name if injection.latent_dim == 1 else f"{name}[{d}]" for d in dims]
        panels.append(_Panel(value[..., list(dims)], names))
    size = injection.data_dim
    if size <= 2:
        names = ["data" if size == 1 else f"data[{d}]" for d in range(size)]
        return panels + [_Panel(value, names) for value in stages[2:]]
    principal, shares = _principal_axes(stages[3], grid[..., 0])
    names = [f"principal axis {i + 1} of f(z)" for i in range(2)]
    panels.append(_Panel(stages[2] @ principal, names))
    final = [f"{name} ({share:.0%})" for name, share in zip(names, shares, strict=True)]
    return [*panels, _Panel(stages[3] @ principal, final)]


def _array(value: Tensor) -> Array:
    return value.cpu().double().numpy()


def _principal_axes(points: Array, latent: Array) -> tuple[Array, Array]:
    """Return two axes as columns and their shares of the variance, the first rising with z."""
    flat = points.reshape(-1, points.shape[-1])
    centred = flat - flat.mean(0)
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    principal = rows[:2].T
    # An axis has no sign of its own: let the picture run as the latent does.
    rising = (centred @ principal * (latent.reshape(-1, 1) - latent.mean())).sum(0)
    return principal * np.where(rising < 0, -1.0, 1.0), sizes[:2] ** 2 / (sizes**2).sum()


def _draw_line(ax: Any, panel: _Panel, ticks: Array, norm: Normalize) -> None:
    """Draw the one line, coloured by z, with dots at equal steps of z."""
    points = panel.lines[0]
    flat = points if points.shape[-1] == 2 else np.c_[points[:, 0], np.zeros(len(points))]
    z = np.linspace(ticks[0], ticks[-1], len(flat))
    segments = np.stack([flat[:-1], flat[1:]], 1)
    middle = 0.5 * (z[1:] + z[:-1])
    ax.add_collection(LineCollection(list(segments), array=middle, cmap=COLORMAP, norm=norm))
    dots = np.stack([np.interp(ticks, z, flat[:, i]) for i in (0, 1)])
    ax.scatter(*dots, c=ticks, cmap=COLORMAP, norm=norm, s=14, zorder=3)


def _label(ax: Any, title: str, panel: _Panel) -> None:
    ax.set_title(title)
    ax.set_xlabel(panel.axis_names[0])
    if len(panel.axis_names) == 2:
        ax.set_ylabel(panel.axis_names[1])
        ax.set_aspect("equal", adjustable="datalim")
    else:
        ax.set_yticks([])
        ax.set_ylim(-1, 1)
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
    ax.autoscale_view()
