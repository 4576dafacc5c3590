# SPDX-License-Identifier: Apache-2.0
"""Injections that depend on a context, every one of them with the same floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_idvae._abstract import AbstractOrFinal
from pyro_idvae._checks import check_callable, check_last_dim, check_options
from pyro_idvae.errors import ArgumentError, NoCertificateError, ShapeError
from pyro_idvae.transforms.brenier_map import Brenier, make_potential
from pyro_idvae.transforms.conditional import ConditionalBrenier, conditional_brenier
from pyro_idvae.transforms.injection import Injection, check_injective
from pyro_idvae.transforms.linear import InjectiveLinear


class InjectionAtContext(Injection):
    """f(·; h) at given contexts h; made by :meth:`ConditionalInjection.condition`.

    It owns no parameters, and evaluates the networks of h when it is called. Contexts and points
    broadcast.

    Args:
        owner: whose maps these are.
        context: h, of shape ``batch + (context_dim,)``.
        shift: a, of shape ``batch + (D,)``; None for the owner's.
    """

    def __init__(
        self, owner: ConditionalInjection, context: Tensor, shift: Tensor | None = None
    ) -> None:
        super().__init__(owner.latent_dim, owner.data_dim)
        self._owner = (owner,)  # in a tuple: its parameters are not this module's
        self.context, self.given = context, shift

    def _parts(self) -> tuple[Brenier, Tensor | float]:
        (owner,) = self._owner
        shift: Tensor | float = 0.0
        if self.given is not None:
            shift = self.given
        elif owner.shift is not None:
            shift = owner.shift(self.context)
        return owner.g1.condition(self.context), shift

    def _after(self, middle: Tensor) -> Tensor:
        (owner,) = self._owner
        return middle if owner.g2 is None else owner.g2.potential.gradient(middle)

    def _call(self, x: Tensor) -> Tensor:
        g1, shift = self._parts()
        (owner,) = self._owner
        return self._after(owner.beta._call(g1.potential.gradient(x)) + shift)

    def _inverse(self, y: Tensor) -> Tensor:
        g1, shift = self._parts()
        (owner,) = self._owner
        middle = y if owner.g2 is None else owner.g2.inv(y)
        return g1.inv(owner.beta.inv(middle - shift))  # type: ignore[no-any-return]

    def jacobian(self, z: Tensor) -> Tensor:
        """Return J(z; h), of shape ``batch + (D, K)``."""
        check_last_dim("z", z, self.latent_dim)
        g1, shift = self._parts()
        (owner,) = self._owner
        inner, hessian = g1.potential.gradient_and_hessian(z)
        jacobian: Tensor = owner.beta.matrix() @ hessian
        if owner.g2 is None:
            return jacobian
        return owner.g2.potential.hessian_product(owner.beta(inner) + shift, jacobian)

    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (L, M) over these contexts, from the parameters as they are now."""
        with torch.no_grad():
            potential = self._parts()[0].potential
            low, high = potential.strong_convexity().min(), potential.smoothness().max()
        (owner,) = self._owner
        below, above = owner.fixed_bounds()
        return float(low) * below, float(high) * above


class ConditionalInjection(AbstractOrFinal, nn.Module):
    r"""Maps z → f(z; h), injective in z for every context h.

    .. math:: f(z; h) = g_2\big(\beta\, g_1(z; h) + a(h)\big), \qquad
        \alpha_1\,\lambda_{\min}(\beta)\,\alpha_2\,|z-z'| \le |f(z; h) - f(z'; h)|

    g₁ is a Brenier map of R^K whose potential is convex in z and anything in h, so its floor
    α₁ holds for every h; β is linear with singular values above a floor; the shift a(h) is free; g₂
    is one Brenier map of R^D. The floor asks nothing of D beyond K ≤ D, however wide h is: to put
    (z, h) through one map would give z no floor of its own, and need D ≥ K + dim h.

    Args:
        g1: conditional Brenier map of R^K.
        beta: injective linear map from R^K to R^D.
        shift: module a from h to R^D; None for no shift but the one that each call gives.
        g2: Brenier map of R^D; None for the identity.

    Raises:
        ArgumentError: for parts of another kind.
        ShapeError: for parts whose dimensions do not go together.

    Example:
        >>> import torch
        >>> from pyro_idvae.transforms import conditional_injection
        >>> f = conditional_injection(2, 5, context_dim=3, hidden_dims=[16])
        >>> f.condition(torch.randn(4, 3))(torch.randn(7, 4, 2)).shape
        torch.Size([7, 4, 5])
        >>> f.floor() >= 1
        True
    """

    def __init__(
        self,
        g1: ConditionalBrenier,
        beta: InjectiveLinear,
        shift: nn.Module | None = None,
        g2: Brenier | None = None,
    ) -> None:
        super().__init__()
        for name, part, kind in (("g1", g1, ConditionalBrenier), ("beta", beta, InjectiveLinear)):
            if not isinstance(part, kind):
                raise ArgumentError(
                    f"{name} is a {type(part).__name__}: expected a {kind.__name__}"
                )
        if g2 is not None and not isinstance(g2, Brenier):
            raise ArgumentError(f"g2 is a {type(g2).__name__}: expected a Brenier or None")
        if shift is not None:
            check_callable("shift", shift, "a module from contexts to shifts")
        wide = beta.data_dim if g2 is None else g2.dim
        if g1.potential.dim != beta.latent_dim or wide != beta.data_dim:
            raise ShapeError(
                f"g1 has dimension {g1.potential.dim}, beta maps {beta.latent_dim} to "
                f"{beta.data_dim} and g2 has dimension {wide}: g1 must have beta's latent_dim and "
                "g2 its data_dim"
            )
        self.latent_dim, self.data_dim = beta.latent_dim, beta.data_dim
        self.context_dim = g1.potential.context_dim
        self.g1, self.beta, self.shift, self.g2 = g1, beta, shift, g2

    def condition(self, context: Tensor, shift: Tensor | None = None) -> InjectionAtContext:
        """Return f(·; h) for contexts h of shape ``batch + (context_dim,)``.

        Args:
            context: h.
            shift: a(h), of shape ``batch + (D,)``, instead of the module's.
        """
        check_last_dim("context", context, self.context_dim)
        if shift is not None:
            check_last_dim("shift", shift, self.data_dim)
        return InjectionAtContext(self, context, shift)

    def fixed_bounds(self) -> tuple[float, float]:
        """Return the bounds of β and g₂ together, which no context changes."""
        low, high = self.beta.lipschitz_bounds()
        if self.g2 is None:
            return low, high
        below, above = self.g2.lipschitz_bounds()
        return low * below, high * above

    def floor(self) -> float:
        """Return L, which holds for every context, from the parameters as they are now."""
        return self.g1.potential.floor * self.fixed_bounds()[0]

    def ceiling(self) -> float:
        """Return M, which holds for every context.

        Raises:
            NoCertificateError: if g₁ was made without ``smoothness``: then each context has its
                own.
        """
        high = self.g1.potential.ceiling
        if high is None:
            raise NoCertificateError(
                "g1 has no ceiling: its smoothness depends on the context; pass smoothness=, or "
                "ask condition(context).lipschitz_bounds()"
            )
        return high * self.fixed_bounds()[1]


def conditional_injection(
    latent_dim: int,
    data_dim: int,
    context_dim: int,
    hidden_dims: Sequence[int] | None = None,
    *,
    output_hidden_dims: Sequence[int] | None = (64,),
    context_hidden_dims: Sequence[int] = (64,),
    strong_convexity: float = 1.0,
    smoothness: float | None = None,
    min_singular_value: float = 1.0,
    shift: nn.Module | None = None,
    **options: Any,
) -> ConditionalInjection:
    """Make a :class:`ConditionalInjection`.

    Args:
        latent_dim: K.
        data_dim: D, at least K.
        context_dim: width of the context.
        hidden_dims: ``[h]``, the width of g₁'s convex layer; ``[max(64, K)]`` by default.
        output_hidden_dims: ``[h]``, the width of g₂'s; None leaves g₂ out.
        context_hidden_dims: widths of g₁'s network of the context.
        strong_convexity: floor of both Brenier maps.
        smoothness: their ceiling, for every context; None leaves it to the parameters.
        min_singular_value: floor of β.
        shift: the module a; None for no shift but the one that each call gives.
        **options: further arguments of :class:`Brenier`.

    Raises:
        NotInjectiveError: for K > D.
        ArgumentError: for floors, ceilings or widths out of range.

    Example:
        >>> from pyro_idvae.transforms import conditional_injection
        >>> conditional_injection(2, 5, context_dim=3, output_hidden_dims=None).g2 is None
        True
    """
    latent_dim, data_dim = check_injective(latent_dim, data_dim)
    check_options(Brenier, options)
    g1 = conditional_brenier(
        latent_dim,
        context_dim,
        hidden_dims,
        context_hidden_dims=context_hidden_dims,
        strong_convexity=strong_convexity,
        smoothness=smoothness,
        **options,
    )
    beta = InjectiveLinear(latent_dim, data_dim, min_singular_value=min_singular_value, bias=False)
    g2 = None
    if output_hidden_dims is not None:
        potential = make_potential(
            data_dim, output_hidden_dims, strong_convexity=strong_convexity, smoothness=smoothness
        )
        g2 = Brenier(potential, **options)
    return ConditionalInjection(g1, beta, shift, g2)
