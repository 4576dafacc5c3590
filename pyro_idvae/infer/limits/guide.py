# SPDX-License-Identifier: Apache-2.0
"""What a guide says of each latent coordinate, from its own density."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to

from pyro_idvae import _upstream
from pyro_idvae.infer.limits.coordinates import Moments, independent_sites
from pyro_idvae.infer.limits.exact import Limits
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.dependence import guide_dependences
from pyro_idvae.programs.sites import unwrap_masks


@torch.no_grad()
def guide_limits(bound: BoundModel, values: Values) -> Limits:
    r"""Return the moments of log q(z_k|x, z_−k) − log p(z_k) over draws of a guide.

    The mean is KL(q(z_k|x) ‖ p(z_k)) of a guide whose coordinates are independent, and at least it
    where they are not. Sites are left out whose prior coordinates are not independent, or whose
    guide depends on other latents or has no such density in closed form.

    Args:
        bound: model and guide on their data.
        values: the guide's draws, of shape ``(1, draw) + site shape``.
    """
    found = {}
    links = guide_dependences(bound)
    for name in independent_sites(bound):
        drawn = values[name].flatten(0, 1)
        q = None if links[name] else _guide_density(bound, name, drawn)
        p = coordinate_log_prob(bound.trace.nodes[name]["fn"], drawn)
        if q is not None and p is not None:
            ratio = (q - p).double().cpu().numpy()
            size = np.full(ratio.shape[1:], float(len(ratio)))
            variance = ratio.var(0, ddof=1) if len(ratio) > 1 else np.full(ratio.shape[1:], np.inf)
            found[name] = Moments(ratio.mean(0), variance, size)
    return Limits(found)


def coordinate_log_prob(distribution: Any, values: Tensor) -> Tensor | None:
    """Return log densities of single coordinates given the others, in the shape of the values.

    None where there is no closed form.
    """
    base = unwrap_masks(distribution)
    if isinstance(base, dist.MultivariateNormal | dist.LowRankMultivariateNormal):
        precision = base.precision_matrix
        own = precision.diagonal(dim1=-2, dim2=-1)
        centred = values - base.loc
        # The mean given the others is z_k − (Λ(z − m))_k / Λ_kk.
        gap = (precision @ centred.unsqueeze(-1)).squeeze(-1) / own
        given: Tensor = dist.Normal(0.0, own.rsqrt()).log_prob(gap)
        return given
    if base.event_shape or isinstance(base, dist.Delta):
        return None
    found: Tensor = base.log_prob(values)
    return found if found.shape == values.shape else None


def _guide_density(bound: BoundModel, name: str, values: Tensor) -> Tensor | None:
    site = unwrap_masks(bound.guide_trace.nodes[name]["fn"])
    helper = _upstream.unconstrained_site(bound.guide_trace, name)
    if not isinstance(site, dist.Delta) or helper is None:
        return coordinate_log_prob(site, values)
    # AutoNormal and its like: a density of the unconstrained latent.
    transform = biject_to(bound.trace.nodes[name]["fn"].support)
    u = transform.inv(values)
    density = coordinate_log_prob(helper["fn"], u) if u.shape == values.shape else None
    volume = transform.log_abs_det_jacobian(u, values)
    if density is None or (torch.is_tensor(volume) and volume.shape != u.shape):
        # A transform of several coordinates together, or of none by itself.
        base = getattr(transform, "base_transform", None)
        volume = base.log_abs_det_jacobian(u, values) if base is not None else None
        if density is None or volume is None or volume.shape != u.shape:
            return None
    found: Tensor = density - volume
    return found
