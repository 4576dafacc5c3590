# SPDX-License-Identifier: Apache-2.0
"""Mean observations along one latent at a time: what each dimension says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor

from pyro_idvae._checks import (
    check_count,
    check_interval,
    check_last_dim,
    check_list,
    check_options,
)
from pyro_idvae.diagnostics.latents import latent_labels
from pyro_idvae.distributions import Likelihood
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.plots.axes import check_axes
from pyro_idvae.plots.marginals import shown
from pyro_idvae.programs.unchanged import unchanged

Array = np.ndarray[Any, Any]

NUM_IMAGES = 7
NUM_POINTS = 31
IN_A_COLUMN = 12
"""Latents below each other before their images go on beside them."""
NAMED = 8
"""Features with a colour and a name: those that move most. The others are grey."""
GREY = 300
"""Grey features in a panel, at most: those that move most in it."""
LEAST_SHOWN = 1e-5
"""Share of the largest mean below which a logarithmic axis does not go."""


@unchanged()
def plot_latent_walk(
    likelihood: Likelihood,
    start: Tensor,
    *,
    image_shape: tuple[int, int] | None = None,
    dims: Sequence[int] | None = None,
    limits: tuple[float, float] = (-3.0, 3.0),
    num_steps: int | None = None,
    name: str = "latent",
    feature_names: Sequence[str] | None = None,
    axes: Any = None,
    **options: Any,
) -> Any:
    """Plot mean observations as one latent moves and the others stay.

    With an ``image_shape``, a row of images for each latent: equal images are a latent that the
    decoder ignores. Without one, a panel for each latent, with a line for each feature over the
    value of the latent: level lines are a latent that the decoder ignores. The features that move
    most have a colour and a name, the others are grey. Counts and positive data are on a log scale;
    of categories, the lines are probabilities.

    Args:
        likelihood: p(x|z), whose distribution has a mean.
        start: where the other latents stay, of shape ``(latent_dim,)``.
        image_shape: height and width of an image, in pixels; None for data that are no images.
        dims: the latent dimensions to move; all if None.
        limits: first and last value of the latent that moves.
        num_steps: images in a row, or points of a line; 7 or 31 if None.
        name: the latent site, for labels as in every other picture.
        feature_names: what the features are called; ``x[0]``, … if None.
        axes: an array of matplotlib axes, dimensions by steps for images, one a dimension for
            lines; new ones if None.
        **options: for ``likelihood.condition``, e.g. ``covariates`` or ``total_count``.

    Returns:
        The array of axes, of shape ``(len(dims), num_steps)`` for images, ``(len(dims),)`` else.

    Raises:
        ArgumentError: for a dimension that is not there, or limits that are none.
        ShapeError: if the mean has another number of features than the image has pixels, than
            there are names, or if ``axes`` is of another size.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(64, 3, "bernoulli", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> axes = idvae.plot_latent_walk(vae.likelihood, torch.zeros(3), image_shape=(8, 8))
        >>> axes.shape
        (3, 7)
        >>> axes = idvae.plot_latent_walk(vae.likelihood, torch.zeros(3))
        >>> [ax.get_xlabel() for ax in axes]
        ['latent[0]', 'latent[1]', 'latent[2]']
    """
    if not isinstance(likelihood, Likelihood):
        raise ArgumentError(
            f"likelihood is a {type(likelihood).__name__}: expected one, e.g. vae.likelihood"
        )
    check_axes("axes", axes)
    check_options(likelihood.forward, options)
    dim = likelihood.latent_dim
    if check_last_dim("start", start, dim).dim() != 1:
        raise ShapeError(f"start has shape {tuple(start.shape)}: expected ({dim},)")
    if not bool(start.isfinite().all()):
        raise ArgumentError(f"start={start.tolist()}: expected finite numbers")
    rows = list(range(dim)) if dims is None else check_list("dims", dims, "latent dimensions")
    if not rows or any(not 0 <= row < dim for row in rows):
        raise ArgumentError(f"dims={dims!r}: the likelihood has {dim} latent dimensions")
    limits = check_interval("limits", limits)
    if num_steps is None:
        num_steps = NUM_POINTS if image_shape is None else NUM_IMAGES
    check_count("num_steps", num_steps, minimum=2)
    values = torch.linspace(*limits, num_steps).to(start)
    z = start.expand(len(rows), num_steps, dim).clone()
    for place, row in enumerate(rows):
        z[place, :, row] = values
    with torch.no_grad():
        found = likelihood.condition(z, **options)
    means, word = _means(found, len(rows), num_steps)
    labels = [latent_labels(name, (dim,))[row] for row in rows]
    steps = values.cpu().numpy()
    if image_shape is not None:
        return _images(means, labels, steps, image_shape, axes)
    size = means.shape[-1]
    if feature_names is not None and len(feature_names) != size:
        raise ShapeError(f"feature_names has {len(feature_names)} names but x {size} features")
    template = "x = {}" if word == "probability" else "x[{}]"
    names = [template.format(i) for i in range(size)] if feature_names is None else feature_names
    axes = _lines(means, labels, steps, names, word=word, axes=axes)
    if _is_positive(found):
        for ax in axes:
            ax.set_yscale("log")
            ax.set_ylim(bottom=max(means.min(), LEAST_SHOWN * means.max()))
    return axes


def _means(found: Any, *shape: int) -> tuple[Array, str]:
    """Return E[x|z], of shape (latents, steps, features), and what it is."""
    # The number of a category has no mean.
    categories = isinstance(found, torch.distributions.Categorical)
    means = found.probs if categories else found.mean
    word = "probability" if categories else "mean of each feature"
    return means.detach().reshape(*shape, -1).cpu().numpy(), word


def _is_positive(found: Any) -> bool:
    """Tell whether data are counts or positive numbers without a limit: z moves their log mean."""
    support = getattr(found.support, "base_constraint", found.support)
    return bool(getattr(support, "lower_bound", -1) == 0 and not hasattr(support, "upper_bound"))


def _images(
    means: Array, labels: Sequence[str], steps: Array, shape: tuple[int, int], axes: Any
) -> Any:
    count, num_steps, pixels = means.shape
    sides = check_list("image_shape", shape, "a height and a width")
    if len(sides) != 2:
        raise ArgumentError(f"image_shape={shape!r}: expected a height and a width")
    height, width = (check_count("image_shape entry", side) for side in sides)
    if pixels != height * width:
        raise ShapeError(
            f"image_shape={shape!r} has {height * width} pixels but an observation {pixels}"
        )
    mine = axes is None
    axes = _image_axes(count, num_steps) if mine else _given(axes, (count, num_steps))
    low, high = means.min(), means.max()
    for place, label in enumerate(labels):
        last = place == count - 1 or (mine and (place + 1) % _rows_of(count) == 0)
        for step in range(num_steps):
            ax = axes[place, step]
            image = means[place, step].reshape(height, width)
            ax.imshow(image, cmap="gray_r", vmin=low, vmax=high)
            ax.set_xticks([])
            ax.set_yticks([])
            if last:
                ax.set_xlabel(f"{steps[step]:.1f}")
        axes[place, 0].set_ylabel(label, rotation=0, ha="right", va="center")
    if mine:
        axes[0, 0].figure.supxlabel("value of the latent that moves", fontsize="medium")
    return axes


def _rows_of(count: int) -> int:
    """Return how many latents stand below each other: all, or an equal share of them."""
    return -(-count // -(-count // IN_A_COLUMN))


def _image_axes(count: int, num_steps: int) -> Any:
    """Return axes of shape (latents, steps), at most twelve latents below each other."""
    rows, blocks = _rows_of(count), -(-count // IN_A_COLUMN)
    size = ((0.9 * num_steps + 0.7) * blocks, 0.9 * rows + 0.7)
    figure = plt.figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(rows, blocks * num_steps)
    cells = [
        [(place % rows, place // rows * num_steps + step) for step in range(num_steps)]
        for place in range(count)
    ]
    return np.array([[figure.add_subplot(grid[cell]) for cell in line] for line in cells])


def _lines(
    means: Array,
    labels: Sequence[str],
    steps: Array,
    names: Sequence[str],
    *,
    word: str,
    axes: Any,
) -> Any:
    count, size = len(labels), means.shape[-1]
    mine = axes is None
    axes = _line_axes(count) if mine else _given(axes, (count,))
    moves = np.ptp(means, axis=1)
    named = np.sort(np.argsort(-moves.max(0), kind="stable")[:NAMED])
    for place, ax in enumerate(axes):
        others = np.setdiff1d(np.argsort(-moves[place], kind="stable")[: GREY + NAMED], named)
        curves = [np.column_stack([steps, means[place, :, i]]) for i in others]
        ax.add_collection(LineCollection(curves, colors="0.75", linewidths=0.6))
        for number, feature in enumerate(named):
            ax.plot(steps, means[place, :, feature], color=f"C{number}", label=names[feature])
        ax.autoscale_view()
        ax.set_xlabel(labels[place])
        ax.spines[["top", "right"]].set_visible(False)
    figure = axes[0].figure
    options = {"title": shown(len(named), size, "features").replace("shown", "named") or None}
    handles, texts = axes[0].get_legend_handles_labels()
    if mine:
        figure.supylabel(word, fontsize="medium")
        figure.legend(handles, texts, loc="outside right upper", frameon=False, **options)
    else:
        axes[0].set_ylabel(word)
        place_right = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "fontsize": "small"}
        axes[-1].legend(handles, texts, frameon=False, **place_right, **options)
    return axes


def _line_axes(count: int) -> Any:
    columns = min(count, 4 if count <= IN_A_COLUMN else 6)
    rows = -(-count // columns)
    _, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.9 + 1.9 * columns, 0.5 + 1.9 * rows),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return axes.flat[:count]


def _given(axes: Any, shape: tuple[int, ...]) -> Any:
    axes = np.asarray(axes)
    if axes.size != np.prod(shape):
        raise ShapeError(f"axes has {axes.size} axes: expected {' by '.join(map(str, shape))}")
    return axes.reshape(shape)
