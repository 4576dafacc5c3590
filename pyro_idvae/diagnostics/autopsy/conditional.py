# SPDX-License-Identifier: Apache-2.0
"""Does the likelihood depend on one latent when the others are known?"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from scipy.special import ndtri

from pyro_idvae.diagnostics.latents import latent_labels
from pyro_idvae.infer.draws import flat
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.side_by_side import count_of, densities_of, prior_draws
from pyro_idvae.programs.sites import unwrap_masks

NUM_DRAWS = 200
"""Posterior draws in which a latent is replaced."""


class Conditional(NamedTuple):
    """What the data say of one latent when the others are known, in nats."""

    estimate: float
    standard_error: float

    def upper(self, confidence: float) -> float:
        """Return the one-sided upper limit."""
        return self.estimate + float(ndtri(confidence)) * self.standard_error


def conditional_divergences(bound: BoundModel, draws: Values) -> dict[str, Conditional | None]:
    r"""Return the divergence of each latent's conditional posterior from its prior.

    .. math:: \mathbb E_{p(z_{-k}|x)}\bigl[\mathrm{KL}(p(z_k|z_{-k},x)\,\|\,p(z_k))
        + \mathrm{KL}(p(z_k)\,\|\,p(z_k|z_{-k},x))\bigr]
        = \mathbb E\bigl[\log p(x|z) - \log p(x|z_{-k}, z_k')\bigr]

    with z from the posterior and :math:`z_k'` from the prior: 0 exactly where the likelihood does
    not depend on :math:`z_k` whatever the others, and at least what the marginal has. A mean over
    the data points.

    Args:
        bound: the model on its data.
        draws: draws of the exact posterior, of shape ``(chain, draw) + site shape``.

    Returns:
        An entry for each latent dimension, ``site[k]``; None where the prior's coordinates are not
        independent of one another and of other sites.
    """
    everything = flat(draws)
    number = count_of(everything)
    chosen = torch.linspace(0, number - 1, min(NUM_DRAWS, number)).long()
    base = {name: value[chosen.to(value.device)] for name, value in everything.items()}
    fresh = prior_draws(bound, len(chosen)).values
    before = _log_likelihood(bound, base)
    found: dict[str, Conditional | None] = {}
    for name, value in base.items():
        place = bound.row_place(name)
        free = [axis for axis in range(value.dim() - 1) if axis != place]
        shape = tuple(value.shape[axis + 1] for axis in free)
        prior = bound.trace.nodes[name]["fn"]
        independent = _is_factorised(prior) and not bound.depends_on_summed(name)
        for label, index in zip(latent_labels(name, shape), np.ndindex(*shape), strict=True):
            if not independent:
                found[label] = None
                continue
            where: list[Any] = [slice(None)] * value.dim()
            for axis, position in zip(free, index, strict=True):
                where[axis + 1] = position
            moved = value.clone()
            moved[tuple(where)] = fresh[name][tuple(where)]
            after = _log_likelihood(bound, {**base, name: moved})
            change = (before - after).double()
            error = float(change.std()) / math.sqrt(len(change))
            rounding = float(torch.finfo(before.dtype).eps * before.abs().max())
            found[label] = Conditional(float(change.mean()), max(error, rounding))
    return found


def _log_likelihood(bound: BoundModel, draws: Values) -> torch.Tensor:
    """Return the mean over data points of log p(x|z), for each draw."""
    terms = densities_of(bound, draws).likelihood.values()
    total = torch.stack([term.flatten(1).sum(1) if term.dim() > 1 else term for term in terms])
    return total.sum(0) / bound.rows


def _is_factorised(prior: Any) -> bool:
    """Tell whether a prior's coordinates are independent."""
    base = unwrap_masks(prior)
    if isinstance(base, dist.MultivariateNormal):
        covariance = base.covariance_matrix
        return bool((covariance == torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))).all())
    return len(base.event_shape) == 0
