# SPDX-License-Identifier: Apache-2.0
"""Latents on the scale on which their prior is N(0, 1), where that scale is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from scipy import stats
from scipy.special import ndtri_exp
from torch import Tensor
from torch.distributions import constraints

from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.dependence import prior_dependences
from pyro_idvae.programs.sites import unwrap_masks

FARTHEST = 38.0
"""Φ⁻¹ of the least positive number. A draw whose cdf is 0 or 1 gets this score, or its negative."""

# Frozen scipy distributions: their log cdf and log sf keep both tails, in double precision.
UNIVARIATE: dict[str, Callable[[Any], Any]] = {
    "Beta": lambda d: stats.beta(_double(d.concentration1), _double(d.concentration0)),
    "Cauchy": lambda d: stats.cauchy(_double(d.loc), _double(d.scale)),
    "Exponential": lambda d: stats.expon(scale=1 / _double(d.rate)),
    "Gamma": lambda d: stats.gamma(_double(d.concentration), scale=1 / _double(d.rate)),
    "Gumbel": lambda d: stats.gumbel_r(_double(d.loc), _double(d.scale)),
    "HalfCauchy": lambda d: stats.halfcauchy(scale=_double(d.scale)),
    "HalfNormal": lambda d: stats.halfnorm(scale=_double(d.scale)),
    "Laplace": lambda d: stats.laplace(_double(d.loc), _double(d.scale)),
    "Logistic": lambda d: stats.logistic(_double(d.loc), _double(d.scale)),
    "StudentT": lambda d: stats.t(_double(d.df), _double(d.loc), _double(d.scale)),
    "Uniform": lambda d: stats.uniform(_double(d.low), _double(d.high) - _double(d.low)),
}


def _double(value: Tensor) -> np.ndarray[Any, Any]:
    return value.detach().cpu().double().numpy()


def normal_scores(bound: BoundModel, draws: Values) -> Values:
    r"""Return x = Φ⁻¹(F(z)) of each draw for the sites whose prior marginals have a cdf F.

    Normal and multivariate Normal priors give (z − m)/s exactly; elementwise increasing or
    decreasing transforms are undone first; others go by log cdf and log sf, so that neither tail
    saturates. Left out are sites that are discrete, that have no such cdf, or whose prior depends
    on other latents, so that F is a conditional cdf: they are moved near and far.

    Args:
        bound: the model with its data.
        draws: latents, of shape ``(chain, draw) + site shape``.

    Returns:
        Scores by site, in the shape and type of the draws.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_idvae.infer.normal_scores import normal_scores
        >>> from pyro_idvae.programs import BoundModel
        >>> def model(x):
        ...     scale = pyro.sample("scale", dist.LogNormal(1.0, 2.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", dist.Normal(0.0, scale), obs=x)
        >>> bound = BoundModel(model, None, ((torch.zeros(3),), {}))
        >>> normal_scores(bound, {"scale": torch.ones(1, 2)})["scale"]
        tensor([[-0.5000, -0.5000]])
    """
    found = {}
    dependent = prior_dependences(bound)
    with torch.no_grad():
        for name, values in draws.items():
            if bound.depends_on_summed(name) or dependent[name]:
                continue
            scores = _score(bound.trace.nodes[name]["fn"], values)
            if scores is not None:
                found[name] = scores
    return found


def _score(distribution: Any, values: Tensor) -> Tensor | None:
    base = unwrap_masks(distribution)
    if isinstance(base, dist.Normal):
        return (values - base.loc) / base.scale
    if isinstance(base, dist.MultivariateNormal | dist.LowRankMultivariateNormal):
        return (values - base.loc) / base.variance.sqrt()
    if type(base).__name__ == "Dirichlet":
        rest = base.concentration.sum(-1, keepdim=True) - base.concentration
        return _score(dist.Beta(base.concentration, rest), values)
    maker = UNIVARIATE.get(type(base).__name__)
    if maker is not None:
        frozen, z = maker(base), _double(values)
        return _from_logs(frozen.logcdf(z), frozen.logsf(z), values)
    if isinstance(base, dist.TransformedDistribution):
        return _undo(base, values)
    return _by_cdf(base, values)


def _undo(distribution: Any, values: Tensor) -> Tensor | None:
    """Return scores on the base distribution's side of elementwise monotone transforms."""
    flip: Any = 1
    for transform in reversed(distribution.transforms):
        if transform.domain.event_dim or transform.codomain.event_dim or not transform.bijective:
            return None
        values = transform.inv(values)
        flip = flip * transform.sign
    scores = _score(distribution.base_dist, values)
    return None if scores is None else scores * flip


def _by_cdf(distribution: Any, values: Tensor) -> Tensor | None:
    """Return scores by torch's own cdf, if there is one."""
    support = distribution.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support.is_discrete or distribution.event_shape:
        return None
    try:
        below = _double(distribution.cdf(values))
    except NotImplementedError:
        return None
    with np.errstate(divide="ignore"):
        return _from_logs(np.log(below), np.log1p(-below), values)


def _from_logs(log_cdf: np.ndarray[Any, Any], log_sf: np.ndarray[Any, Any], like: Tensor) -> Tensor:
    lower = log_cdf < log_sf
    scores = np.where(lower, ndtri_exp(log_cdf), -ndtri_exp(log_sf))
    return torch.as_tensor(np.clip(scores, -FARTHEST, FARTHEST)).to(like)
