# SPDX-License-Identifier: Apache-2.0
"""Sums of products of two sets of centred columns: all that linear maps between them depend on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class CrossProducts(NamedTuple):
    r"""Sums of products over rows of columns of A, of which there are J, and of B, of which K.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
        >>> a, b = np.array([[1.0], [-1.0]]), np.array([[2.0, 1.0], [-2.0, -1.0]])
        >>> CrossProducts.of(a, b).cross
        array([[4., 2.]])
    """

    first: Array
    """:math:`A^\\top A`, of shape ``batch + (J, J)``."""
    cross: Array
    """:math:`A^\\top B`, of shape ``batch + (J, K)``."""
    second: Array
    """:math:`B^\\top B`, of shape ``batch + (K, K)``."""

    @classmethod
    def of(cls, first: Array, second: Array) -> CrossProducts:
        """Return those of columns around their means, of shapes ``(rows, J)`` and ``(rows, K)``."""
        a, b = first - first.mean(0), second - second.mean(0)
        return cls(a.T @ a, a.T @ b, b.T @ b)

    @classmethod
    def split(cls, products: Array, size: int) -> CrossProducts:
        """Return those of the first ``size`` columns, and of the others, of all columns' ones."""
        return cls(
            products[..., :size, :size], products[..., :size, size:], products[..., size:, size:]
        )

    def swapped(self) -> CrossProducts:
        """Return those of B and A."""
        return CrossProducts(self.second, np.swapaxes(self.cross, -1, -2), self.first)

    def less(self, part: CrossProducts) -> CrossProducts:
        """Return those of the rows that are not in a part of them."""
        return CrossProducts(*(every - own for every, own in zip(self, part, strict=True)))

    def spread(self) -> Array:
        """Return sums of squares of the columns of B, of shape ``batch + (K,)``."""
        return diagonal(self.second)

    def scale(self) -> Array:
        """Return the unit of correlations, of the shape of ``cross``."""
        squares = diagonal(self.first)[..., :, None] * self.spread()[..., None, :]
        return np.asarray(np.sqrt(squares))

    def correlations(self) -> Array:
        """Return correlations of the columns of A with those of B, 0 for a column of none."""
        unit = self.scale()
        return np.divide(self.cross, unit, out=np.zeros(self.cross.shape), where=unit > 0)

    def explained(self, maps: Array) -> Array:
        r"""Return how much of the sum of squares of each column of B a linear map explains.

        .. math:: \sum b^2 - (b - W^\top a)^2

        Args:
            maps: W, of the shape of ``cross``.

        Returns:
            An array of shape ``batch + (K,)``.
        """
        found: Array = (maps * (2.0 * self.cross - self.first @ maps)).sum(-2)
        return found


def diagonal(products: Array) -> Array:
    """Return the diagonals of square matrices, of shape ``batch + (K,)``."""
    found: Array = np.diagonal(products, axis1=-2, axis2=-1)
    return found
