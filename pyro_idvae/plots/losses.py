# SPDX-License-Identifier: Apache-2.0
"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from pyro_idvae.errors import ArgumentError

if TYPE_CHECKING:
    from pyro_idvae.infer import FitResult


def plot_losses(fits: FitResult | Mapping[str, FitResult], *, ax: Any = None) -> Any:
    """Plot the ELBO per data point against epochs, in training and on validation data.

    Args:
        fits: one result of ``fit``, or several by name.
        ax: matplotlib axes; new ones if None.

    Returns:
        The axes.

    Raises:
        ArgumentError: for no results, or one without an epoch.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> fit = idvae.fit(vae.model, vae.guide, torch.randn(50, 5), num_epochs=3, progress=False)
        >>> idvae.plot_losses(fit).get_ylabel()
        'ELBO (nats per data point)'
    """
    named = dict(fits) if isinstance(fits, Mapping) else {"": fits}
    if not named or any(fit.num_epochs == 0 for fit in named.values()):
        raise ArgumentError("fits holds no epochs: there is nothing to plot")
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    tail: list[float] = []
    for number, (name, fit) in enumerate(named.items()):
        prefix = f"{name}: " if name else ""
        epochs = range(1, fit.num_epochs + 1)
        curves = [("training", fit.losses, "-", 0.55)]
        if fit.validation_losses:
            curves.append(("validation", fit.validation_losses, "-", 1.0))
            best = -fit.validation_losses[fit.best_epoch]
            label = "best epoch, kept" if number == 0 else None
            ax.plot(fit.best_epoch + 1, best, "o", color=f"C{number}", label=label)
        for label, losses, style, alpha in curves:
            elbo = [-loss for loss in losses]
            dashed = "--" if label == "training" else style
            ax.plot(epochs, elbo, dashed, color=f"C{number}", alpha=alpha, label=prefix + label)
            tail += elbo[len(elbo) // 10 :]
    # The first epochs lie far below; what one wants to see is where the curves settle.
    low, high = min(tail), max(tail)
    margin = 0.08 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlabel("epoch")
    ax.set_ylabel("ELBO (nats per data point)")
    ax.legend(frameon=False)
    return ax
