# SPDX-License-Identifier: Apache-2.0
"""The injection g2 ∘ β ∘ g1 of two Brenier maps and a linear map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pyro_idvae._checks import check_last_dim, check_options
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.transforms.bounds import check_representable
from pyro_idvae.transforms.brenier_map import Brenier, make_potential
from pyro_idvae.transforms.injection import Injection, check_injective, log_volume
from pyro_idvae.transforms.linear import InjectiveLinear


class BrenierInjection(Injection):
    r"""f = g2 ∘ β ∘ g1: a Brenier map of R^K, an injective linear map, a Brenier map of R^D.

    .. math:: L = \alpha_1\,\lambda_{\min}(\beta)\,\alpha_2 \;\le\;
        \frac{|f(z) - f(z')|}{|z - z'|} \;\le\; M_1\,\lambda_{\max}(\beta)\,M_2 = M

    Args:
        g1: Brenier map of R^K.
        beta: injective linear map from R^K to R^D.
        g2: Brenier map of R^D.

    Example:
        >>> import torch
        >>> from pyro_idvae.transforms import brenier_injection
        >>> f = brenier_injection(2, 5, hidden_dims=[16], lipschitz_bounds=(1.0, 9.0))
        >>> [round(bound, 4) for bound in f.lipschitz_bounds()]
        [1.0, 9.0]
        >>> z = torch.randn(4, 2)
        >>> f(z).shape, f.jacobian(z).shape, f.log_abs_det_jacobian(z).shape
        (torch.Size([4, 5]), torch.Size([4, 5, 2]), torch.Size([4]))

    Reference:
        Wang, Blei & Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*,
        NeurIPS 2021.
    """

    def __init__(self, g1: Brenier, beta: InjectiveLinear, g2: Brenier) -> None:
        wanted = {"g1": (g1, Brenier), "beta": (beta, InjectiveLinear), "g2": (g2, Brenier)}
        for name, (part, kind) in wanted.items():
            if not isinstance(part, kind):
                raise ArgumentError(
                    f"{name} is a {type(part).__name__}: expected a {kind.__name__}"
                )
        if g1.dim != beta.latent_dim or g2.dim != beta.data_dim:
            raise ShapeError(
                f"g1 has dimension {g1.dim}, beta maps {beta.latent_dim} to {beta.data_dim} and g2 "
                f"has dimension {g2.dim}: g1 must have beta's latent_dim and g2 its data_dim"
            )
        super().__init__(beta.latent_dim, beta.data_dim)
        self.g1, self.beta, self.g2 = g1, beta, g2

    def _call(self, x: Tensor) -> Tensor:
        # The transforms' own calls remember their input for an inverse, which is not needed here.
        return self.g2.potential.gradient(self.beta._call(self.g1.potential.gradient(x)))

    def _inverse(self, y: Tensor) -> Tensor:
        return self.g1.inv(self.beta.inv(self.g2.inv(y)))  # type: ignore[no-any-return]

    def _middle_and_jacobian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return β(g1(z)), where g2 is applied, and J(z)."""
        check_last_dim("z", z, self.latent_dim)
        inner, hessian = self.g1.potential.gradient_and_hessian(z)
        middle = self.beta(inner)
        return middle, self.g2.potential.hessian_product(middle, self.beta.matrix() @ hessian)

    def jacobian(self, z: Tensor) -> Tensor:
        """Return J(z) = ∇²φ₂ · QΛ · ∇²φ₁, of shape ``batch + (D, K)``."""
        return self._middle_and_jacobian(z)[1]

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(z) and ½ log det JᵀJ from one pass through g1 and β."""
        middle, jacobian = self._middle_and_jacobian(z)
        return self.g2.potential.gradient(middle), log_volume(jacobian)

    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (α₁ λ_min α₂, M₁ λ_max M₂)."""
        low = high = 1.0
        for part in (self.g1, self.beta, self.g2):
            part_low, part_high = part.lipschitz_bounds()
            low, high = low * part_low, high * part_high
        return low, high


def brenier_injection(
    latent_dim: int,
    data_dim: int,
    hidden_dims: Sequence[int] | None = None,
    *,
    strong_convexity: float | None = None,
    smoothness: float | None = None,
    min_singular_value: float | None = None,
    max_singular_value: float | None = None,
    lipschitz_bounds: tuple[float, float] | None = None,
    **options: Any,
) -> BrenierInjection:
    """Make the injection g2 ∘ β ∘ g1 from R^K to R^D.

    By default each of the three parts has floor 1, so L ≥ 1 whatever the parameters learn.

    Args:
        latent_dim: K.
        data_dim: D, at least K.
        hidden_dims: hidden widths of both potentials; one for ridges, several for ICNNs; by
            default ``[max(64, dim)]`` for each.
        strong_convexity: floor of both Brenier maps; 1 by default.
        smoothness: ceiling of both Brenier maps; none by default.
        min_singular_value: floor of β; 1 by default.
        max_singular_value: ceiling of β; none by default.
        lipschitz_bounds: (L, M) of the whole injection instead of the four above. β is then an
            isometry and both maps have the window (√L, √M), so the bounds are these two numbers
            before, during and after training. M (and 1/L) may be at most the square root of what
            the default dtype holds, 1.8e19 for float32.
        **options: further arguments of :class:`Brenier`.

    Raises:
        NotInjectiveError: for K > D.
        ArgumentError: for floors that are not positive, ceilings below floors,
            ``lipschitz_bounds`` that are no pair or beyond floating point, or given together with
            another floor or ceiling.

    Example:
        >>> from pyro_idvae.transforms import brenier_injection
        >>> f = brenier_injection(2, 5, hidden_dims=[16])
        >>> f.lipschitz_bounds()[0] >= 1
        True
    """
    latent_dim, data_dim = check_injective(latent_dim, data_dim)
    check_options(Brenier, options)
    parts = {
        "strong_convexity": strong_convexity,
        "smoothness": smoothness,
        "min_singular_value": min_singular_value,
        "max_singular_value": max_singular_value,
    }
    if lipschitz_bounds is not None:
        given = [name for name, value in parts.items() if value is not None]
        if given:
            raise ArgumentError(
                f"lipschitz_bounds={lipschitz_bounds!r} sets every floor and ceiling: leave out "
                + " and ".join(given)
            )
        low, high = check_representable("lipschitz_bounds", lipschitz_bounds)
        strong_convexity, smoothness = low**0.5, high**0.5
        min_singular_value = max_singular_value = 1.0
    floor = 1.0 if strong_convexity is None else strong_convexity

    def part(dim: int) -> Brenier:
        potential = make_potential(dim, hidden_dims, strong_convexity=floor, smoothness=smoothness)
        return Brenier(potential, **options)

    beta = InjectiveLinear(
        latent_dim,
        data_dim,
        min_singular_value=1.0 if min_singular_value is None else min_singular_value,
        max_singular_value=max_singular_value,
        bias=False,
    )
    return BrenierInjection(part(latent_dim), beta, part(data_dim))
