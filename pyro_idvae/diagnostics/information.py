# SPDX-License-Identifier: Apache-2.0
"""Information that data carry about discrete latents, exactly from their probabilities."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import rel_entr

from pyro_idvae.diagnostics.estimators import check_simplex
from pyro_idvae.errors import ShapeError

Array = np.ndarray[Any, Any]


class DiscreteInformation(NamedTuple):
    """Information about a discrete latent, in nats.

    Attributes:
        kl: KL(p(y|x_i) ‖ p(y)) of each data point, of shape ``(..., N)``.
        mutual_information: I(x; y) over the N data points, of shape ``(...)``.
        aggregate_kl: KL of the mean over data points from the prior, of shape ``(...)``: a sanity
            check only, as a correct model has E_x p(y|x) = p(y).
        cap: log min(N, C), which ``mutual_information`` cannot exceed.
    """

    kl: Array
    mutual_information: Array
    aggregate_kl: Array
    cap: float


def discrete_information(probabilities: Any, prior_probabilities: Any) -> DiscreteInformation:
    r"""Return how much each data point says about its discrete latent, in nats.

    .. math:: \mathrm{KL}(p(y|x_i)\|p(y)) = \sum_c p_{ic}\log\frac{p_{ic}}{\pi_c}, \qquad
        I(x;y) = \frac1N\sum_i\mathrm{KL}(p_i\|\bar p)

    with p̄ the mean of the p_i. For mixtures whose assignments are summed out, at given
    parameters: p_i are the probabilities of ``GaussianMixture.assignment``.

    Args:
        probabilities: p(y = c | x_i), of shape ``(..., N, C)``.
        prior_probabilities: π, of shape ``(C,)`` or ``(..., C)``; leading dimensions go together,
            such as draws of the parameters.

    Returns:
        A :class:`DiscreteInformation`.

    Raises:
        ShapeError: for shapes that do not go together.
        ArgumentError: for what is no distribution.

    Example:
        >>> import pyro_idvae as idvae
        >>> found = idvae.discrete_information([[1.0, 0.0], [0.5, 0.5]], [0.5, 0.5])
        >>> found.kl.round(3).tolist(), round(float(found.mutual_information), 3)
        ([0.693, 0.0], 0.216)

    Reference:
        Hoffman & Johnson, *ELBO surgery*, NIPS workshop on approximate inference, 2016.
    """
    p = check_simplex("probabilities", probabilities)
    prior = check_simplex("prior_probabilities", prior_probabilities)
    if p.ndim < 2 or prior.shape[-1] != p.shape[-1]:
        raise ShapeError(
            f"probabilities has shape {p.shape} and prior_probabilities {prior.shape}: expected "
            "(..., N, C) and (..., C)"
        )
    mean = p.mean(-2)
    kl = rel_entr(p, prior[..., None, :]).sum(-1)
    information = rel_entr(p, mean[..., None, :]).sum(-1).mean(-1)
    aggregate = rel_entr(mean, prior).sum(-1)
    return DiscreteInformation(kl, information, aggregate, math.log(min(p.shape[-2:])))
