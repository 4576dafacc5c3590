# SPDX-License-Identifier: Apache-2.0
"""ELBO, KL and importance-weighted bound of each row, from the same draws of a guide."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp
from tqdm.auto import tqdm

from pyro_idvae.diagnostics.importance import check_log_weights, weight_blocks
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.diagnostics.weights import RunningWeights, sum_terms
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.guide_density import check_guide_density

Array = np.ndarray[Any, Any]

UNRELIABLE_K = 0.7


class GuidePass(NamedTuple):
    """What one set of a guide's draws says of each row, in nats."""

    elbo: RowEstimate
    kl: RowEstimate
    """KL(q(z|x) ‖ p(z)) of all latents together."""
    importance_bound: RowEstimate
    """Its error is NaN where k is above 0.7 or unknown."""
    pareto_k: Array
    """k of each row's importance weights, as of :class:`ImportanceEstimate`."""


def guide_pass(bound: BoundModel, num_samples: int, *, progress: bool = False) -> GuidePass:
    r"""Draw from a guide once and return what its draws say.

    With S draws :math:`z_s \sim q(z|x)` and :math:`w_s = p(x, z_s) / q(z_s|x)`

    .. math:: \frac1S\sum_s\log w_s, \qquad \frac1S\sum_s\log\frac{q(z_s|x)}{p(z_s)}, \qquad
        \log\frac1S\sum_s w_s

    Args:
        bound: model and guide on their data.
        num_samples: draws S, of each row.
        progress: show a progress bar.

    Raises:
        ArgumentError: for a guide without a density of its own in each row.
        DataError: for log weights that are NaN or +inf.
    """
    check_guide_density(bound)
    running = RunningWeights(bound.rows, num_samples)
    elbo, kl = RunningMean(bound.rows), RunningMean(bound.rows)
    log_squares = np.full(bound.rows, -np.inf)
    with tqdm(total=bound.rows * num_samples, desc="guide draws", disable=not progress) as bar:
        for terms in weight_blocks(bound, num_samples):
            weights = sum_terms(list(terms.values()))
            check_log_weights(weights.values, terms, first=0)
            running.add(weights)
            log_squares = np.logaddexp(log_squares, logsumexp(2 * weights.values, axis=-1))
            elbo.add(weights.values.T)
            prior = [terms[name].astype(np.float64) for name in bound.latents]
            kl.add(-terms["log_q"].astype(np.float64) - sum(prior))
            bar.update(weights.values.size)
    log_mean = running.log_mean()
    with np.errstate(invalid="ignore"):
        # (Σw²) / (Σw)², one over the effective sample size.
        share = np.exp(log_squares - 2 * (log_mean + math.log(num_samples)))
        error = np.sqrt(np.maximum(num_samples * share - 1, 0) / (num_samples - 1))
    k = running.pareto_k()
    # Weights without a variance have no standard error: what draws would show of it is too small.
    bound_of_row = RowEstimate(log_mean, np.where(k <= UNRELIABLE_K, error, np.nan))
    return GuidePass(elbo.estimate(), kl.estimate(), bound_of_row, k)


class RunningMean:
    """The mean of draws that come in blocks, and its standard error, row by row.

    Args:
        rows: data points.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.evaluation.guide_pass import RunningMean
        >>> running = RunningMean(1)
        >>> running.add(np.array([[1.0], [2.0]]))
        >>> running.add(np.array([[6.0]]))
        >>> found = running.estimate()
        >>> found.value, found.error.round(3)
        (array([3.]), array([1.528]))
    """

    def __init__(self, rows: int) -> None:
        self._number = 0
        self._sum, self._squares = np.zeros(rows), np.zeros(rows)
        self._pivot: Array | None = None

    def add(self, block: Array) -> None:
        """Take in draws of shape ``(draws, rows)``; −inf is one."""
        if self._pivot is None:
            # Squares are taken around a point close to the mean: around 0 they would cancel.
            self._pivot = np.where(np.isfinite(block[0]), block[0], 0.0)
        off = block - self._pivot
        self._number += len(block)
        self._sum += off.sum(0)
        self._squares += np.square(off).sum(0)

    def estimate(self) -> RowEstimate:
        """Return the mean of each row; its error is NaN where the mean is infinite."""
        number, pivot = self._number, 0.0 if self._pivot is None else self._pivot
        with np.errstate(invalid="ignore"):
            spread = self._squares - np.square(self._sum) / number
            error = np.sqrt(np.maximum(spread, 0.0) / (number * (number - 1)))
        return RowEstimate(pivot + self._sum / number, error)
