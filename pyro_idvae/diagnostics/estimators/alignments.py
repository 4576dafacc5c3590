# SPDX-License-Identifier: Apache-2.0
"""Linear maps of one set of columns onto another, of least squared error in their class.

Each takes the products of columns A and B and returns W, of shape ``batch + (J, K)``: B is close to
A W.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts, diagonal

Array = np.ndarray[Any, Any]

CLASSES = ("permutation", "orthogonal", "affine")
"""The affine maps hold the other two."""
RANK = 1e-10
"""Directions of A whose variance is less than this share of the largest are none."""


def permutation(products: CrossProducts) -> Array:
    r"""Return a map of each column onto one column, times a number of either sign.

    The pairs are those of the largest sum of absolute correlations, each column in at most one.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.alignments import permutation
        >>> from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
        >>> cross = np.array([[0.1, -0.5], [0.4, 0.2]])
        >>> permutation(CrossProducts(np.eye(2), cross, np.eye(2)))
        array([[ 0. , -0.5],
               [ 0.4,  0. ]])
    """
    found = np.zeros(products.cross.shape)
    related = products.correlations()
    size = np.maximum(diagonal(products.first), np.finfo(float).tiny)
    slopes = products.cross / size[..., :, None]
    for place in np.ndindex(found.shape[:-2]):
        pairs = matched(related[place])
        found[place][pairs] = slopes[place][pairs]
    return found


def orthogonal(products: CrossProducts, rank: Array | None = None) -> Array:
    r"""Return a rotation or reflection times one number: Procrustes' problem.

    .. math:: W = sUV^\top, \qquad A^\top B = U\Sigma V^\top, \qquad
        s = \frac{\mathrm{tr}\,\Sigma}{\mathrm{tr}\,U^\top A^\top A\,U}

    of the leading singular vectors: a direction that has nothing in common with B would have to be
    rotated somewhere, and only add its variance.

    Args:
        products: of A and B.
        rank: number of singular vectors, of shape ``batch``; those that explain most if None.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.alignments import orthogonal
        >>> from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
        >>> turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
        >>> np.allclose(orthogonal(CrossProducts(np.eye(2), 3 * turn, 9 * np.eye(2))), 3 * turn)
        True
        >>> orthogonal(CrossProducts(np.eye(2), np.diag([0.9, 0.1]), np.eye(2)))
        array([[0.9, 0. ],
               [0. , 0. ]])

    Reference:
        Schönemann, *A generalized solution of the orthogonal Procrustes problem*, Psychometrika
        1966.
    """
    left, sizes, right = np.linalg.svd(products.cross, full_matrices=False)
    total, spread = _leading(products.first, left, sizes)
    if rank is None:
        rank = np.argmax(np.square(total) / spread, -1) + 1
    last = np.broadcast_to(rank, sizes.shape[:-1])[..., None] - 1
    scale = np.take_along_axis(total / spread, last, -1)
    kept = np.where(np.arange(sizes.shape[-1]) <= last, scale, 0.0)
    found: Array = (left * kept[..., None, :]) @ right
    return found


def explained_by_rank(products: CrossProducts) -> Array:
    """Return what orthogonal maps of 1, 2, … directions explain of the sum of squares of B.

    Args:
        products: of A and B.

    Returns:
        An array of shape ``batch + (min(J, K),)``.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.alignments import explained_by_rank
        >>> from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
        >>> explained_by_rank(CrossProducts(np.eye(2), np.diag([0.9, 0.1]), np.eye(2))).round(2)
        array([0.81, 0.5 ])
    """
    left, sizes, _ = np.linalg.svd(products.cross, full_matrices=False)
    total, spread = _leading(products.first, left, sizes)
    return np.asarray(np.square(total) / spread)


def _leading(first: Array, left: Array, sizes: Array) -> tuple[Array, Array]:
    """Return sums over the leading singular vectors of their values, and of A's variance there."""
    spread = np.cumsum((left * (first @ left)).sum(-2), -1)
    return np.cumsum(sizes, -1), np.maximum(spread, np.finfo(float).tiny)


def affine(products: CrossProducts) -> Array:
    r"""Return the map of least squares, :math:`(A^\top A)^{-1}A^\top B`.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.alignments import affine
        >>> from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
        >>> affine(CrossProducts(np.diag([2.0, 4.0]), np.ones((2, 1)), np.eye(1))).ravel()
        array([0.5 , 0.25])
    """
    inverse = np.linalg.pinv(products.first, rcond=RANK, hermitian=True)
    found: Array = inverse @ products.cross
    return found


def matched(related: Array) -> tuple[Array, Array]:
    """Return rows and columns of the pairs whose absolute correlations have the largest sum.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae.diagnostics.estimators.alignments import matched
        >>> matched(np.array([[0.1, -0.9], [0.8, 0.2]]))
        (array([0, 1]), array([1, 0]))
    """
    rows, columns = linear_sum_assignment(np.abs(related), maximize=True)
    return rows, columns
