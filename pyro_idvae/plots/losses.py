# SPDX-License-Identifier: Apache-2.0
"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer import FitResult
from pyro_idvae.plots.axes import check_axes

if TYPE_CHECKING:
    from pyro_idvae.infer import FitResult


BEST = "best epoch, kept"
STYLES: dict[str, dict[str, Any]] = {
    "training": {"ls": "--", "alpha": 0.6},
    "validation": {"ls": "-"},
    BEST: {"ls": "", "marker": "o"},
}


def plot_losses(fits: FitResult | Mapping[str, FitResult], *, ax: Any = None) -> Any:
    """Plot the ELBO per data point against epochs, in training and on validation data.

    A colour is a fit; training is dashed, validation solid. The legend stands beside the axes.

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
    check_axes("ax", ax)
    named: dict[str, Any] = dict(fits) if isinstance(fits, Mapping) else {"": fits}
    for name, fit in named.items():
        if not isinstance(fit, FitResult):
            which = f"fits[{name!r}]" if name else "fits"
            raise ArgumentError(f"{which} is a {type(fit).__name__}: pass what fit returns")
    if not named or any(fit.num_epochs == 0 for fit in named.values()):
        raise ArgumentError("fits holds no epochs: there is nothing to plot")
    if ax is None:
        _, ax = plt.subplots(figsize=(7.4, 4.0), layout="constrained")
    tail: list[float] = []
    for number, fit in enumerate(named.values()):
        for label, losses in (("training", fit.losses), ("validation", fit.validation_losses)):
            if losses:
                elbo = -np.asarray(losses)
                epochs = np.arange(1, len(elbo) + 1)
                ax.plot(epochs, elbo, color=f"C{number}", label=label, **STYLES[label])
                tail += [*elbo[len(elbo) // 10 :]]
        if fit.validation_losses:
            best = -fit.validation_losses[fit.best_epoch]
            ax.plot(fit.best_epoch + 1, best, color=f"C{number}", label=BEST, **STYLES[BEST])
    # The first epochs lie far below; what one wants to see is where the curves settle.
    low, high = min(tail), max(tail)
    margin = 0.08 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlabel("epoch")
    ax.set_ylabel("ELBO (nats per data point)")
    _explain(ax, list(named))
    return ax


def _explain(ax: Any, names: list[str]) -> None:
    """Add a legend beside the axes: a colour for each fit, a style for each kind of curve."""
    drawn = {line.get_label() for line in ax.lines}
    several = len(names) > 1
    handles = [Line2D([], [], color=f"C{i}", label=name) for i, name in enumerate(names) if name]
    handles += [
        Line2D([], [], color="0.3" if several else "C0", label=label, **style)
        for label, style in STYLES.items()
        if label in drawn
    ]
    # Curves start at the bottom and settle at the top: no corner inside is sure to be free.
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
