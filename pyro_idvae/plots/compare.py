# SPDX-License-Identifier: Apache-2.0
"""Two posteriors of one data point over each other: marginals and pairs of latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pyro_idvae._checks import check_count, check_index, check_list
from pyro_idvae.diagnostics.latents import Latent, Latents, check_labels
from pyro_idvae.diagnostics.parts import Source
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.plots.marginals import (
    PRIOR_COLOUR,
    curve,
    draw_curve,
    draw_prior,
    finish_marginal,
    method_label,
    shown,
    support_of,
)

Array = np.ndarray[Any, Any]

CONTOUR_MASSES = (0.9, 0.5)
POINTS_SHOWN = 300
KERNELS = 1000
GRID = 48


def plot_compare(
    svi: Any,
    nuts: Any,
    *,
    var_name: str | None = None,
    row: int = 0,
    num_latents: int = 4,
    labels: tuple[str, str] | None = None,
    axes: Any = None,
) -> Any:
    """Plot two posteriors of one data point: marginals on the diagonal, pairs below it.

    Contours hold 50% and 90% of the draws, by a kernel density estimate. The view is that of the
    posteriors. The prior, where it is known, is a grey fill on the diagonal; one far wider than
    the posteriors is drawn enlarged, and the panel says by how much.

    Args:
        svi: ArviZ data of ``from_guide``, drawn first; any other posterior will do.
        nuts: ArviZ data of ``mcmc`` or ``from_mcmc`` for the same model and data.
        var_name: the latent site; the first if None.
        row: the data point, by its position; a global latent has none.
        num_latents: at most this many latent dimensions.
        labels: what to call the two; how their draws were made if None: guide, NUTS, …
        axes: an array of matplotlib axes, latents by latents; new ones if None.

    Returns:
        The array of axes, of shape ``(latents, latents)``; those above the diagonal are off.

    Raises:
        ArgumentError: for a latent or a row that is not there, or latents whose coordinates are
            called differently.
        ShapeError: if the two have latents of different sizes, or ``axes`` is of another size.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(3, 5)
        >>> svi = idvae.from_guide(vae.model, vae.guide, x, num_samples=50)
        >>> exact = {"latent": torch.randn(2, 50, 3, 2)}
        >>> nuts = idvae.from_mcmc(exact, vae.model, x)
        >>> idvae.plot_compare(svi, nuts, row=2).shape
        (2, 2)
    """
    check_count("num_latents", num_latents)
    sources = [Source.of(svi, "svi"), Source.of(nuts, "nuts")]
    both, places = zip(*(_read(source, row) for source in sources), strict=True)
    name = _site(both, var_name)
    picked = [latents.sites[name] for latents in both]
    latents = list(picked[0].labels)
    if len(latents) != len(picked[1].labels):
        raise ShapeError(
            f"the latent {name!r} has {len(latents)} dimensions in svi but "
            f"{len(picked[1].labels)} in nuts"
        )
    check_labels(picked, ["svi", "nuts"])
    sides = [
        _row_of(latent, latent.values, place)[:num_latents]
        for latent, place in zip(picked, places, strict=True)
    ]
    point = both[0].point_label(places[0]) if picked[0].local else "all data"
    count = len(sides[0])
    prior = next(
        (
            _row_of(latent, latent.prior, place)
            for latent, place in zip(picked, places, strict=True)
            if latent.prior is not None
        ),
        None,
    )
    axes = _grid_of_axes(axes, count)
    views = [
        _draw_marginal(axes[i, i], [side[i] for side in sides], None if prior is None else prior[i])
        for i in range(count)
    ]
    for i, j in np.ndindex(count, count):
        ax = axes[i, j]
        if j > i:
            ax.set_axis_off()
            continue
        if j < i:
            for number, side in enumerate(sides):
                _draw_pair(ax, side[j], side[i], color=f"C{number}")
            ax.set_ylim(*views[i])
        ax.set_xlim(*views[j])
        ax.tick_params(labelbottom=i == count - 1, labelleft=j == 0 and i > 0)
        if i == count - 1:
            ax.set_xlabel(latents[j])
        if j == 0 and i > 0:
            ax.set_ylabel(latents[i])
    names = _names(both) if labels is None else _pair_of(labels)
    notes = [point, shown(count, len(latents), "latents")]
    _explain(axes, names, [note for note in notes if note], prior is not None)
    return axes


def _read(source: Source, row: int) -> tuple[Latents, int]:
    """Return latents and the place of a row among theirs, others unread where they can be."""
    if not source.apart:
        return source.latents(), row
    check_index("row", row, source.length)
    row %= source.length
    return source.latents(slice(row, row + 1)), 0


def _names(both: Sequence[Latents]) -> tuple[str, str]:
    """Return what the two are called by how they were made, numbered if made alike."""
    one, other = (method_label(latents) for latents in both)
    return (one, other) if one != other else (f"{one} 1", f"{other} 2")


def _site(both: Sequence[Latents], var_name: str | None) -> str:
    known = both[0].names
    name = known[0] if var_name is None else var_name
    if any(name not in latents.sites for latents in both):
        raise ArgumentError(f"var_name={name!r}: expected a latent of both, one of {known}")
    return name


def _pair_of(labels: Any) -> tuple[str, str]:
    found = check_list("labels", labels, "two names")
    if len(found) != 2:
        raise ArgumentError(f"labels={labels!r}: expected two names")
    return str(found[0]), str(found[1])


def _row_of(latent: Latent, values: Array, row: int) -> Array:
    """Return the draws of one data point, of shape (latents, draws)."""
    count = values.shape[2]
    if not latent.local:
        row = 0
    else:
        check_index("row", row, count)
    return values[:, :, row].reshape(-1, values.shape[3]).T.astype(np.float64)


def _grid_of_axes(axes: Any, count: int) -> Any:
    if axes is None:
        size = (4.8, 3.4) if count == 1 else (1.4 + 2.0 * count, 1.0 + 1.9 * count)
        _, axes = plt.subplots(count, count, figsize=size, squeeze=False, layout="constrained")
    axes = np.asarray(axes)
    if axes.size != count * count:
        raise ShapeError(
            f"axes has {axes.size} axes: {count} latents need {count} by {count}; set num_latents"
        )
    return axes.reshape(count, count)


def _around(*values: float) -> tuple[float, float]:
    """Return limits around some values."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _draw_marginal(ax: Any, sides: Sequence[Array], prior: Array | None) -> tuple[float, float]:
    """Draw the curves of one latent; return the view that holds them and all draws."""
    support = support_of(prior, sides)
    seen, tallest = [], 0.0
    for number, draws in enumerate(sides):
        low, high, height = draw_curve(ax, draws, support, color=f"C{number}")
        seen += [low, high, draws.min(), draws.max()]
        tallest = max(tallest, height)
    view = _around(*seen)
    if prior is not None and np.ptp(prior) > 0:
        draw_prior(ax, curve(prior, support), view, tallest)
    finish_marginal(ax)
    return view


def _thinned(draws: Array, size: int) -> Array:
    return draws[..., :: -(-draws.shape[-1] // size)]


def _draw_pair(ax: Any, across: Array, up: Array, *, color: str) -> None:
    both = np.stack([across, up])
    ax.scatter(*_thinned(both, POINTS_SHOWN), s=5, alpha=0.3, color=color, linewidths=0)
    covariance = np.cov(both)
    if not np.linalg.cond(covariance) < 1e10:
        return
    centres = _thinned(both, KERNELS)
    # Scott's bandwidth for two dimensions; whitening lets the kernel follow a correlation.
    whiten = np.linalg.inv(np.linalg.cholesky(covariance)) * centres.shape[1] ** (1 / 6)
    white = whiten @ centres
    grids = [np.linspace(*_around(side.min(), side.max()), GRID) for side in both]
    mesh = np.stack(np.meshgrid(*grids)).reshape(2, -1)
    height = _kernels(whiten @ mesh, white)
    levels = np.quantile(_kernels(white, white), [1 - mass for mass in CONTOUR_MASSES])
    if np.unique(levels).size == levels.size:
        ax.contour(*grids, height.reshape(GRID, GRID), levels=levels, colors=color, linewidths=1.2)


def _kernels(points: Array, centres: Array) -> Array:
    """Return the mean of Normal kernels of unit width, not normalised, at points (2, n)."""
    squares = sum((p[:, None] - c) ** 2 for p, c in zip(points, centres, strict=True))
    mean: Array = np.exp(-0.5 * np.asarray(squares)).mean(-1)
    return mean


def _explain(axes: Any, labels: tuple[str, str], notes: list[str], has_prior: bool) -> None:
    """Add one legend that names the data point, beside the diagonal."""
    handles: list[Any] = [Line2D([], [], color=f"C{i}", label=labels[i]) for i in (0, 1)]
    if has_prior:
        handles.append(Patch(facecolor=PRIOR_COLOUR, edgecolor="0.6", label="prior"))
    place: dict[str, Any] = {"loc": "upper right"}
    if len(axes) == 1:
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    else:
        notes = [*notes, "contours: 50% and 90% of draws"]
    axes[0, -1].legend(
        handles=handles, title="\n".join(notes), frameon=False, alignment="left", **place
    )
