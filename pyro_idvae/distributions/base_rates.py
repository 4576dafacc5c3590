# SPDX-License-Identifier: Apache-2.0
"""Base rates of data, and families in the noise units of these."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_idvae._checks import check_count, check_floating
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.noise_units import NoiseUnits
from pyro_idvae.errors import ArgumentError, DataError, NoClosedFormError, ShapeError
from pyro_idvae.transforms import Injection

NUM_DRAWS = 512
"""Of the prior, for the spread of f(z)."""
FARTHEST = math.log(1000.0)
"""How far from its base rate three standard deviations of the prior may take a log rate."""


def prior_draws(injection: Injection, number: int) -> Tensor:
    """Return draws of N(0, I), always the same ones."""
    like = next(injection.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, injection.latent_dim, generator=generator).to(like)


@torch.no_grad()
def at_prior(injection: Injection) -> Tensor:
    """Return f(z) at draws of N(0, I), always the same ones."""
    found: Tensor = injection(prior_draws(injection, NUM_DRAWS))
    return found


def prior_spread(injection: Injection) -> Tensor:
    """Return the standard deviation of each coordinate of f(z) over z ~ N(0, I)."""
    return at_prior(injection).std(0)


def width_of(family: Family, x: Tensor) -> int:
    """Return the width of η for observations, of which whole numbers show how many categories."""
    if family.event_shape(1):
        return family.parameter_dim(x.shape[-1])
    # What is no number is refused where the observations are checked.
    seen = x[x.isfinite()]
    return family.parameter_dim(max(int(seen.max()) + 1, 2) if seen.numel() else 2)


def in_noise_units(
    family: Family, base: Tensor, parameter_dim: int, *, spread: float | Tensor = 0.0
) -> Family:
    r"""Return a family whose parameter counts standard deviations of the noise.

    .. math:: \eta = \eta_0 + D\,v, \qquad D = I(\eta_0)^{-1/2}

    η₀ are the base rates of the data: column means, on the family's scale. Then a floor of 1 for an
    injection into v means a nat-sized thing for every family: n observations of one z carry about
    ½log(1 + nL²) nats of each latent, near the base rates. A categorical or multinomial family goes
    through an orthonormal basis of the complement of √p instead of Helmert's:
    logits = log p + (np)^{−1/2} ⊙ Bv.

    Rare features have large units, in which an ordinary step would take their rates anywhere. Base
    rates are therefore floored, the same for η₀, D and B. For logarithms of rates the information
    is at least (3·spread/log 1000)², so that three standard deviations of the prior stay within a
    factor of 1,000; for binary data it is at least .05; and no feature is rarer than half an
    observation in all data. Where a floor binds a unit is less than one of the noise:
    :meth:`Family.capped_rates` says where.

    Normal, Laplace and Student-t families are returned as they are: theirs is in units of the
    noise.

    Args:
        family: by η.
        base: observations, of shape ``(rows,) + event_shape``.
        parameter_dim: width of η.
        spread: standard deviation of v over the prior, a number or one for each coordinate; for an
            injection f that of f(z).

    Returns:
        A family by v.

    Raises:
        ArgumentError: for a family that has no Fisher information in closed form, or is in noise
            units already.
        ShapeError: for observations of another shape.
        DataError: for none, or outside the support.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import PoissonFamily, in_noise_units
        >>> x = torch.tensor([[0.0, 9.0], [2.0, 7.0]])
        >>> family = in_noise_units(PoissonFamily(), x, 2)
        >>> family(torch.tensor([0.0, 1.0])).rate.round(decimals=2)
        tensor([ 1.0000, 11.3900])
        >>> family.fisher_information(torch.zeros(2)).round(decimals=4)
        tensor([1., 1.])
    """
    if not isinstance(family, Family):
        raise ArgumentError(f"family is a {type(family).__name__}: expected a Family")
    check_count("parameter_dim", parameter_dim)
    spread = check_floating("spread", torch.as_tensor(spread, dtype=torch.get_default_dtype()))
    if not bool((spread.isfinite() & (spread >= 0)).all()):
        raise ArgumentError(f"spread={spread}: expected numbers from 0 on")
    if family.capped_rates() is not None:
        raise ArgumentError(f"family: this {family.name} family is in noise units already")
    x = _checked(family, base, parameter_dim)
    least = torch.full((parameter_dim,), family.least_information, dtype=x.dtype, device=x.device)
    if family.of_log_rates:
        least = least.clamp_min((3 * spread.to(least) / FARTHEST).square())
    own_way = family.with_base(x, parameter_dim, least)
    if own_way is not None:
        return own_way
    rows = x.reshape(-1, parameter_dim)
    mean, least = rows.mean(0), least.clamp_min(0.5 / len(rows))
    base_eta = family.eta_of_mean(mean, least)
    try:
        family.fisher_information(base_eta)
    except NoClosedFormError as error:
        raise ArgumentError(
            f"base was given, but a {family.name} family has no Fisher information in closed form: "
            "put its base family in noise units, or leave base out"
        ) from error
    nothing = torch.zeros_like(least)
    return NoiseUnits(family, base_eta, base_eta != family.eta_of_mean(mean, nothing), least)


def _checked(family: Family, base: Tensor, parameter_dim: int) -> Tensor:
    """Return observations in floating point, or raise."""
    if not isinstance(base, Tensor) or not family.integer_data:
        check_floating("base", base)
    event = family.event_shape(parameter_dim)
    if base.dim() < 1 + len(event) or base.shape[base.dim() - len(event) :] != event:
        raise ShapeError(
            f"base has shape {tuple(base.shape)}: expected observations, (rows,) + {tuple(event)}"
        )
    if base.numel() == 0:
        raise DataError(f"base has shape {tuple(base.shape)}: there are no observations")
    bad = ~base.isfinite() | ~family.check_support(base, parameter_dim)
    if bool(bad.any()):
        raise DataError(
            f"base has {int(bad.sum())} entries that are not finite or outside the support of "
            f"{family.name}: leave out rows that miss some"
        )
    return base if base.is_floating_point() else base.to(torch.get_default_dtype())
