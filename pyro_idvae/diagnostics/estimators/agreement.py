# SPDX-License-Identifier: Apache-2.0
"""How far two sets of columns agree up to classes of maps, for a jackknife over blocks of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyro_idvae.diagnostics.estimators.alignments import (
    affine,
    explained_by_rank,
    orthogonal,
    permutation,
)
from pyro_idvae.diagnostics.estimators.block_moments import BlockMoments
from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
from pyro_idvae.diagnostics.estimators.jackknife import all_and_without_each, jackknife
from pyro_idvae.diagnostics.estimators.pairing import mean_matched, paired_correlations

Array = np.ndarray[Any, Any]

BIASED = ("orthogonal", "affine")
"""Classes whose R² are of the rows that maps were fitted to: too large, as 1/n."""


CLEAR = 2.0
"""Standard errors above 0 from which on a share is no chance."""


class Direction(NamedTuple):
    """What A says of B; arrays have the replicates of a jackknife first."""

    shares: dict[str, Array]
    """R² of all columns of B together, by class of maps."""
    each: Array
    """R² of each column of B under the affine maps, of shape ``(replicates, K)``."""
    correlation: Array
    """Of each column of B with its partner in A, likewise; 0 for a column without one."""


class Agreement(NamedTuple):
    """What A says of B, what B says of A, and their mean correlation coefficient."""

    forward: Direction
    back: Direction
    mcc: Array


class InSample(NamedTuple):
    """Measures on the rows that maps and pairs are fitted to, of shape ``batch``."""

    forward: dict[str, Array]
    back: dict[str, Array]
    mcc: Array


def agreement(first: Array, second: Array, block: Array, splits: Array) -> Agreement:
    r"""Return how far columns agree, from all blocks of rows and without each of them.

    *Orthogonal and affine maps*, W: on the rows that they are fitted to,

    .. math:: R^2 = 1 - \frac{\sum |b - W^\top a|^2}{\sum |b|^2}

    which :func:`jackknife` is to rid of the bias of the fit, J/n for independent columns.

    *Permutations*: of correlations r by :func:`paired_correlations`, a line for each pair,

    .. math:: 1 - R^2 = (1 - r^2)\frac{n - 1}{n - 2}

    *Mean correlation coefficient*: the mean of r over the columns of the larger side, where those
    without a partner count as 0.

    Args:
        first: A, of shape ``(rows, J)``.
        second: B, of shape ``(rows, K)``.
        block: number of each row's block, of shape ``(rows,)``.
        splits: ways to deal the blocks into groups, by :func:`splits_of`.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.agreement import agreement
        >>> from pyro_idvae.diagnostics.estimators.block_moments import deal
        >>> from pyro_idvae.diagnostics.estimators.pairing import splits_of
        >>> rng = np.random.default_rng(0)
        >>> a, block = rng.normal(size=(200, 2)), deal(200, 30, rng)
        >>> turned = a @ np.array([[0.8, 0.6], [-0.6, 0.8]])
        >>> found = agreement(a, turned, block, splits_of(30, 2, rng))
        >>> found.forward.shares["orthogonal"].shape
        (31,)
        >>> bool(found.forward.shares["orthogonal"][0] > 0.999), bool(found.mcc[0] < 0.9)
        (True, True)
    """
    size = first.shape[1]
    moments = BlockMoments.of(np.concatenate([first, second], 1), block)
    kept = all_and_without_each(splits.shape[-1])
    products = CrossProducts.split(moments.centred(kept, around=kept), size)
    of_first, of_second = paired_correlations(moments, size, kept, splits)
    rows = kept @ moments.size
    return Agreement(
        _direction(products, of_second, rows),
        _direction(products.swapped(), of_first, rows),
        of_second.sum(-1) / max(size, second.shape[1]),
    )


def _direction(products: CrossProducts, correlation: Array, rows: Array) -> Direction:
    spread = products.spread()
    by_affine = products.explained(affine(products))
    rank = directions_shared(products, by_affine.sum(-1) / spread.sum(-1))
    unlike = (1.0 - np.square(correlation)) * ((rows - 1) / (rows - 2))[:, None]
    explained = {
        "permutation": np.where(correlation != 0, 1.0 - unlike, 0.0) * spread,
        "orthogonal": products.explained(orthogonal(products, rank)),
        "affine": by_affine,
    }
    shares = {name: each.sum(-1) / spread.sum(-1) for name, each in explained.items()}
    return Direction(shares, by_affine / spread, correlation)


def directions_shared(products: CrossProducts, affine_share: Array) -> Array:
    """Return how many directions orthogonal maps are to have, the same number in all replicates.

    So many that they explain most of B; but all there are if A and B may have nothing in common:
    of noise the number that explains most is a choice that explains too much.

    Args:
        products: from all blocks of rows, then without each of them.
        affine_share: R² of the affine maps, likewise.
    """
    explained = explained_by_rank(CrossProducts(*(part[0] for part in products)))
    found = jackknife(affine_share, biased=True)
    related = found.estimate > CLEAR * found.error
    return np.asarray(np.argmax(explained) + 1 if related else len(explained))


def in_sample(products: CrossProducts) -> InSample:
    """Return measures of agreement on the rows that maps and pairs are fitted to.

    Args:
        products: of columns A and B.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.agreement import in_sample
        >>> from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
        >>> rng = np.random.default_rng(0)
        >>> noise = CrossProducts.of(rng.normal(size=(50, 8)), rng.normal(size=(50, 8)))
        >>> found = in_sample(noise)
        >>> bool(found.mcc > 0.15), bool(found.forward["affine"] > 0.1)
        (True, True)
    """
    return InSample(_shares(products), _shares(products.swapped()), mean_matched(products))


def _shares(products: CrossProducts) -> dict[str, Array]:
    spread = products.spread().sum(-1)
    return {
        name: products.explained(align(products)).sum(-1) / spread
        for name, align in (
            ("permutation", permutation),
            ("orthogonal", orthogonal),
            ("affine", affine),
        )
    }


def by_chance(first: Array, second: Array, count: int, generator: np.random.Generator) -> InSample:
    """Return the measures of :func:`in_sample` of as many shuffles of the rows of B.

    Args:
        first: A, of shape ``(rows, J)``.
        second: B, of shape ``(rows, K)``.
        count: shuffles.
        generator: of the shuffles.

    Returns:
        Measures of shape ``(count,)``.
    """
    own = CrossProducts.of(first, second)
    a, b = first - first.mean(0), second - second.mean(0)
    cross = np.stack([a.T @ b[generator.permutation(len(b))] for _ in range(count)])
    one, other = (np.broadcast_to(part, (count, *part.shape)) for part in (own.first, own.second))
    return in_sample(CrossProducts(one, cross, other))
