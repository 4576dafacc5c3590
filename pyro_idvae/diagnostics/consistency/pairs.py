# SPDX-License-Identifier: Apache-2.0
"""Every run held against every other, and what is left out of account block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from pyro_idvae.diagnostics.consistency.means import Means
from pyro_idvae.diagnostics.estimators.agreement import (
    BIASED,
    Direction,
    agreement,
    by_chance,
    in_sample,
)
from pyro_idvae.diagnostics.estimators.alignments import CLASSES, matched
from pyro_idvae.diagnostics.estimators.block_moments import deal
from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
from pyro_idvae.diagnostics.estimators.pairing import splits_of
from pyro_idvae.errors import ArgumentError

Array = np.ndarray[Any, Any]

MOST_BLOCKS = 30
ROWS_A_LATENT = 8
"""Least rows for each latent: with fewer the bias of a fit is not what the jackknife takes off."""
LEAST_ROWS = 24
NUM_SHUFFLES = 50

MEASURES = ("mcc", *(f"r2_{name}" for name in CLASSES))
"""In the order of the tables."""
OF_FITTED = tuple(f"r2_{name}" for name in BIASED)
"""Measures whose replicates are of the rows that maps are fitted to."""


@dataclass
class Measured:
    """What one run says of another, from all blocks of rows and without each of them.

    Attributes:
        measures: by name, of shape ``(1 + blocks,)``.
        in_sample: what the rows show of the maps that are fitted to them, by name.
        by_chance: the mean of that where the rows of one run are shuffled.
        latent_share: R² of each active latent under the affine maps that are fitted to the same
            rows, of shape ``(1 + blocks, latents)``.
        correlation: of each active latent with its partner, likewise.
    """

    measures: dict[str, Array]
    latent_share: Array
    correlation: Array
    in_sample: dict[str, float] = field(default_factory=dict)
    by_chance: dict[str, float] = field(default_factory=dict)


class Dealt(NamedTuple):
    """How rows are dealt, and what shuffles them."""

    block: Array
    """Number of each row's block."""
    splits: Array
    """Ways to deal blocks into groups."""
    generator: np.random.Generator

    @classmethod
    def of(cls, rows: int, num_splits: int, seed: int) -> Dealt:
        """Deal rows."""
        generator = np.random.default_rng(seed)
        blocks = min(MOST_BLOCKS, 3 * (rows // 6))
        return cls(
            deal(rows, blocks, generator), splits_of(blocks, num_splits, generator), generator
        )


def measure_pairs(
    runs: list[Means], *, threshold: float, num_splits: int, seed: int
) -> dict[tuple[str, str], Measured]:
    """Return what each run says of each other one, by ordered pair.

    Raises:
        ArgumentError: for too few rows.
    """
    rows = len(runs[0].values)
    active = {run.name: _scaled(run.values[:, run.active(threshold)]) for run in runs}
    most = max(values.shape[1] for values in active.values())
    least = max(LEAST_ROWS, ROWS_A_LATENT * (most + 1))
    if rows < least:
        raise ArgumentError(
            f"the runs have {rows} rows: expected at least {least} for maps between {most} "
            f"latents, {ROWS_A_LATENT} for each and as many more, and never fewer than {LEAST_ROWS}"
        )
    dealt = Dealt.of(rows, num_splits, seed)
    found: dict[tuple[str, str], Measured] = {}
    for one, other in combinations(active, 2):
        there, back = _of_pair(active[one], active[other], dealt)
        found[(one, other)], found[(other, one)] = there, back
    return {pair: found[pair] for pair in _ordered(list(active))}


def _ordered(names: list[str]) -> Iterator[tuple[str, str]]:
    return ((one, other) for one in names for other in names if one != other)


def _scaled(values: Array) -> Array:
    """Return centred columns in a unit of all of them: angles between them are as they were."""
    centred = values - values.mean(0)
    size = np.sqrt(np.square(centred).mean()) if centred.size else 1.0
    scaled: Array = centred / size
    return scaled


def _of_pair(first: Array, second: Array, dealt: Dealt) -> tuple[Measured, Measured]:
    """Return what A says of B, and B of A."""
    if not (first.shape[1] and second.shape[1]):
        replicates = dealt.splits.shape[-1] + 1
        return _nothing(first, second, replicates), _nothing(second, first, replicates)
    found = agreement(first, second, dealt.block, dealt.splits)
    own = in_sample(CrossProducts.of(first, second))
    shuffled = by_chance(first, second, NUM_SHUFFLES, dealt.generator)
    there, back = (_measured(found.mcc, way) for way in (found.forward, found.back))
    for measured, shares, shares_by_chance in (
        (there, own.forward, shuffled.forward),
        (back, own.back, shuffled.back),
    ):
        measured.in_sample = _means(own.mcc, shares)
        measured.by_chance = _means(shuffled.mcc, shares_by_chance)
    return there, back


def _means(mcc: Array, shares: dict[str, Array]) -> dict[str, float]:
    means = {f"r2_{name}": float(share.mean()) for name, share in shares.items()}
    return {"mcc": float(mcc.mean()), **means}


def _measured(mcc: Array, direction: Direction) -> Measured:
    shares = {f"r2_{name}": share for name, share in direction.shares.items()}
    return Measured({"mcc": mcc, **shares}, direction.each, direction.correlation)


def _nothing(first: Array, second: Array, replicates: int) -> Measured:
    """Return what is said where one run has no latent with variance: nothing explains none."""
    known = np.zeros(replicates)
    unknown = np.full(replicates, np.nan)
    none = first.shape[1] == second.shape[1] == 0
    share = known if second.shape[1] else unknown
    measures = dict.fromkeys(MEASURES, share)
    measures["mcc"] = unknown if none else known
    each = np.zeros((replicates, second.shape[1]))
    numbers = {name: float(values[0]) for name, values in measures.items()}
    return Measured(measures, each, each, numbers, dict(numbers))


def partners(first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Return correlations of two runs' columns, and the places of partners.

    Args:
        first: A, of shape ``(rows, J)``.
        second: B, of shape ``(rows, K)``.

    Returns:
        Correlations of shape ``(J, K)``, and rows and columns of the pairs of the largest sum.
    """
    size = first.shape[1]
    related = np.corrcoef(first, second, rowvar=False)[:size, size:]
    return (related, *matched(related))
