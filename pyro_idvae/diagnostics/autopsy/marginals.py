# SPDX-License-Identifier: Apache-2.0
"""Densities of single coordinates in closed form."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch import Tensor

from pyro_idvae.diagnostics.autopsy.freed import components_of
from pyro_idvae.programs.sites import unwrap_masks


def marginal_log_prob(distribution: Any, values: Tensor) -> Tensor | None:
    """Return log densities of each coordinate by itself, in the shape of the values.

    Known for Normals, for mixtures of independent coordinates, and for all that has independent
    coordinates itself; else None.

    Args:
        distribution: of the guide or the prior.
        values: of shape ``lead`` + the site's.
    """
    base = unwrap_masks(distribution)
    if isinstance(base, dist.MultivariateNormal | dist.LowRankMultivariateNormal):
        return _same(dist.Normal(base.loc, base.variance.sqrt()).log_prob(values), values)
    if not base.event_shape and not isinstance(base, dist.Delta):
        return _same(base.log_prob(values), values)
    mixture = components_of(base)
    if mixture is None or len(base.event_shape) != 1:
        return None
    log_weights, components = mixture
    each = marginal_log_prob(components, values.unsqueeze(-2).expand(*_wide(values, log_weights)))
    if each is None:
        return None
    return _same((log_weights.unsqueeze(-1) + each).logsumexp(-2), values)


def _wide(values: Tensor, log_weights: Tensor) -> tuple[int, ...]:
    return (*values.shape[:-1], log_weights.shape[-1], values.shape[-1])


def _same(found: Tensor, values: Tensor) -> Tensor | None:
    return found if found.shape == values.shape else None
