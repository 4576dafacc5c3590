# SPDX-License-Identifier: Apache-2.0
"""What a ceiling guarantees where noise is not Normal: parameters stay where curvature is."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import chi2

from pyro_idvae.distributions import InjectiveLikelihood
from pyro_idvae.errors import NoClosedFormError

Array = np.ndarray[Any, Any]

OUTSIDE = np.geomspace(0.5, 1e-12, 40)
"""Prior masses outside a ball that are tried."""
NODES = 100
"""Of Gauss and Legendre's rule over the squared radius."""


class CeilingBound(NamedTuple):
    """Nats that are guaranteed by a window (L, M), and where they come from."""

    nats: float
    radius: float
    """Of the ball of z within which the parameters are bounded."""
    outside: float
    """Prior mass outside it."""
    curvature: float
    """m: the Bhattacharyya distance of two members there is at least m/8 times their squared
    distance."""


@torch.no_grad()
def ceiling_bound(
    likelihood: InjectiveLikelihood, bounds: tuple[float, float], rows: int = 1
) -> CeilingBound | None:
    r"""Return what (L, M) guarantee for z ~ N(0, I) and any family with a least curvature.

    Within a ball of radius R, f(z) is within MR of f(0), where
    :math:`D_B(z,z') \ge m L^2\|z-z'\|^2/8`. With δ the prior mass outside and
    :math:`u = nmL^2/4`, :math:`\mathbb E_{z'}e^{-nD_B} \le g(z) + \delta`,
    :math:`g(z) = (1+u)^{-K/2}e^{-u|z|^2/2(1+u)}`, so that

    .. math:: I(z;x) \ge -\mathbb E_z\log\mathbb E_{z'}e^{-nD_B(z,z')} \ge
        -\mathbb E_z\bigl[1_{|z|\le R}\log\min(1, g(z) + \delta)\bigr],

    which is :math:`\tfrac K2[\log(1+u) + \tfrac{u}{1+u}]` but for δ. R is the best of many.

    Args:
        likelihood: its family and f.
        bounds: (L, M) of f.
        rows: n, rows of data that one z has.

    Returns:
        None for a family without a least curvature.

    Reference:
        The first inequality is Kolchinsky & Tracey, Entropy 2017.
    """
    low, high = bounds
    dim = likelihood.latent_dim
    like = next(likelihood.injection.parameters(), torch.empty(0))
    centre = likelihood.eta(torch.zeros(dim, dtype=like.dtype, device=like.device)).double()
    family = likelihood.family
    best = CeilingBound(0.0, 0.0, 1.0, 0.0)
    for outside in OUTSIDE:
        radius = math.sqrt(chi2.isf(outside, dim))
        try:
            curvature = float(family.least_curvature(centre, high * radius).min())
        except NoClosedFormError:
            return None
        nats = nats_within(0.25 * rows * curvature * low**2, dim, float(outside))
        if nats > best.nats:
            best = CeilingBound(nats, radius, float(outside), curvature)
    return best


def nats_within(u: float, latent_dim: int, outside: float) -> float:
    """Return the bound for one radius, by quadrature over |z|²."""
    inside = 1 - outside
    nodes, weights = _rule()
    squares = chi2.ppf(0.5 * inside * (nodes + 1), latent_dim)
    log_g = -0.5 * latent_dim * math.log1p(u) - 0.5 * u / (1 + u) * squares
    log_terms = np.minimum(np.logaddexp(log_g, math.log(outside)), 0.0)
    return float(-0.5 * inside * (weights * log_terms).sum())


@cache
def _rule() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return nodes, weights
