# SPDX-License-Identifier: Apache-2.0
"""Ranks of truths among draws of their posteriors, thinned to as many as are independent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae._chains import LEAST_PER_CHAIN, effective_sample_size
from pyro_idvae.diagnostics.calibration.quantities import pairs_of, products
from pyro_idvae.errors import DataError

Array = np.ndarray[Any, Any]

WORST = 0.25
"""The share of replications whose chains may seem worth fewer draws than are kept: single estimates
of that are noisy, and ranks of exact chains of correlation .8 and .95 stayed uniform at the median
too."""


@dataclass(frozen=True)
class Measured:
    """Quantities of draws, and of the truths that the data were simulated from.

    Attributes:
        names: of the quantities.
        continuous: which of them are coordinates to pair.
        draws: of shape ``(chain, draw, replications, quantities)``.
        truth: of shape ``(replications, quantities)``.
        independent: whether the draws are.
        pareto_k: k of each replication's importance weights; None for a kernel.
    """

    names: list[str]
    continuous: list[int]
    draws: Array
    truth: Array
    independent: bool
    pareto_k: Array | None

    @staticmethod
    def joined(parts: list[Measured]) -> Measured:
        """Return several replications as one."""
        first = parts[0]
        k = None if first.pareto_k is None else np.concatenate([p.pareto_k for p in parts])
        return Measured(
            first.names,
            first.continuous,
            np.concatenate([part.draws for part in parts], 2),
            np.concatenate([part.truth for part in parts]),
            first.independent,
            k,
        )


class Ranks(NamedTuple):
    """Ranks of truths."""

    names: list[str]
    """Of the quantities, pairs included."""
    ranks: Array
    """Integers from 0 to ``num_draws``, of shape ``(replications, quantities)``."""
    num_draws: int
    """Draws among which the truths stand."""
    effective: float
    """Independent draws that the chains of three quarters of the replications are worth."""

    def with_more(self, others: Ranks) -> Ranks:
        """Return these ranks and those of other replications, among as many draws."""
        return self._replace(ranks=np.concatenate([self.ranks, others.ranks]))


def rank(
    measured: Measured, most: int, rng: np.random.Generator, *, like: Ranks | None = None
) -> Ranks:
    """Return the ranks of the truths, ties broken at random.

    Of draws of chains as many are kept, evenly spaced, as are independent for each quantity in
    three quarters of the replications: ranks among correlated draws are not uniform.

    Args:
        measured: draws and truths.
        most: draws to keep at most.
        rng: breaks the ties.
        like: ranks of other replications; as many draws are kept as there.

    Raises:
        DataError: for draws that are NaN.
    """
    if np.isnan(measured.draws).any() or np.isnan(measured.truth).any():
        raise DataError(
            "draws of the latents, or their likelihoods, are NaN: look at the model's parameters "
            "and at the kernel's divergences"
        )
    chains, each = measured.draws.shape[:2]
    effective = float(chains * each)
    if like is not None:
        most = like.num_draws
    elif not measured.independent:
        effective = min(effective, _worth(measured))
    wanted = max(1, min(most, int(effective)) // chains)
    kept = np.linspace(0, each - 1, min(wanted, each)).round().astype(int)
    draws = measured.draws[:, kept].reshape(-1, *measured.draws.shape[2:])
    names, found = [], []
    for name, values in _series(measured, np.concatenate([measured.truth[None], draws])):
        truth, others = values[0], values[1:]
        ties = (others == truth).sum(0)
        names.append(name)
        found.append((others < truth).sum(0) + rng.integers(0, ties + 1))
    return Ranks(names, np.stack(found, -1), len(draws), effective)


def _worth(measured: Measured) -> float:
    """Return how many independent draws chains are worth, for the worst of their quantities."""
    shape = measured.draws.shape
    if shape[1] < LEAST_PER_CHAIN:
        return 1.0
    flat, worst = measured.draws.reshape(-1, *shape[2:]), float(shape[0] * shape[1])
    for _, values in _series(measured, flat):
        with np.errstate(invalid="ignore"):
            sizes = effective_sample_size(values.reshape(shape[:3]))
        # Infinite where the likelihood of a draw is 0: nothing is known of such a chain.
        known = sizes[np.isfinite(sizes)]
        if len(known):
            worst = min(worst, float(np.quantile(known, WORST)))
    return worst


def _series(measured: Measured, values: Array) -> Iterator[tuple[str, Array]]:
    """Yield each quantity, pairs included, of values of shape ``(draws, replications, ...)``."""
    for place, name in enumerate(measured.names):
        yield name, values[..., place]
    for one, other in pairs_of(measured.continuous):
        name = f"{measured.names[one]} × {measured.names[other]}"
        yield name, products(values[..., one], values[..., other])
