# SPDX-License-Identifier: Apache-2.0
"""Families by name, and an injective likelihood from a family's name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pyro_idvae._checks import check_options
from pyro_idvae.distributions.binary import (
    BernoulliFamily,
    BinomialFamily,
    InjectiveBernoulli,
    InjectiveBinomial,
)
from pyro_idvae.distributions.categorical import (
    CategoricalFamily,
    InjectiveCategorical,
    InjectiveMultinomial,
    MultinomialFamily,
)
from pyro_idvae.distributions.counts import (
    InjectiveNegativeBinomial,
    InjectivePoisson,
    NegativeBinomialFamily,
    PoissonFamily,
)
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.injective import InjectiveLikelihood
from pyro_idvae.distributions.location_scale import (
    InjectiveLaplace,
    InjectiveNormal,
    InjectiveStudentT,
    LaplaceFamily,
    NormalFamily,
    StudentTFamily,
)
from pyro_idvae.distributions.positive import BetaFamily, GammaFamily, InjectiveBeta, InjectiveGamma
from pyro_idvae.errors import ArgumentError
from pyro_idvae.transforms import Injection

FAMILIES: dict[str, tuple[type[Family], type[InjectiveLikelihood]]] = {
    "bernoulli": (BernoulliFamily, InjectiveBernoulli),
    "beta": (BetaFamily, InjectiveBeta),
    "binomial": (BinomialFamily, InjectiveBinomial),
    "categorical": (CategoricalFamily, InjectiveCategorical),
    "gamma": (GammaFamily, InjectiveGamma),
    "laplace": (LaplaceFamily, InjectiveLaplace),
    "multinomial": (MultinomialFamily, InjectiveMultinomial),
    "negativebinomial": (NegativeBinomialFamily, InjectiveNegativeBinomial),
    "normal": (NormalFamily, InjectiveNormal),
    "poisson": (PoissonFamily, InjectivePoisson),
    "studentt": (StudentTFamily, InjectiveStudentT),
}


def _entry(name: str) -> tuple[type[Family], type[InjectiveLikelihood]]:
    plain = name.replace("_", "").lower() if isinstance(name, str) else ""
    if plain not in FAMILIES:
        raise ArgumentError(f"family={name!r}: expected one of {', '.join(FAMILIES)}")
    return FAMILIES[plain]


def make_family(name: str, **options: Any) -> Family:
    """Make a family from its name, e.g. for :class:`NeuralLikelihood`.

    Args:
        name: ``"normal"``, ``"bernoulli"``, ``"binomial"``, …
        **options: its arguments, e.g. ``total_count=16``.

    Raises:
        ArgumentError: for a name that is not one of the table's, or options it does not take.

    Example:
        >>> from pyro_idvae.distributions import make_family
        >>> make_family("binomial", total_count=16).name
        'binomial'
    """
    family = _entry(name)[0]
    check_options(family, options)
    return family(**options)


def make_injective(
    name: str,
    injection: Injection,
    *,
    covariates: nn.Module | None = None,
    base: Tensor | None = None,
    **options: Any,
) -> InjectiveLikelihood:
    """Make an injective likelihood from a family's name.

    Args:
        name: as for :func:`make_family`.
        injection: f.
        covariates: a module that maps covariates to a shift of η.
        base: observations, for f(z) in noise units at their base rates; see
            :func:`in_noise_units`.
        **options: further arguments of the likelihood.

    Example:
        >>> from pyro_idvae.distributions import make_injective
        >>> from pyro_idvae.transforms import brenier_injection
        >>> make_injective("poisson", brenier_injection(2, 5)).event_shape
        torch.Size([5])
    """
    constructor: Any = _entry(name)[1]
    check_options(constructor, options)
    likelihood: InjectiveLikelihood = constructor(
        injection, covariates=covariates, base=base, **options
    )
    return likelihood
