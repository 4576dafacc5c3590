# SPDX-License-Identifier: Apache-2.0
"""KL to the prior of one-dimensional latents, from draws, with confidence limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import xlogy

from pyro_idvae._chains import LEAST_PER_CHAIN, effective_sample_size
from pyro_idvae.diagnostics.estimators.kl_estimate import KLEstimate
from pyro_idvae.diagnostics.estimators.tilts import Tilt, features, fit_tilts
from pyro_idvae.errors import ArgumentError, DataError, ShapeError

Array = np.ndarray[Any, Any]

LEAST_DRAWS = 20
"""How many draws all chains together must have, to fit eight moments or a standard error."""
CHUNK = 2**22
"""How many numbers are held at once: draws times features times series."""


def kl_to_normal(
    draws: Array,
    *,
    reference_size: float = math.inf,
    independent: bool = False,
    worth: Any = math.inf,
) -> KLEstimate:
    r"""Estimate KL(p ‖ N(0,1)) of each series of draws, in nats.

    For a latent with prior cdf F, give its draws as Φ⁻¹(F(·)): the KL is the same on that scale.
    The law is fitted within

    .. math:: \frac{dp}{dN(0,1)} \propto \exp\Big(c_1 z + c_2 z^2 + \sum_{k=3}^{8} c_k
        L_k(2\Phi(z)-1)\Big)

    by its moments (maximum entropy), which is exact for every Normal law and otherwise the largest
    KL that these eight moments prove. Structure finer than about an eighth of the prior's mass
    is not seen. Near 0, 2n times the fit is χ² (Wilks), with n from the effective sample size of
    each moment in an uncorrelated basis.

    Args:
        draws: of shape ``(chain, draw) + batch``; values beyond 8 in size are fine.
        reference_size: independent prior draws behind F, if F is an empirical cdf.
        independent: whether the draws are known to be independent, as those of a guide.
        worth: independent draws that each series is worth at most, of a shape that broadcasts to
            ``batch``.

    Returns:
        A :class:`KLEstimate` of arrays of shape ``batch``.

    Raises:
        ShapeError: for fewer than two dimensions.
        ArgumentError: for fewer than 20 draws, or a reference of less than one.
        DataError: for draws that are not finite or, with F exact, all the same.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.divergence import kl_to_normal
        >>> draws = np.random.default_rng(0).normal(1.0, 0.5, size=(4, 500))
        >>> abs(float(kl_to_normal(draws).estimate) - 0.818) < 0.1
        True

    Reference:
        Barron & Sheu, *Approximation of density functions by sequences of exponential families*,
        Annals of Statistics 19, 1991.
    """
    draws = _check_draws("draws", draws)
    if not reference_size >= 1:
        raise ArgumentError(f"reference_size={reference_size!r}: expected a number of draws")
    if not np.isfinite(draws).all():
        raise DataError("draws are not all finite: no law fits them; look at the sampler")
    shape, batch = draws.shape[:2], draws.shape[2:]
    flat = draws.reshape(*shape, -1)
    most = np.broadcast_to(np.asarray(worth, dtype=float), batch).reshape(-1)
    step = max(1, CHUNK // (10 * shape[0] * shape[1]))
    parts = [
        _from_draws(
            flat[..., i : i + step].astype(float), reference_size, independent, most[i : i + step]
        )
        for i in range(0, flat.shape[2], step)
    ]
    return KLEstimate.concatenate(parts).reshape(batch)


def _check_draws(name: str, draws: Array) -> Array:
    draws = np.asarray(draws)
    if draws.ndim < 2:
        raise ShapeError(f"{name} has shape {draws.shape}: expected (chain, draw, ...)")
    if draws.shape[0] * draws.shape[1] < LEAST_DRAWS or draws.shape[1] < LEAST_PER_CHAIN:
        raise ArgumentError(
            f"{name} has {draws.shape[0]} × {draws.shape[1]} draws: a divergence needs at least "
            f"{LEAST_DRAWS}, and {LEAST_PER_CHAIN} a chain"
        )
    return draws


def _from_draws(z: Array, reference_size: float, independent: bool, worth: Array) -> KLEstimate:
    mean, sd = z.mean((0, 1)), z.std((0, 1))
    sd = np.maximum(sd, _resolution(mean, reference_size))
    # A series that stands still is told by rounding: its sd need not be 0.
    still = np.ptp(z.reshape(-1, z.shape[2]), axis=0) <= 1e-12 * (1.0 + abs(mean))
    if math.isinf(reference_size) and still.any():
        raise DataError(
            f"{int(still.sum())} of {len(sd)} series of draws are constant: the sampler did not "
            "move, or the guide is a point, whose KL is infinite"
        )
    t = (z - mean) / sd
    phi = features(t, z)
    tilt = fit_tilts(mean, sd, phi.mean((1, 2)).T)
    log_ratio = _log_ratio(tilt, phi, z, t, sd)
    total = z.shape[0] * z.shape[1]
    count = 1.0 / reference_size
    if independent:
        sizes = np.full(tilt.weights.shape, float(total))
        ratio_size = np.full(len(sd), float(total))
    else:
        rotated = np.einsum("bjm,mcdb->cdbj", tilt.directions, phi)
        sizes = effective_sample_size(rotated)
        ratio_size = effective_sample_size(log_ratio)
    sizes = np.minimum(sizes, worth[:, None])
    ratio_size = np.minimum(ratio_size, worth)
    noise = tilt.weights * (1.0 / sizes + count)
    # Among M draws of the prior no more than log(M + 1) nats can be seen.
    most = math.log1p(reference_size)
    return KLEstimate.from_noise(
        np.minimum(tilt.kl, most),
        noise.sum(1),
        (noise**2).sum(1),
        log_ratio.var((0, 1)) * (1.0 / ratio_size + count),
    )


def _resolution(mean: Array, reference_size: float) -> Array:
    """Return half a step of an empirical cdf, as a difference of normal scores near a mean."""
    if math.isinf(reference_size):
        return np.full(mean.shape, np.finfo(float).eps)
    # In the tail steps of the cdf are far apart as scores: no law is known to be narrower.
    density = np.exp(-0.5 * mean**2) / math.sqrt(2 * math.pi)
    found: Array = 0.5 / (reference_size * density)
    return found


def _blur(z: Array, reference_size: float) -> Array:
    """Return noise that brings series to the least spread that an empirical cdf can tell."""
    mean, variance = z.mean((0, 1)), z.var((0, 1))
    missing = np.maximum(_resolution(mean, reference_size) ** 2 - variance, 0.0)
    noise: Array = np.random.default_rng(0).normal(size=z.shape) * np.sqrt(missing)
    return noise


def fitted_log_ratio(draws: Array, points: Array, *, reference_size: float = math.inf) -> Array:
    """Return log dp/dN(0,1), fitted to draws as by :func:`kl_to_normal`, at other points.

    Args:
        draws: of shape ``(chain, draw) + batch``.
        points: of shape ``(chain', draw') + batch``.
        reference_size: independent prior draws behind the scores, if these are of an empirical cdf.

    Returns:
        An array of the shape of ``points``.
    """
    z = _check_draws("draws", draws).astype(float)
    flat = z.reshape(*z.shape[:2], -1)
    flat = flat + _blur(flat, reference_size)
    mean, sd = flat.mean((0, 1)), flat.std((0, 1))
    sd = np.maximum(sd, np.finfo(float).eps)
    tilt = fit_tilts(mean, sd, features((flat - mean) / sd, flat).mean((1, 2)).T)
    at = points.astype(float).reshape(*points.shape[:2], -1)
    t = (at - mean) / sd
    return _log_ratio(tilt, features(t, at), at, t, sd).reshape(points.shape)


def _log_ratio(tilt: Tilt, phi: Array, z: Array, t: Array, sd: Array) -> Array:
    """Return log dp/dN(0,1) at the draws, of shape ``(chain, draw, B)``."""
    excess = np.einsum("bm,mcdb->cdb", tilt.coefficients, phi) - tilt.log_normaliser
    ratio: Array = excess - np.log(sd) + (z**2 - t**2) / 2.0
    return ratio


def kl_from_labels(
    labels: Array,
    prior_probs: Array,
    *,
    reference_size: float = math.inf,
    independent: bool = False,
    worth: Any = math.inf,
) -> KLEstimate:
    r"""Estimate KL(p(y|x) ‖ p(y)) of integer draws, in nats.

    .. math:: \sum_c \hat p_c \log\frac{\hat p_c}{\pi_c}

    whose bias of (C − 1)/2n for C categories is taken off.

    Args:
        labels: draws in {0, …, C − 1}, of shape ``(chain, draw) + batch``.
        prior_probs: π, of shape ``(C,)`` or ``batch + (C,)``.
        reference_size: independent prior draws behind π, if it is a frequency.
        independent: whether the draws are known to be independent.
        worth: independent draws that each series is worth at most.

    Returns:
        A :class:`KLEstimate` of arrays of shape ``batch``; infinite where a draw has π = 0.

    Raises:
        ShapeError: for fewer than two dimensions, or another number of categories.
        ArgumentError: for fewer than 20 draws, or π that is no distribution.
        DataError: for labels that are not integers in range.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.divergence import kl_from_labels
        >>> labels = np.random.default_rng(0).integers(2, size=(2, 500))
        >>> float(kl_from_labels(labels, np.array([0.5, 0.5])).upper(0.95)) < 0.05
        True
    """
    labels = _check_draws("labels", labels)
    batch = labels.shape[2:]
    prior = check_simplex("prior_probs", prior_probs)
    categories = prior.shape[-1]
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool:
        raise DataError(f"labels have dtype {labels.dtype}: expected integers")
    labels = labels.astype(int)
    if labels.min() < 0 or labels.max() >= categories:
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}: expected 0 to {categories - 1}, "
            "the categories of prior_probs"
        )
    try:
        prior = np.broadcast_to(prior, (*batch, categories))
    except ValueError:
        raise ShapeError(
            f"prior_probs has shape {prior.shape}: expected {(*batch, categories)} or "
            f"({categories},)"
        ) from None
    total = labels.shape[0] * labels.shape[1]
    extra = 1.0 / reference_size
    share, trace = np.empty(prior.shape), np.zeros(batch)
    for c in range(categories):
        hit = labels == c
        share[..., c] = hit.mean((0, 1))
        size = np.full(batch, float(total)) if independent else effective_sample_size(hit)
        size = np.minimum(size, worth)
        # A category that is hardly ever drawn adds hardly any bias.
        trace += (1.0 - share[..., c]) * (1.0 / size + extra) * np.minimum(total * prior[..., c], 1)
    # Where all draws are of one label, no draw has told how noisy its share is.
    trace = np.maximum(trace, np.maximum(1.0 - prior.max(-1), 1e-6) / np.minimum(total, worth))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(share > 0, np.log(share) - np.log(prior), 0.0)
    raw = xlogy(share, np.where(share > 0, share, 1.0)).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = raw - np.where(share > 0, share * np.log(prior), 0.0).sum(-1)
    degrees = max((prior > 0).sum(-1).max() - 1, 1)
    finite = np.where(np.isfinite(ratio), ratio, 0.0)
    spread = (share * finite**2).sum(-1) - (share * finite).sum(-1) ** 2
    return KLEstimate.from_noise(raw, trace, trace**2 / degrees, spread * trace / degrees)


def check_simplex(name: str, probabilities: Any) -> Array:
    """Return probabilities of categories along the last dimension, checked and in double."""
    try:
        values = np.asarray(probabilities, dtype=float)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} holds no numbers: expected an array, (..., C)") from error
    if values.ndim < 1 or values.shape[-1] < 2:
        raise ShapeError(f"{name} has shape {values.shape}: expected (..., C), two categories up")
    if values.size == 0:
        raise ShapeError(f"{name} has shape {values.shape}: it is empty")
    if not (values.min() >= 0 and np.allclose(values.sum(-1), 1.0, atol=1e-4)):
        raise ArgumentError(f"{name} is no distribution: expected numbers from 0 that sum to 1")
    normalised: Array = values / values.sum(-1, keepdims=True)
    return normalised
