# SPDX-License-Identifier: Apache-2.0
"""How far apart two distributions of one observed site are: Kullback–Leibler both ways."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import kl_divergence


def closed_form(p: Any, q: Any) -> Tensor | None:
    r"""Return J = KL(p ‖ q) + KL(q ‖ p) in nats by batch element, or None without a closed form.

    Distributions whose values can be listed are summed over, as J = Σ (p − q)(log p − log q).
    """
    if isinstance(p, dist.Independent) and isinstance(q, dist.Independent):
        inner = closed_form(p.base_dist, q.base_dist)
        events = p.reinterpreted_batch_ndims
        return (
            inner.flatten(inner.dim() - events).sum(-1) if inner is not None and events else inner
        )
    # The values of a Binomial may be many, and it has a closed form.
    if p.has_enumerate_support and not isinstance(p, dist.Binomial):
        values = p.enumerate_support(expand=False)
        one, other = p.log_prob(values), q.log_prob(values)
        total: Tensor = ((one.exp() - other.exp()) * _difference(one, other)).sum(0)
        return total
    try:
        both = kl_divergence(p, q) + kl_divergence(q, p)
    except NotImplementedError:
        return None
    # Terms of it cancel to a few roundings below 0 where the two are one.
    return torch.as_tensor(both).clamp_min(0.0)


def from_draws(p: Any, q: Any, drawn: Tensor) -> Tensor:
    r"""Return terms whose mean over draws of p and as many of q is J, by batch element.

    .. math:: J = \mathbb E_{y\sim(p+q)/2}\; 2r\tanh(r/2), \qquad r = \log p(y) - \log q(y)

    No term is negative, and all are 0 exactly where the two densities agree at the draws.

    Args:
        p: one distribution.
        q: another.
        drawn: draws, of shape ``lead + batch + event``.

    Returns:
        A tensor of shape ``lead + batch``.
    """
    r = _difference(p.log_prob(drawn), q.log_prob(drawn))
    terms: Tensor = 2 * r * (r / 2).tanh()
    return terms


def _difference(one: Tensor, other: Tensor) -> Tensor:
    """Return one − other, 0 where both are −inf: what neither can make tells nothing."""
    return torch.where(one == other, 0.0, one - other)


@torch.no_grad()
def draw_both(p: Any, q: Any, count: int) -> Tensor:
    """Return draws of each, of shape ``(2, count) + batch + event``."""
    return torch.stack([p.sample((count,)), q.sample((count,))])
