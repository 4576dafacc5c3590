# SPDX-License-Identifier: Apache-2.0
"""What the distribution of the observations depends on, as numbers for each row."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.kl import is_local
from pyro_idvae.programs.sites import observed_sites, unwrap_masks

SCALED = (dist.Normal, dist.Laplace, dist.StudentT, dist.Cauchy)


def signals(trace: Any, rows: int) -> Tensor:
    """Return what observed sites in plates depend on, of shape ``(rows, numbers)``.

    Args:
        trace: a run of the model.
        rows: elements of the data's plate.

    Raises:
        ArgumentError: for a model that observes nothing in a plate.
    """
    parts = [
        _signal(site["fn"]).reshape(rows, -1)
        for site in observed_sites(trace).values()
        if is_local(site)
    ]
    if not parts:
        raise ArgumentError(
            "the model observes nothing in a plate: put the observations into pyro.plate('data', n)"
        )
    return torch.cat(parts, -1)


def _signal(distribution: Any) -> Tensor:
    fn = unwrap_masks(distribution)
    shape = distribution.batch_shape + distribution.event_shape
    if isinstance(fn, SCALED):
        found = fn.loc / fn.scale
    elif isinstance(fn, (dist.Bernoulli, dist.Binomial)):
        found = fn.logits
    elif isinstance(fn, (dist.Categorical, dist.OneHotCategorical, dist.Multinomial)):
        found, shape = fn.logits, fn.logits.shape
    elif isinstance(fn, dist.Poisson):
        found = fn.rate.log()
    else:
        found = _mean(fn)
    return found.expand(shape)


def mean_of(distribution: Any) -> Tensor:
    """Return the mean of an observed site, of the shape of its values.

    Raises:
        ArgumentError: if it has none, as numbers of categories and sequences of them.
    """
    mean = _mean(unwrap_masks(distribution))
    return mean.expand(distribution.batch_shape + distribution.event_shape)


def _mean(fn: Any) -> Tensor:
    numbered = isinstance(fn, dist.Categorical)  # whose mean torch gives as NaN
    try:
        mean: Tensor | None = None if numbered else fn.mean
    except NotImplementedError:
        mean = None
    if mean is None:
        raise ArgumentError(
            f"an observed site is a {type(fn).__name__}, which has no mean: this objective moves "
            "the means of what is observed; take another one"
        )
    return mean
