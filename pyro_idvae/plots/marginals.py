# SPDX-License-Identifier: Apache-2.0
"""What pictures of draws share: densities that fall to 0, a prior that is seen, and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyro_idvae.arviz_io import density
from pyro_idvae.diagnostics.latents import Latents

Array = np.ndarray[Any, Any]

METHODS = {"svi": "guide", "nuts": "NUTS", "hmc": "HMC", "vectorized": "HMC", "mcmc": "MCMC"}
"""What the makers of draws are called in pictures."""
PRIOR_COLOUR = "0.85"
LEAST_PRIOR = 0.05
"""Share of the posteriors' height below which a prior is drawn enlarged."""
ENLARGED = 0.3
"""What an enlarged prior takes of that height, at most."""
VISIBLE = 0.005
"""Share of its own height above which a curve belongs in the view."""


def method_label(latents: Latents) -> str:
    """Return what to call draws by how they were made: ``guide``, ``NUTS``, ``posterior``.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.from_guide(vae.model, vae.guide, torch.randn(3, 5), num_samples=20)
        >>> method_label(Latents.of(draws))
        'guide'
    """
    method = latents.method
    return "posterior" if method is None else METHODS.get(method, method)


def shown(count: int, total: int, what: str) -> str:
    """Return what to say of things left out; nothing if there are none.

    Example:
        >>> shown(4, 10, "latents")
        '4 of 10 latents shown'
        >>> shown(3, 3, "latents")
        ''
    """
    return "" if count == total else f"{count} of {total} {what} shown"


def support_of(prior: Array | None, draws: Sequence[Array]) -> tuple[float, float]:
    """Return the ends that no curve may pass: those of a prior on (0, ∞) or (0, 1).

    Draws show a support by keeping to it, all of them; a Normal latent's do not.
    """
    if prior is None:
        return -np.inf, np.inf
    every = [prior, *draws]
    if min(values.min() for values in every) <= 0:
        return -np.inf, np.inf
    return 0.0, 1.0 if max(values.max() for values in every) < 1 else np.inf


def curve(draws: Array, support: tuple[float, float] = (-np.inf, np.inf)) -> tuple[Array, Array]:
    """Return a grid and the density of draws on it, from where it is 0 to where it is 0 again.

    At an end of the support the density stops, wherever it is.

    Example:
        >>> grid, height = curve(np.random.default_rng(0).normal(size=100))
        >>> bool(height[0] < 1e-3 * height.max())
        True
    """
    flat = np.ravel(draws).astype(np.float64)
    # More than four of the widest bandwidths that the estimate may take.
    margin = 4.0 * flat.std() * flat.size**-0.2
    low, high = max(flat.min() - margin, support[0]), min(flat.max() + margin, support[1])
    grid, height = density(flat, limits=(float(low), float(high)))
    # The estimate lives between the edges; at an end of the support its line goes down to the axis.
    return np.pad(grid, 1, constant_values=(low, high)), np.pad(height, 1)


def draw_curve(
    ax: Any, draws: Array, support: tuple[float, float], **options: Any
) -> tuple[float, float, float]:
    """Draw the density of draws; return where it can be seen, from and to, and its height.

    A guide that is a point has no density: a vertical line, of height 0.
    """
    if np.ptp(draws) == 0:
        at = float(np.ravel(draws)[0])
        ax.axvline(at, **options)
        return at, at, 0.0
    grid, height = curve(draws, support)
    ax.plot(grid, height, **options)
    return *visible(grid, height), float(height.max())


def visible(grid: Array, height: Array) -> tuple[float, float]:
    """Return where a curve can be seen, from and to."""
    seen = grid[height > VISIBLE * height.max()]
    return float(seen[0]), float(seen[-1])


def draw_prior(
    ax: Any, prior: tuple[Array, Array], view: tuple[float, float], tallest: float
) -> None:
    """Fill the prior's density, enlarged where it would hardly be seen; then the panel says so.

    Args:
        ax: the panel.
        prior: grid and density of :func:`curve`.
        view: the least and the greatest value that the panel shows.
        tallest: height of the posteriors' curves; 0 if they have none.
    """
    grid, height = prior
    across = np.linspace(*view, 201)
    within = float(np.interp(across, grid, height, left=0.0, right=0.0).max())
    factor = 1.0
    if within < 1e-6 * height.max():
        _note(ax, "prior: 0 here")
    elif within < LEAST_PRIOR * tallest:
        factor = _round_down(ENLARGED * tallest / within)
        _note(ax, f"prior × {factor:g}")
    ax.fill_between(
        grid, factor * height, facecolor=PRIOR_COLOUR, edgecolor="0.6", lw=0.8, label="prior"
    )


def _note(ax: Any, text: str) -> None:
    ax.set_title(text, loc="right", fontsize="small", color="0.35", pad=2)


def _round_down(value: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(step for step in (1, 2, 5) if step * power <= value))


def finish_marginal(ax: Any) -> None:
    """Leave only the axis of values: a density's unit is what its area says."""
    ax.set_yticks([])
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
