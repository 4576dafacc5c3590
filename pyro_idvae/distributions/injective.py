# SPDX-License-Identifier: Apache-2.0
"""Likelihoods that are injective in z by construction."""

from __future__ import annotations

from torch import Tensor, nn

from pyro_idvae._abstract import may_override, must_write
from pyro_idvae._precision import full_precision
from pyro_idvae.distributions.base_rates import in_noise_units, prior_spread
from pyro_idvae.distributions.family import Family
from pyro_idvae.distributions.likelihood import Likelihood
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.transforms import Injection


class InjectiveLikelihood(Likelihood):
    """A likelihood injective in z by construction: z ↦ p(x|z) is one-to-one.

    Abstract; a subclass writes ``__init__``, which chooses the family, and may override
    :meth:`information_bounds`; the rest is final. f is injective because it is an
    :class:`Injection`, the family's map η ↦ distribution is injective, and covariates only shift η.

    Args:
        injection: f, an :class:`Injection` from R^K to the parameters.
        family: the family.
        covariates: a module that maps covariates to a shift of η, outside f.
        base: observations whose base rates f(z) is to be in noise units of, see
            :func:`in_noise_units`; None for the family's own parameters.

    Raises:
        ArgumentError: for a map that is no injection.
        TypeError: for an abstract class, or a subclass that overrides what is final.
    """

    identifiable = True

    @must_write
    def __init__(
        self,
        injection: Injection,
        family: Family,
        covariates: nn.Module | None = None,
        base: Tensor | None = None,
    ) -> None:
        if not isinstance(injection, Injection):
            raise ArgumentError(
                f"injection is a {type(injection).__name__}: pass an Injection, e.g. "
                "brenier_injection(2, 5); for any other network there is NeuralLikelihood"
            )
        if base is not None:
            family = in_noise_units(
                family, base, injection.data_dim, spread=prior_spread(injection)
            )
        super().__init__(family, injection.latent_dim, injection.data_dim, covariates)
        self.injection = injection

    def eta(self, z: Tensor) -> Tensor:
        """Return f(z)."""
        # Under autocast in shorter numbers, which densities are not computed in.
        return self.injection(z).to(z.dtype)

    @full_precision()
    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (L, M): L‖z − z'‖ ≤ ‖f(z) − f(z')‖ ≤ M‖z − z'‖, from the parameters now."""
        return self.injection.lipschitz_bounds()

    @full_precision()
    @may_override
    def information_bounds(self) -> tuple[float, float]:
        r"""Return the window of nats that the model's own data carry about z.

        .. math:: \tfrac K2\log(1+L^2) \le
            \mathbb E_{p(x)}\,\mathrm{KL}(p(z|x)\,\|\,p(z)) \le \tfrac K2\log(1+M^2)

        It rests on three assumptions: z ~ N(0, I), x drawn from the model, and the exact
        posterior.
        Only Normal likelihoods have it (their noise is one unit of f); nothing may be missing.

        Raises:
            NoCertificateError: for any other family.
        """
        raise NoCertificateError(
            f"a {self.family.name} likelihood has no bound in nats: it is proved for Gaussian "
            "noise only. Injectivity holds, but promises no rate"
        )
