# SPDX-License-Identifier: Apache-2.0
"""Correlations of columns with their partners, none chosen by the rows that judge it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_idvae.diagnostics.estimators.alignments import matched
from pyro_idvae.diagnostics.estimators.block_moments import BlockMoments
from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts

Array = np.ndarray[Any, Any]

GROUPS = 3
"""Groups of rows: two that choose, and one that judges."""


def splits_of(blocks: int, count: int, generator: np.random.Generator) -> Array:
    """Return ways to deal blocks into three groups, of shape ``(count, 3, blocks)``.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.pairing import splits_of
        >>> splits_of(6, 2, np.random.default_rng(0)).sum((1, 2))
        array([6., 6.])
    """
    dealt = [generator.permutation(np.arange(blocks) % GROUPS) for _ in range(count)]
    return np.stack([[(one == group) * 1.0 for group in range(GROUPS)] for one in dealt])


def mean_matched(products: CrossProducts) -> Array:
    """Return the mean absolute correlation of partners, on the rows that chose them.

    Args:
        products: of columns A and B.

    Returns:
        An array of shape ``batch``; a column without a partner counts as 0.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
        >>> from pyro_idvae.diagnostics.estimators.pairing import mean_matched
        >>> cross = np.array([[0.1, -0.6], [0.4, 0.2]])
        >>> float(mean_matched(CrossProducts(np.eye(2), cross, np.eye(2))))
        0.5
    """
    related = np.abs(products.correlations())
    found = np.zeros(related.shape[:-2])
    for place in np.ndindex(found.shape):
        found[place] = related[place][matched(related[place])].sum() / max(related.shape[-2:])
    return found


def paired_correlations(
    moments: BlockMoments, size: int, kept: Array, splits: Array
) -> tuple[Array, Array]:
    """Return the correlation of each column with its partner, 0 for one without.

    Columns are paired, and signs chosen, by two groups of rows. The signed correlations of the
    third are 0 in the mean where A and B are independent. If all groups find the same pairs, what
    the three add up to is Pearson's correlation. Several ways to deal are averaged.

    Args:
        moments: of all columns, A's first.
        size: how many are A's.
        kept: blocks of each replicate, of shape ``(replicates, blocks)``.
        splits: by :func:`splits_of`.

    Returns:
        Arrays of shape ``(replicates, J)`` and ``(replicates, K)``, for the columns of A and of B.
    """
    whole = CrossProducts.split(moments.centred(kept, around=kept), size)
    unit = whole.scale()
    found = np.zeros(whole.cross.shape[:2]), np.zeros(unit.shape[::2])
    for split in splits:
        for group in split:
            own = CrossProducts.split(moments.centred(kept * group, around=kept), size)
            related = whole.less(own).correlations()
            signed = np.sign(related) * own.cross / unit
            for replicate, matrix in enumerate(related):
                rows, columns = matched(matrix)
                value = signed[replicate, rows, columns] / len(splits)
                found[0][replicate, rows] += value
                found[1][replicate, columns] += value
    return found
