# SPDX-License-Identifier: Apache-2.0
"""What the makers and the readers of stored draws agree on: labels, a checksum, names kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

STATISTICS = (
    "acceptance_rate",
    "chain_mass",
    "chain_mass_size",
    "diverging",
    "energy",
    "log_q",
    "row_diverging",
    "row_energy",
    "step_size",
)
"""Variables of ``sample_stats`` that are of no single site."""
PER_SITE = (
    "prior_score_",
    "checksum_",
    "limit_",
    "loadings_",
    "log_likelihood_",
    "direction_",
    "coordinate_",
)
"""How the names of other variables, and of the dimensions of directions, begin."""
OF_REPORTS = (
    "latent",
    "kl",
    "kl_standard_error",
    "divergence",
    "divergence_standard_error",
    "variation",
)
"""Names in reports' data by row."""


def coordinate_labels(name: str, axes: Sequence[Iterable[Any]]) -> tuple[str, ...]:
    """Return the labels of a site's coordinates: ``z``, ``z[0]`` or ``z[growth,1]``.

    Args:
        name: of the site.
        axes: the labels along each dimension of its value in one row.

    Example:
        >>> from pyro_idvae._stored import coordinate_labels
        >>> coordinate_labels("z", [["growth", "stress"]])
        ('z[growth]', 'z[stress]')
    """
    if not axes:
        return (name,)
    return tuple(f"{name}[{','.join(map(str, place))}]" for place in product(*axes))


def checksum(values: Array) -> Array:
    r"""Return what ties draws to the statistics that were made of them.

    .. math:: \frac{1}{K}\sum_k z_k + z_k^2

    over the coordinates of a site, in whatever order they come; it changes if draws are replaced,
    moved, scaled, rotated or put in another order.

    Args:
        values: z, of shape ``batch + (K,)``.

    Returns:
        An array of shape ``batch``, in double precision.

    Example:
        >>> import numpy as np
        >>> from pyro_idvae._stored import checksum
        >>> checksum(np.array([[1.0, 2.0]]))
        array([4.])
    """
    exact = values.astype(np.float64)
    total: Array = (exact + exact**2).mean(-1)
    return total


def is_kept(name: str) -> bool:
    """Tell whether ArviZ data or reports have a variable or a dimension of that name already.

    Example:
        >>> from pyro_idvae._stored import is_kept
        >>> is_kept("energy"), is_kept("limit_mean_z"), is_kept("gene")
        (True, True, False)
    """
    return name in STATISTICS + OF_REPORTS or name.startswith(PER_SITE)
