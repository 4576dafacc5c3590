# SPDX-License-Identifier: Apache-2.0
"""Priors whose entropy and variance are known: what they let through a noisy channel."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_idvae.distributions import information_window
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.programs.likelihood_call import is_standard_normal
from pyro_idvae.programs.sites import unwrap_events

INDEPENDENT = {
    dist.Beta: ("concentration1", "concentration0"),
    dist.Chi2: ("df",),
    dist.Exponential: ("rate",),
    dist.Gamma: ("concentration", "rate"),
    dist.Gumbel: ("loc", "scale"),
    dist.HalfNormal: ("scale",),
    dist.Laplace: ("loc", "scale"),
    dist.LogNormal: ("loc", "scale"),
    dist.Normal: ("loc", "scale"),
    dist.StudentT: ("df", "loc", "scale"),
    dist.Uniform: ("low", "high"),
    dist.Weibull: ("scale", "concentration"),
}
"""Distributions of one number whose entropy and variance are closed forms, and their arguments."""

# By type and not by subclass: what a subclass changes, its entropy may not follow.
JOINT = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)

ENTROPY_OF_NORMAL = 0.5 * math.log(2 * math.pi * math.e)


class Prior(NamedTuple):
    r"""A prior of K coordinates, one row for each value that there is.

    Through noise N(0, I) a factor c lets pass

    .. math:: \tfrac12\sum_k\log(1 + c^2\,\mathrm{least}_k) \le I(z; cz + N) \le
        \tfrac12\sum_k\log(1 + c^2\,\mathrm{most}_k)

    nats. Independent coordinates have their entropy powers exp(2h)/(2πe) for the least and their
    variances for the most, a multivariate Normal the eigenvalues of its covariance for both.
    """

    least: Tensor
    """Of shape ``(values, K)``, in double precision."""
    most: Tensor
    given_others: Tensor
    """The least of each coordinate alone, the others given."""
    text: str
    standard: bool = False

    @property
    def same_for_all(self) -> bool:
        """Whether all values of the latent have one prior."""
        return bool((self.least == self.least[:1]).all() and (self.most == self.most[:1]).all())

    def nats(self, factors: tuple[float, float]) -> tuple[float, float, float]:
        """Return nats at least for the lower factor, at most for the upper, and of a coordinate."""
        low, high = factors
        if self.standard:
            # In the words of the bare likelihood, to the last digit.
            size = self.least.shape[-1]
            upper = information_window((high, high), size)[1] if high > 0 else 0.0
            if not low > 0:
                return 0.0, upper, 0.0
            window = (low, max(low, high))
            return information_window(window, size)[0], upper, information_window(window, 1)[0]
        least, most, one = (
            0.5 * (factor**2 * power).log1p()
            for factor, power in ((low, self.least), (high, self.most), (low, self.given_others))
        )
        return least.sum(-1).min().item(), most.sum(-1).max().item(), one.min().item()


def standard_prior(latent_dim: int) -> Prior:
    """Return N(0, I)."""
    ones = torch.ones(1, latent_dim, dtype=torch.double)
    return Prior(ones, ones, ones, "N(0, I)", standard=True)


@torch.no_grad()
def prior_of(node: Any) -> Prior:
    """Return what is known of a latent site's prior.

    Args:
        node: the node of the site, whose value has the shape ``batch + (K,)``.

    Raises:
        NoCertificateError: for a prior whose coordinates are not independent, or whose entropy or
            variance is not known or not finite; a multivariate Normal may be correlated.
    """
    value, fn = node["value"], unwrap_events(node["fn"])
    if is_standard_normal(fn):
        return standard_prior(value.shape[-1])
    kind = type(fn)
    if kind in JOINT:
        found = _multivariate(fn)
    elif kind in INDEPENDENT:
        # In double precision: entropies are small differences of large terms.
        arguments = {name: getattr(fn, name).double() for name in INDEPENDENT[kind]}
        found = _independent(kind(**arguments, validate_args=False), value.shape)
    else:
        known = ", ".join(sorted(known.__name__ for known in (*INDEPENDENT, *JOINT)))
        raise NoCertificateError(
            f"the prior of the site {node['name']!r} is not N(0, I) but {kind.__name__}: the "
            "window is proved for independent coordinates of known entropy and variance, or a "
            f"multivariate Normal; use one of {known}, or standardise z and put the rest into "
            "the map"
        )
    if not bool(found.most.isfinite().all() and found.least.isfinite().all()):
        raise NoCertificateError(
            f"the prior of the site {node['name']!r}, {kind.__name__}, has no finite variance or "
            "entropy: the window is proved for priors that have both"
        )
    return found


def _independent(distribution: Any, shape: torch.Size) -> Prior:
    variance, entropy = distribution.variance, distribution.entropy()
    # A Normal has the largest entropy of its variance: what exceeds it is rounding.
    power = torch.minimum((2 * (entropy - ENTROPY_OF_NORMAL)).exp(), variance)
    most, least = (v.expand(shape).reshape(-1, shape[-1]) for v in (variance, power))
    text = (
        f"{type(distribution).__name__}, independent coordinates of variances "
        f"{_span(variance)} and entropies {_span(entropy)} nats"
    )
    return Prior(least, most, least, text)


def _multivariate(distribution: Any) -> Prior:
    covariance = distribution.covariance_matrix.double()
    size = covariance.shape[-1]
    values = torch.linalg.eigvalsh(covariance).clamp_min(0.0).reshape(-1, size)
    precision = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1).reshape(-1, size)
    text = f"a multivariate Normal of variances {_span(values)} along its axes"
    return Prior(values, values, 1 / precision, text)


def _span(values: Tensor) -> str:
    least, most = f"{values.min().item():.3g}", f"{values.max().item():.3g}"
    return least if least == most else f"{least} to {most}"
