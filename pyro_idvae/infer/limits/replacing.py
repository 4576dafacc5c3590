# SPDX-License-Identifier: Apache-2.0
"""What the likelihood loses when part of a posterior draw is replaced by a prior draw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyro_idvae._chains import LEAST_PER_CHAIN, balanced, effective_sample_size
from pyro_idvae.infer.chain_mass import ChainMass
from pyro_idvae.infer.limits.coordinates import Array, Moments
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.side_by_side import densities_of, prior_draws

LEAST_DRAWS, MOST_DRAWS = 100, 1000
"""Draws in which a latent is replaced: at least and at most, if there are as many."""
NUMBERS_AT_ONCE = 2**26
"""How many numbers these draws hold at most, beyond the least of them."""
EVALUATIONS = 4
"""Evaluations of a row for each iteration of its chains: with their gradients these take five
times as many, or more."""


def thinned(values: Values, cost: int, wanted: int | None) -> Tensor:
    """Return which draws of each chain to use.

    Args:
        values: draws, of shape ``(chain, draw) + site shape``.
        cost: evaluations for each draw.
        wanted: how many, of all chains together; found from the cost if None.
    """
    chains, draws = next(iter(values.values())).shape[:2]
    if wanted is None:
        numbers = sum(value[0, 0].numel() for value in values.values())
        affordable = min(EVALUATIONS * chains * draws // cost, NUMBERS_AT_ONCE // max(numbers, 1))
        wanted = max(LEAST_DRAWS, min(MOST_DRAWS, affordable))
    each = min(max(-(-wanted // chains), LEAST_PER_CHAIN), draws)
    return torch.linspace(0, draws - 1, each).round().long()


class Replacing:
    r"""log p(x|z) − log p(x|z_−k, z_k') with z from the posterior and z_k' from the prior.

    For independent prior coordinates its mean is

    .. math:: \mathbb E_{p(z_{-k}|x)}\bigl[\mathrm{KL}(p(z_k|z_{-k},x)\,\|\,p(z_k))
        + \mathrm{KL}(p(z_k)\,\|\,p(z_k|z_{-k},x))\bigr]

    0 exactly where the likelihood does not depend on :math:`z_k` whatever the others, and at least
    KL(p(z_k|x) ‖ p(z_k)), since the marginal is a mixture of conditionals and KL is convex.

    Args:
        bound: the model.
        values: draws, of shape ``(chain, draw) + site shape``.
        mass: of the chains.
        chosen: the draws of each chain to use.
    """

    def __init__(
        self, bound: BoundModel, values: Values, mass: ChainMass | None, chosen: Tensor
    ) -> None:
        self.bound, self.mass = bound, mass
        chains = next(iter(values.values())).shape[0]
        self.shape = chains, len(chosen)
        self.shared = any(bound.row_place(name) is None for name in bound.latents)
        self.base = {
            name: value[:, chosen.to(value.device)].flatten(0, 1) for name, value in values.items()
        }
        terms = densities_of(bound, self.base).likelihood
        # What is outside the data plate and the same for all draws depends on no latent.
        self.names = [
            name for name, t in terms.items() if t.dim() > 1 or bool((t != t[0]).any())
        ] or list(terms)
        self.by_row = all(terms[name].dim() > 1 for name in self.names)
        self.before = self._total(terms)

    def prior(self) -> Values:
        """Return as many draws from the prior."""
        return prior_draws(self.bound, self.shape[0] * self.shape[1]).values

    def _total(self, terms: Values) -> Tensor:
        """Return the log-likelihood row by row, of shape ``(draws, rows)``, or ``(draws, 1)``."""
        kept = [terms[name] for name in self.names]
        if not self.by_row:
            kept = [t.reshape(len(t), -1).sum(1, keepdim=True) for t in kept]
        return torch.stack(kept).sum(0)

    def moments(self, changed: Values, *, local: bool) -> Moments:
        """Return the moments of the change, of shape ``(rows,)`` if local, else ``(1,)``.

        Args:
            changed: the draws of the sites in which something was replaced.
            local: whether that was a latent of each row.
        """
        after = self._total(densities_of(self.bound, {**self.base, **changed}).likelihood)
        change = (self.before - after).double()
        rounding = torch.finfo(self.before.dtype).eps * self.before.abs().amax(0).double()
        if self.by_row and not local:
            change, rounding = change.sum(1, keepdim=True), rounding.sum(0, keepdim=True)
        elif local and not self.by_row:
            # One number for all rows: each gets its share, and the mean over rows is right.
            change, rounding = change / self.bound.rows, rounding / self.bound.rows
        series = change.unflatten(0, self.shape).cpu().numpy()
        total = float(series.shape[0] * series.shape[1])
        most = np.full(series.shape[2], total)
        if self.mass is not None and local and self.by_row:
            series = balanced(series, self.mass.mass.cpu().double().numpy())
            most = np.minimum(most, self.mass.worth(int(total)).cpu().numpy())
        # A prior draw may be one that the likelihood rules out.
        finite = np.isfinite(series).all((0, 1))
        kept = np.where(finite, series, 0.0)
        size = np.clip(effective_sample_size(kept), 1.0, np.maximum(most, 1.0))
        mean = np.where(finite, kept.mean((0, 1)), np.inf)
        variance = kept.var((0, 1), ddof=1) + rounding.cpu().numpy() ** 2 * size
        if local and not self.by_row:
            rows = self.bound.rows
            # As if of rows that are independent: the error of their mean is that of the one number.
            mean, variance, size = (np.repeat(a, rows) for a in (mean, variance * rows, size))
        elif local and self.shared:
            variance = variance * _shared_noise(kept.mean(2, keepdims=True), variance / size)
        return Moments(mean, variance, size)


def _shared_noise(mean: Array, errors: Array) -> float:
    """Return by how much the squared error of a mean over rows exceeds that of independent ones."""
    total = float(mean.shape[0] * mean.shape[1])
    own = float(mean.var(ddof=1)) / min(float(effective_sample_size(mean)[0]), total)
    apart = float(errors.sum()) / len(errors) ** 2
    return max(1.0, own / apart) if apart > 0 else 1.0
