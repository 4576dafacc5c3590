# SPDX-License-Identifier: Apache-2.0
"""Does the likelihood depend on one latent when the others are known?"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from scipy.special import ndtri

from pyro_idvae.infer.convert import score_draws
from pyro_idvae.infer.draws import Draw, Layout, stack
from pyro_idvae.infer.rowwise.scoring import score_side_by_side
from pyro_idvae.infer.sites import unwrap_masks

NUM_DRAWS = 200
"""Posterior draws in which a latent is replaced."""


class Conditional(NamedTuple):
    """What the data say of one latent when the others are known, in nats."""

    estimate: float
    standard_error: float

    def upper(self, confidence: float) -> float:
        """Return the one-sided upper limit."""
        return self.estimate + float(ndtri(confidence)) * self.standard_error


def conditional_divergences(
    layout: Layout, draws: Draw, *, factorises: bool
) -> dict[str, Conditional | None]:
    r"""Return the divergence of each latent's conditional posterior from its prior.

    .. math:: \mathbb E_{p(z_{-k}|x)}\bigl[\mathrm{KL}(p(z_k|z_{-k},x)\,\|\,p(z_k))
        + \mathrm{KL}(p(z_k)\,\|\,p(z_k|z_{-k},x))\bigr]
        = \mathbb E\bigl[\log p(x|z) - \log p(x|z_{-k}, z_k')\bigr]

    with z from the posterior and :math:`z_k'` from the prior: 0 exactly where the likelihood does
    not depend on :math:`z_k` whatever the others, and at least what the marginal has. A mean over
    the data points.

    Args:
        layout: the model on its data.
        draws: draws of the exact posterior, of shape ``(chain, draw) + site shape``.
        factorises: whether rows are independent, and draws can be scored side by side.

    Returns:
        An entry for each latent dimension, ``site[k]``; None where the prior's coordinates are not
        independent of one another and of other sites.
    """
    flat = {name: value.flatten(0, 1) for name, value in draws.items()}
    number = len(next(iter(flat.values())))
    chosen = torch.linspace(0, number - 1, min(NUM_DRAWS, number)).long()
    base = {name: value[chosen].unsqueeze(0) for name, value in flat.items()}
    with torch.no_grad(), layout.running():
        fresh = stack([layout.draw_prior() for _ in range(len(chosen))])
    before = _log_likelihood(layout, base, factorises)
    found: dict[str, Conditional | None] = {}
    for name, value in base.items():
        node = layout.trace.nodes[name]
        size, place = node["value"].dim(), layout.row_place(name)
        free = [axis for axis in range(size) if axis != place]
        shape = [node["value"].shape[axis] for axis in free]
        independent = _is_factorised(node["fn"])
        for index in np.ndindex(*shape):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            if not independent:
                found[label] = None
                continue
            where: list[Any] = [slice(None)] * (size + 2)
            for axis, position in zip(free, index, strict=True):
                where[axis + 2] = position
            moved = value.clone()
            moved[tuple(where)] = fresh[name].unsqueeze(0)[tuple(where)]
            after = _log_likelihood(layout, {**base, name: moved}, factorises)
            change = (before - after).double()
            error = float(change.std()) / math.sqrt(len(change))
            rounding = float(torch.finfo(before.dtype).eps * before.abs().max())
            found[label] = Conditional(float(change.mean()), max(error, rounding))
    return found


def _log_likelihood(layout: Layout, draws: Draw, factorises: bool) -> torch.Tensor:
    """Return the mean over data points of log p(x|z), for each draw."""
    score = score_side_by_side if factorises else score_draws
    totals = [
        torch.stack([term.sum() for term in likelihood.values()]).sum()
        for likelihood, _ in score(layout, draws)
    ]
    return torch.stack(totals) / layout.rows


def _is_factorised(prior: Any) -> bool:
    """Tell whether a prior's coordinates are independent."""
    base = unwrap_masks(prior)
    if isinstance(base, dist.MultivariateNormal):
        covariance = base.covariance_matrix
        return bool((covariance == torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))).all())
    return len(base.event_shape) == 0
