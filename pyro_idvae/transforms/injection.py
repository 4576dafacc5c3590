# SPDX-License-Identifier: Apache-2.0
"""Injections R^K → R^D: the abstract class, the linear one, and g2 ∘ β ∘ g1."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions.torch_transform import TransformModule
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import softplus

from pyro_idvae._checks import check_count, check_last_dim, check_real, check_window
from pyro_idvae.errors import ArgumentError, NotInjectiveError, ShapeError
from pyro_idvae.transforms.brenier_map import Brenier, make_potential


def check_injective(latent_dim: object, data_dim: object) -> tuple[int, int]:
    """Return the dimensions, or refuse more latent than data dimensions."""
    latent = check_count("latent_dim", latent_dim)
    data = check_count("data_dim", data_dim)
    if latent > data:
        raise NotInjectiveError(
            f"latent_dim={latent} is larger than data_dim={data}: no smooth map from R^{latent} "
            f"to R^{data} is injective; take a latent_dim of at most {data}"
        )
    return latent, data


class Injection(TransformModule):
    r"""A map f: R^K → R^D with L|z − z'| ≤ |f(z) − f(z')| ≤ M|z − z'| and L > 0.

    ``log_abs_det_jacobian`` is its volume term ½ log det J(z)ᵀJ(z), so that a
    ``TransformedDistribution`` has the density on the image with respect to surface measure;
    ``inv`` is a left inverse. Subclasses write ``_call``, ``_inverse``, :meth:`jacobian` and
    :meth:`lipschitz_bounds`.

    Args:
        latent_dim: K.
        data_dim: D, at least K.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector

    def __init__(self, latent_dim: int, data_dim: int) -> None:
        super().__init__(cache_size=0)  # type: ignore[no-untyped-call]
        self.latent_dim, self.data_dim = check_injective(latent_dim, data_dim)

    @property
    def bijective(self) -> bool:  # type: ignore[override]
        """Whether K = D."""
        return self.latent_dim == self.data_dim

    @abstractmethod
    def jacobian(self, z: Tensor) -> Tensor:
        """Return J(z), of shape ``batch + (D, K)``, for z of ``batch + (K,)``."""
        raise NotImplementedError

    @abstractmethod
    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (L, M), from the parameters as they are now."""
        raise NotImplementedError

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return ½ log det JᵀJ at z = ``x``, of shape ``batch``."""
        triangle: Tensor = torch.linalg.qr(self.jacobian(x))[1]
        return triangle.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(z) and ½ log det JᵀJ."""
        return self(z), self.log_abs_det_jacobian(z)

    @torch.no_grad()
    def project(self, x: Tensor, *, max_steps: int = 100) -> Tensor:
        """Return a z whose f(z) is a nearest image point to x, by damped Gauss–Newton.

        Starts from the left inverse, which is exact for points in the image. For points off the
        image it ends where no step lowers |f(z) − x| any more: a local minimum.

        Args:
            x: points, of shape ``batch + (D,)``.
            max_steps: at most this many steps.

        Returns:
            z, of shape ``batch + (K,)``; carries no grad.
        """
        z: Tensor = self.inv(check_last_dim("x", x, self.data_dim))
        gap = self(z) - x
        size = gap.norm(dim=-1)
        for _ in range(max_steps):
            basis, triangle = torch.linalg.qr(self.jacobian(z))
            slope = basis.mT @ gap.unsqueeze(-1)
            direction = -torch.linalg.solve_triangular(triangle, slope, upper=True).squeeze(-1)
            length = torch.ones_like(size)
            for _ in range(30):
                trial = z + length.unsqueeze(-1) * direction
                trial_gap = self(trial) - x
                trial_size = trial_gap.norm(dim=-1)
                better = trial_size < size
                if bool(better.all()):
                    break
                length = torch.where(better, length, 0.5 * length)
            eps = torch.finfo(x.dtype).eps
            small = slope.squeeze(-1).norm(dim=-1) <= 64 * eps * x.norm(dim=-1)
            if not bool((better & ~small).any()):
                break
            take = better.unsqueeze(-1)
            z, gap = torch.where(take, trial, z), torch.where(take, trial_gap, gap)
            size = torch.where(better, trial_size, size)
        return z

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        """Map ``batch + (K,)`` to ``batch + (D,)``."""
        return self._swap_last(shape, self.latent_dim, self.data_dim)

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        """Map ``batch + (D,)`` to ``batch + (K,)``."""
        return self._swap_last(shape, self.data_dim, self.latent_dim)

    @staticmethod
    def _swap_last(shape: Sequence[int], old: int, new: int) -> torch.Size:
        if not shape or shape[-1] != old:
            raise ShapeError(f"shape={tuple(shape)}: expected the last dimension to be {old}")
        return torch.Size([*shape[:-1], new])

    def with_cache(self, cache_size: int = 1) -> Injection:
        """Return a transform that shares the parameters and has no cache."""
        return copy.copy(self)


class InjectiveLinear(Injection):
    r"""f(z) = QΛz + b with QᵀQ = I and every entry of the diagonal Λ at least a floor.

    Q is the QR factor of a free matrix, taken in the forward pass and with a positive diagonal of
    R, so that it is a smooth function of the parameters.

    Args:
        latent_dim: K.
        data_dim: D, at least K.
        min_singular_value: floor of Λ, above 0.
        max_singular_value: ceiling of Λ; None for none; if it is the floor, Λ is that constant.
        bias: whether there is a learned b.

    Raises:
        NotInjectiveError: for K > D.

    Example:
        >>> import torch
        >>> from pyro_idvae.transforms import InjectiveLinear
        >>> linear = InjectiveLinear(2, 5, min_singular_value=1.0)
        >>> linear(torch.zeros(3, 2)).shape, linear.inv(torch.zeros(3, 5)).shape
        (torch.Size([3, 5]), torch.Size([3, 2]))
    """

    def __init__(
        self,
        latent_dim: int,
        data_dim: int,
        *,
        min_singular_value: float = 1.0,
        max_singular_value: float | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(latent_dim, data_dim)
        self.floor, self.ceiling = check_window(
            "min_singular_value", min_singular_value, "max_singular_value", max_singular_value
        )
        self.raw_basis = nn.Parameter(torch.randn(data_dim, latent_dim))
        if self.ceiling != self.floor:
            start = 1.0 if self.ceiling is None else 0.0
            self.raw_singular = nn.Parameter(torch.full((latent_dim,), start))
        self.bias = nn.Parameter(torch.zeros(data_dim)) if bias else None

    def singular_values(self) -> Tensor:
        """Return the diagonal of Λ, of shape ``(K,)`` and in no order."""
        if self.ceiling == self.floor:
            return self.raw_basis.new_full((self.latent_dim,), self.floor)
        if self.ceiling is None:
            return self.floor + softplus(self.raw_singular)
        return self.floor + (self.ceiling - self.floor) * self.raw_singular.sigmoid()

    def basis(self) -> Tensor:
        """Return Q, of shape ``(D, K)``."""
        basis, triangle = torch.linalg.qr(self.raw_basis)
        signs: Tensor = torch.where(triangle.diagonal() < 0, -1.0, 1.0).to(basis.dtype)
        oriented: Tensor = basis * signs
        return oriented

    def matrix(self) -> Tensor:
        """Return QΛ, of shape ``(D, K)``."""
        return self.basis() * self.singular_values()

    def _call(self, x: Tensor) -> Tensor:
        check_last_dim("z", x, self.latent_dim)
        return nn.functional.linear(x, self.matrix(), self.bias)

    def _inverse(self, y: Tensor) -> Tensor:
        check_last_dim("x", y, self.data_dim)
        centred = y if self.bias is None else y - self.bias
        return (centred @ self.basis()) / self.singular_values()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return Σ log Λ, expanded to ``batch``."""
        return self.singular_values().log().sum().expand(x.shape[:-1])

    def jacobian(self, z: Tensor) -> Tensor:
        """Return QΛ, expanded to ``batch + (D, K)``."""
        return self.matrix().expand(*z.shape[:-1], self.data_dim, self.latent_dim)

    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest singular value."""
        with torch.no_grad():
            values = self.singular_values()
        return float(values.min()), float(values.max())


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
        if g1.dim != beta.latent_dim or g2.dim != beta.data_dim:
            raise ShapeError(
                f"g1 has dimension {g1.dim}, beta maps {beta.latent_dim} to {beta.data_dim} and g2 "
                f"has dimension {g2.dim}: g1 must have beta's latent_dim and g2 its data_dim"
            )
        super().__init__(beta.latent_dim, beta.data_dim)
        self.g1, self.beta, self.g2 = g1, beta, g2

    def _call(self, x: Tensor) -> Tensor:
        check_last_dim("z", x, self.latent_dim)
        # Past the transforms' own calls: nothing here is worth remembering for an inverse.
        return self.g2.potential.gradient(self.beta._call(self.g1.potential.gradient(x)))

    def _inverse(self, y: Tensor) -> Tensor:
        return self.g1.inv(self.beta.inv(self.g2.inv(y)))  # type: ignore[no-any-return]

    def _value_and_jacobian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        check_last_dim("z", z, self.latent_dim)
        inner, hessian = self.g1.potential.gradient_and_hessian(z)
        middle = self.beta(inner)
        jacobian = self.g2.potential.hessian_product(middle, self.beta.matrix() @ hessian)
        return self.g2.potential.gradient(middle), jacobian

    def jacobian(self, z: Tensor) -> Tensor:
        """Return J(z) = ∇²φ₂ · QΛ · ∇²φ₁, of shape ``batch + (D, K)``."""
        return self._value_and_jacobian(z)[1]

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
            before, during and after training.
        **options: further arguments of :class:`Brenier`.

    Raises:
        NotInjectiveError: for K > D.
        ArgumentError: for floors that are not positive, ceilings below floors, or
            ``lipschitz_bounds`` given together with another floor or ceiling.
    """
    latent_dim, data_dim = check_injective(latent_dim, data_dim)
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
        low = check_real("lipschitz_bounds[0]", lipschitz_bounds[0], above=0)
        high = check_real("lipschitz_bounds[1]", lipschitz_bounds[1], at_least=low)
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


def injective_linear(latent_dim: int, data_dim: int, **options: Any) -> InjectiveLinear:
    """Make an :class:`InjectiveLinear` map; ``options`` are its further arguments."""
    return InjectiveLinear(latent_dim, data_dim, **options)
