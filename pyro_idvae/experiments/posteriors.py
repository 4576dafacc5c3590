# SPDX-License-Identifier: Apache-2.0
"""What the classical models' experiments share: guides fitted one way, chains judged one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
import xarray as xr
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.optim import ClippedAdam
from scipy import stats

from pyro_idvae.arviz_io import groups_of
from pyro_idvae.diagnostics.collapse import COLLAPSED, INFORMATIVE, Level
from pyro_idvae.diagnostics.estimators import (
    effective_sample_size,
    holm,
    kl_to_normal,
    split_rhat,
)
from pyro_idvae.experiments.endings import finished
from pyro_idvae.infer import fit, from_guide

Array = np.ndarray[Any, Any]

GUIDES = {"mean field": AutoNormal, "full rank": AutoMultivariateNormal}


@dataclass(frozen=True)
class GuideFit:
    """A guide's draws, and whether its fit has settled.

    Attributes:
        draws: ArviZ data.
        elbo: in nats, all data together.
        elbo_se: its Monte-Carlo standard error.
        elbo_gain: what the last quarter of the steps won over the quarter before, in nats.
        seconds: of the fit.
    """

    draws: Any
    elbo: float
    elbo_se: float
    elbo_gain: float
    seconds: float

    @property
    def figures(self) -> dict[str, float]:
        """All but the draws, as columns of a table."""
        names = ("elbo", "elbo_se", "elbo_gain", "seconds")
        return {name: getattr(self, name) for name in names}


def fit_guide(
    model: Any,
    guide: Any,
    x: torch.Tensor,
    *,
    num_steps: int,
    learning_rates: tuple[float, float] = (0.05, 0.0005),
    num_particles: int = 4,
    num_draws: int = 2000,
    num_prior_samples: int | None = None,
    seed: int = 0,
) -> GuideFit:
    """Fit on all data at once, with an exponentially falling learning rate, and draw.

    Args:
        model: the model.
        guide: its guide.
        x: the data.
        num_steps: optimiser steps.
        learning_rates: at the first and at the last step.
        num_particles: draws an ELBO, side by side.
        num_draws: draws from the fitted guide.
        num_prior_samples: draws from the prior; as many if None.
        seed: seed of all that is random.
    """
    first, last = learning_rates
    result = fit(
        model,
        guide,
        x,
        elbo=Trace_ELBO(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1),
        optimizer=ClippedAdam({"lr": first, "lrd": (last / first) ** (1 / num_steps)}),
        num_epochs=num_steps,
        seed=seed,
        progress=False,
    )
    finished(result)
    pyro.set_rng_seed(seed)
    draws = from_guide(model, guide, x, num_samples=num_draws, num_prior_samples=num_prior_samples)
    groups = groups_of(draws)
    elbo = _total(groups["log_likelihood"]) + _total(groups["log_prior"])
    elbo = elbo - _total(groups["sample_stats"][["log_q"]])
    quarter = max(num_steps // 4, 1)
    losses = np.array(result.losses) * len(x)
    gain = losses[-2 * quarter : -quarter].mean() - losses[-quarter:].mean()
    return GuideFit(
        draws=draws,
        elbo=float(elbo.mean()),
        elbo_se=float(elbo.std(ddof=1) / elbo.size**0.5),
        elbo_gain=float(gain),
        seconds=result.wall_time,
    )


def _total(densities: xr.Dataset) -> Array:
    """Return the sum of log densities of each draw."""
    total: Any = 0.0
    for array in densities.data_vars.values():
        own = [dim for dim in array.dims if dim not in ("chain", "draw")]
        total = total + array.astype(float).sum(own)
    return np.asarray(total)


def convergence(draws: Array) -> tuple[float, float]:
    """Return the largest split R-hat and the least effective sample size of some series.

    Args:
        draws: of shape ``(chain, draw) + batch``.
    """
    return float(split_rhat(draws).max()), float(effective_sample_size(draws).min())


def norm_divergence(z: Array, *, epsilon: float, confidence: float) -> dict[str, Any]:
    """Return the KL of |z| from its prior, which no rotation of z changes, with its verdicts.

    Under z ~ N(0, I_K) the square is χ² of K degrees. The mean over data points comes with limits
    that take them as independent, next to the shares of points with either verdict.

    Args:
        z: draws, of shape ``(chain, draw, N, K)``.
        epsilon: nats below which a divergence counts as none.
        confidence: of each one-sided limit.
    """
    squared = (z.astype(float) ** 2).sum(-1)
    prior = stats.chi2(z.shape[-1])
    below, above = prior.cdf(squared), prior.sf(squared)
    kl = kl_to_normal(np.where(below < above, stats.norm.ppf(below), stats.norm.isf(above)))
    level = Level(epsilon, confidence)
    points = level.words(kl.upper(confidence), holm(kl.p_value()))
    mean = kl.mean(0)
    rhat, ess = convergence(squared)
    return {
        "quantity": "KL",
        "estimate": float(mean.estimate),
        "lower": float(mean.lower(confidence)),
        "upper": float(mean.upper(confidence)),
        "verdict": str(level.words(mean.upper(confidence), mean.p_value())),
        "rhat": rhat,
        "ess": ess,
        "points_informative": float((points == INFORMATIVE).mean()),
        "points_collapsed": float((points == COLLAPSED).mean()),
    }
