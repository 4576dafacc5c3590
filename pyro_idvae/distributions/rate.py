# SPDX-License-Identifier: Apache-2.0
"""From Lipschitz windows to windows in nats and back, for Gaussian noise of unit scale."""

from __future__ import annotations

import math
import sys
import warnings

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.transforms.bounds import check_bounds


def information_window(
    lipschitz_bounds: tuple[float, float], latent_dim: int
) -> tuple[float, float]:
    r"""Return the nats that x = f(z) + N(0, I) carries about z ~ N(0, I_K), at least and at most.

    .. math:: \tfrac K2\log(1+L^2) \le I(z;x) = \mathbb E_{p(x)}\mathrm{KL}(p(z|x)\,\|\,p(z))
        \le \tfrac K2\log(1+M^2)

    with equality for a linear f with equal singular values.

    Args:
        lipschitz_bounds: (L, M) of f, in units of the noise scale.
        latent_dim: K.

    Raises:
        ArgumentError: unless the bounds are a pair with 0 < L ≤ M, finite.

    Example:
        >>> from pyro_idvae.distributions import information_window
        >>> [round(nats, 3) for nats in information_window((1.0, 3.0), latent_dim=2)]
        [0.693, 2.303]

    Reference:
        Mutual information through Gaussian noise rises with all pairwise distances: Guo, Shamai &
        Verdú 2005 (I-MMSE); Aishwarya et al., arXiv 2409.03664.
    """
    half = 0.5 * check_count("latent_dim", latent_dim)
    low, high = check_bounds("lipschitz_bounds", lipschitz_bounds)
    return half * _log1p_square(low), half * _log1p_square(high)


def _log1p_square(number: float) -> float:
    """Return log(1 + a²), for squares beyond floating point too."""
    return math.log1p(number**2) if number < 1e100 else 2 * math.log(number)


def lipschitz_bounds_for(*, low: float, high: float, latent_dim: int) -> tuple[float, float]:
    r"""Return the Lipschitz bounds (L, M) whose window is ``low`` to ``high`` nats.

    The inverse of :func:`information_window`: :math:`L = \sqrt{e^{2\,\mathrm{low}/K} - 1}`.

    Args:
        low: nats wanted at least, in all K dimensions together.
        high: nats wanted at most; at least ``low``.
        latent_dim: K.

    Returns:
        (L, M), for ``brenier_injection(..., lipschitz_bounds=...)``.

    Raises:
        ArgumentError: for nats that are not positive, a ``high`` below ``low``, or one above 354
            nats for each latent dimension, whose M no floating point number holds.

    Example:
        >>> from pyro_idvae.distributions import lipschitz_bounds_for
        >>> [round(bound, 3) for bound in lipschitz_bounds_for(low=2.0, high=4.0, latent_dim=2)]
        [2.528, 7.321]
    """
    dim = check_count("latent_dim", latent_dim)
    floor = check_real("low", low, above=0.0)
    ceiling = check_real("high", high, at_least=floor)
    most = math.floor(0.5 * math.log(sys.float_info.max))
    if ceiling > most * dim:
        raise ArgumentError(
            f"high={high!r} with latent_dim={dim}: M = exp(high / latent_dim) is beyond floating "
            f"point; ask for at most {most * dim} nats, {most} for each latent dimension"
        )
    return math.sqrt(math.expm1(2 * floor / dim)), math.sqrt(math.expm1(2 * ceiling / dim))


def rate_window(*, low: float, high: float, latent_dim: int) -> tuple[float, float]:
    """Return what :func:`lipschitz_bounds_for` does; deprecated, the old name of it.

    Args:
        low: nats wanted at least.
        high: nats wanted at most.
        latent_dim: K.
    """
    warnings.warn(
        "rate_window() is deprecated: use lipschitz_bounds_for(), which is the same function",
        DeprecationWarning,
        stacklevel=2,
    )
    return lipschitz_bounds_for(low=low, high=high, latent_dim=latent_dim)
