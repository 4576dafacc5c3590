# SPDX-License-Identifier: Apache-2.0
"""Images along one latent at a time: what each dimension says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from pyro_idvae._checks import check_count, check_last_dim
from pyro_idvae.distributions import Likelihood
from pyro_idvae.errors import ArgumentError, ShapeError


def plot_latent_walk(
    likelihood: Likelihood,
    start: Tensor,
    *,
    image_shape: tuple[int, int],
    dims: Sequence[int] | None = None,
    limits: tuple[float, float] = (-3.0, 3.0),
    num_steps: int = 7,
    axes: Any = None,
    **options: Any,
) -> Any:
    """Plot mean images as one latent moves and the others stay: a row for each dimension.

    A row of equal images is a dimension that the decoder ignores.

    Args:
        likelihood: p(x|z), whose distribution has a mean.
        start: where the other latents stay, of shape ``(latent_dim,)``.
        image_shape: height and width of an image, in pixels.
        dims: the latent dimensions to move; all if None.
        limits: first and last value of the latent that moves.
        num_steps: images in a row.
        axes: an array of matplotlib axes, dimensions by steps; new ones if None.
        **options: for ``likelihood.condition``, e.g. ``covariates``.

    Returns:
        The array of axes, of shape ``(len(dims), num_steps)``.

    Raises:
        ArgumentError: for a dimension that is not there.
        ShapeError: if the mean has another number of pixels than an image.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(64, 3, "bernoulli", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> axes = idvae.plot_latent_walk(vae.likelihood, torch.zeros(3), image_shape=(8, 8))
        >>> axes.shape
        (3, 7)
    """
    check_count("num_steps", num_steps, minimum=2)
    dim = likelihood.latent_dim
    if check_last_dim("start", start, dim).dim() != 1:
        raise ShapeError(f"start has shape {tuple(start.shape)}: expected ({dim},)")
    rows = list(range(dim) if dims is None else dims)
    if not rows or any(not 0 <= row < dim for row in rows):
        raise ArgumentError(f"dims={dims!r}: the likelihood has {dim} latent dimensions")
    values = torch.linspace(*limits, num_steps).to(start)
    z = start.expand(len(rows), num_steps, dim).clone()
    for place, row in enumerate(rows):
        z[place, :, row] = values
    with torch.no_grad():
        images = likelihood.condition(z, **options).mean.cpu().numpy()
    height, width = image_shape
    if images.shape[-1] != height * width:
        raise ShapeError(
            f"image_shape={image_shape!r} has {height * width} pixels but an observation "
            f"{images.shape[-1]}"
        )
    if axes is None:
        _, axes = plt.subplots(
            len(rows),
            num_steps,
            figsize=(0.9 * num_steps + 0.6, 0.9 * len(rows) + 0.7),
            squeeze=False,
            layout="constrained",
        )
    axes = np.asarray(axes).reshape(len(rows), num_steps)
    low, high = images.min(), images.max()
    for place, row in enumerate(rows):
        for step in range(num_steps):
            ax = axes[place, step]
            ax.imshow(
                images[place, step].reshape(height, width), cmap="gray_r", vmin=low, vmax=high
            )
            ax.set_xticks([])
            ax.set_yticks([])
            if place == len(rows) - 1:
                ax.set_xlabel(f"{values[step]:.1f}")
        axes[place, 0].set_ylabel(f"z[{row}]", rotation=0, ha="right", va="center")
    axes[0, 0].figure.supxlabel("value of the latent that moves", fontsize="medium")
    return axes
