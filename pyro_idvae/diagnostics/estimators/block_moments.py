# SPDX-License-Identifier: Apache-2.0
"""Second moments of rows by block, from which those of any union of blocks are sums."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


def deal(rows: int, blocks: int, generator: np.random.Generator) -> Array:
    """Return which block each row is dealt to, at random, all of one size but for one row.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.block_moments import deal
        >>> np.bincount(deal(8, 3, np.random.default_rng(0)))
        array([3, 3, 2])
    """
    return generator.permutation(np.arange(rows) % blocks)


class BlockMoments(NamedTuple):
    """Sums over the rows of each of G blocks, of D columns.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.block_moments import BlockMoments
        >>> values = np.array([[0.0], [2.0], [4.0]])
        >>> moments = BlockMoments.of(values, np.array([0, 1, 1]))
        >>> both = np.ones(2)
        >>> moments.centred(both, around=both)
        array([[8.]])
    """

    size: Array
    """Rows, of shape ``(G,)``."""
    total: Array
    """Of shape ``(G, D)``."""
    product: Array
    """Of shape ``(G, D, D)``."""

    @classmethod
    def of(cls, values: Array, block: Array) -> BlockMoments:
        """Return the moments of rows.

        Args:
            values: of shape ``(rows, D)``.
            block: number of each row's block, of shape ``(rows,)``.
        """
        parts = [values[block == number] for number in range(int(block.max()) + 1)]
        return cls(
            np.array([float(len(part)) for part in parts]),
            np.stack([part.sum(0) for part in parts]),
            np.stack([part.T @ part for part in parts]),
        )

    def centred(self, parts: Array, *, around: Array) -> Array:
        """Return sums of products of differences from a mean, over unions of blocks.

        Args:
            parts: 1 for the blocks of a union and 0 for others, of shape ``batch + (G,)``.
            around: the blocks whose mean is taken off, of a shape that broadcasts with it.

        Returns:
            An array of shape ``batch + (D, D)``.
        """
        size, total = (parts @ self.size)[..., None, None], parts @ self.total
        mean = (around @ self.total) / (around @ self.size)[..., None]
        mean = np.broadcast_to(mean, total.shape)
        cross = total[..., :, None] * mean[..., None, :]
        square = mean[..., :, None] * mean[..., None, :]
        product = np.tensordot(parts, self.product, 1)
        found: Array = product - cross - np.swapaxes(cross, -1, -2) + size * square
        return found
