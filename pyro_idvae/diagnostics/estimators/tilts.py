# SPDX-License-Identifier: Apache-2.0
"""Maximum-entropy fits of many one-dimensional laws relative to N(0, 1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import eval_legendre, ndtr

Array = np.ndarray[Any, Any]

ORDERS = np.arange(3, 9)
"""Orders of the Legendre polynomials of u = Φ(z). The first two are replaced by z and z²."""
GRID = np.linspace(-9.0, 9.0, 121)
BASE = np.exp(-(GRID**2) / 2) / np.exp(-(GRID**2) / 2).sum()
PENALTY = 0.01
"""Weight of the penalty on squared Legendre coefficients. It keeps coefficients that a narrow law
cannot determine near 0."""
MAX_STEPS = 40
TOLERANCE = 1e-9
FREE = 2


class Tilt(NamedTuple):
    """Fits dp/dN(0,1) ∝ exp(c·features) of B laws.

    Attributes:
        kl: KL(p ‖ N(0,1)) in nats, of shape ``(B,)``.
        coefficients: c, in units of :func:`features`, of shape ``(B, m)``.
        log_normaliser: of exp(c·features) under N(mean, sd), of shape ``(B,)``.
        directions: an orthogonal basis of the features under p, of shape ``(B, m, m)``, in rows.
        weights: share in [0, 1] of a degree of freedom that each takes up, of shape ``(B, m)``.
    """

    kl: Array
    coefficients: Array
    log_normaliser: Array
    directions: Array
    weights: Array


def features(standardised: Array, scores: Array) -> Array:
    """Return t, t² − 1 and √(2k+1) L_k(2Φ(x) − 1), of shape ``(m,) + t.shape``."""
    centred = 2.0 * ndtr(scores) - 1.0
    legendre = [np.sqrt(2 * k + 1.0) * eval_legendre(k, centred) for k in ORDERS]
    return np.stack([standardised, standardised**2 - 1.0, *legendre])


def fit_tilts(mean: Array, sd: Array, moments: Array) -> Tilt:
    r"""Fit the tilted law with given moments, by Newton on the dual.

    .. math:: \max_c\; c\cdot\mu - \log\mathbb E_{N(m,s)}e^{c\cdot\phi}
        - \tfrac\lambda2\sum_{k\ge3}c_k^2

    and KL(p ‖ N(0,1)) = −log s + (s² + m² − 1)/2 + c·μ − log E exp(c·φ): the Normal part is exact
    whatever m and s, and what is fitted is the departure from it alone.

    Args:
        mean: m of each law, of shape ``(B,)``.
        sd: s > 0 of each law, of shape ``(B,)``.
        moments: μ, means of :func:`features`, of shape ``(B, m)``.
    """
    phi = np.moveaxis(
        features(np.broadcast_to(GRID, (len(mean), len(GRID))), _points(mean, sd)), 0, 1
    )
    penalty = np.where(np.arange(phi.shape[1]) < FREE, 0.0, PENALTY)
    c = np.zeros_like(moments)
    active = np.arange(len(mean))
    value = _dual(phi, c, moments, penalty)[0]
    for _ in range(MAX_STEPS):
        part = phi[active]
        _, weights, centre = _dual(part, c[active], moments[active], penalty)
        hessian = _covariance(part, weights, centre) + np.diag(penalty + 1e-10)
        gradient = moments[active] - centre - penalty * c[active]
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        decrement = (step * gradient).sum(1)
        length = np.ones(len(active))
        for _ in range(MAX_STEPS):
            trial = c[active] + length[:, None] * step
            new = _dual(part, trial, moments[active], penalty)[0]
            good = new >= value[active] + 1e-4 * length * decrement - TOLERANCE
            if good.all():
                break
            length = np.where(good, length, length / 2)
        c[active], value[active] = trial, new
        active = active[decrement > TOLERANCE]
        if not len(active):
            break
    _, weights, centre = _dual(phi, c, moments, penalty)
    log_normaliser = _log_normaliser(phi, c)[0]
    normal = -np.log(sd) + (sd**2 + mean**2 - 1.0) / 2.0
    excess = np.maximum((c * moments).sum(1) - log_normaliser, 0.0)
    directions, shares = _basis(_covariance(phi, weights, centre))
    return Tilt(normal + excess, c, log_normaliser, directions, shares)


def _points(mean: Array, sd: Array) -> Array:
    points: Array = mean[:, None] + sd[:, None] * GRID
    return points


def _log_normaliser(phi: Array, c: Array) -> tuple[Array, Array]:
    """Return log E exp(c·φ) and the tilted law's weights on the grid."""
    exponent = np.einsum("bm,bmg->bg", c, phi)
    top = exponent.max(1, keepdims=True)
    mass = BASE * np.exp(exponent - top)
    total = mass.sum(1, keepdims=True)
    return (np.log(total) + top)[:, 0], mass / total


def _dual(phi: Array, c: Array, moments: Array, penalty: Array) -> tuple[Array, Array, Array]:
    log_normaliser, weights = _log_normaliser(phi, c)
    value = (c * moments - penalty * c**2 / 2).sum(1) - log_normaliser
    return value, weights, np.einsum("bg,bmg->bm", weights, phi)


def _covariance(phi: Array, weights: Array, centre: Array) -> Array:
    covariance: Array = (phi * weights[:, None]) @ np.swapaxes(phi, 1, 2)
    covariance -= centre[:, :, None] * centre[:, None, :]
    return covariance


def _basis(covariance: Array) -> tuple[Array, Array]:
    """Return uncorrelated combinations of the features and the weight of each.

    The Normal features come first and are not penalised; the others are taken net of them. A
    penalised direction of variance f adds δ² f (f + 2λ)/(f + λ)² / 2f to the fitted KL where one
    without penalty adds δ²/2f.
    """
    size, total = len(covariance), covariance.shape[1]
    normal, mixed = covariance[:, :FREE, :FREE], covariance[:, FREE:, :FREE]
    slope = mixed @ np.linalg.inv(normal)
    rest = covariance[:, FREE:, FREE:] - slope @ np.swapaxes(mixed, 1, 2)
    variance, vectors = np.linalg.eigh(rest)
    variance = np.maximum(variance, 0.0)
    directions = np.zeros((size, total, total))
    directions[:, 0, 0] = directions[:, 1, 1] = 1.0
    directions[:, 1, 0] = -normal[:, 0, 1] / normal[:, 0, 0]
    rows = np.swapaxes(vectors, 1, 2)
    directions[:, FREE:, FREE:] = rows
    directions[:, FREE:, :FREE] = -rows @ slope
    weights = np.ones((size, total))
    weights[:, FREE:] = variance * (variance + 2 * PENALTY) / (variance + PENALTY) ** 2
    return directions, weights
