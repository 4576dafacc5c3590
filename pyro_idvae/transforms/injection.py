# SPDX-License-Identifier: Apache-2.0
"""Injections R^K → R^D: the abstract class."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from pyro.distributions.torch_transform import TransformModule
from torch import Tensor
from torch.distributions import constraints

from pyro_idvae._abstract import AbstractOrFinal, may_override, must_write
from pyro_idvae._checks import check_count, check_last_dim
from pyro_idvae._precision import full_precision
from pyro_idvae.errors import NotInjectiveError, ShapeError


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


def log_volume(jacobian: Tensor) -> Tensor:
    """Return ½ log det JᵀJ, of shape ``batch``, for J of ``batch + (D, K)``."""
    triangle: Tensor = torch.linalg.qr(jacobian)[1]
    return triangle.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)


class Injection(AbstractOrFinal, TransformModule):
    r"""A map f: R^K → R^D with L‖z − z'‖ ≤ ‖f(z) − f(z')‖ ≤ M‖z − z'‖ and L > 0.

    ``log_abs_det_jacobian`` is its volume term ½ log det J(z)ᵀJ(z), so that a
    ``TransformedDistribution`` has the density on the image with respect to surface measure;
    ``inv`` is a left inverse. Subclasses write ``_call``, ``_inverse``, :meth:`jacobian` and
    :meth:`lipschitz_bounds`; they may override :meth:`log_abs_det_jacobian` and
    :meth:`call_and_ladj` where there is a shorter way. The rest is final.

    Args:
        latent_dim: K.
        data_dim: D, at least K.

    Raises:
        TypeError: for an abstract class, or a subclass that overrides what is final.
        NotInjectiveError: for K > D.
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

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(z) for z = ``x`` of shape ``batch + (K,)``, checked here for all injections."""
        check_last_dim("z", x, self.latent_dim)
        return super().__call__(x)  # type: ignore[no-any-return,no-untyped-call]

    @must_write
    def _call(self, x: Tensor) -> Tensor:
        """Return f(z), of shape ``batch + (D,)``, for z = ``x`` of ``batch + (K,)``."""
        raise NotImplementedError

    @must_write
    def _inverse(self, y: Tensor) -> Tensor:
        """Return the z of an image point: a left inverse, of shape ``batch + (K,)``."""
        raise NotImplementedError

    @must_write
    def jacobian(self, z: Tensor) -> Tensor:
        """Return J(z), of shape ``batch + (D, K)``, for z of ``batch + (K,)``."""
        raise NotImplementedError

    @full_precision()
    @must_write
    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (L, M), from the parameters as they are now."""
        raise NotImplementedError

    @may_override
    def log_abs_det_jacobian(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return ½ log det JᵀJ at z = ``x``, of shape ``batch``."""
        return log_volume(self.jacobian(x))

    @may_override
    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(z) and ½ log det JᵀJ."""
        return self(z), self.log_abs_det_jacobian(z)

    @torch.no_grad()
    def project(self, x: Tensor, *, max_steps: int = 100) -> Tensor:
        """Return a z whose f(z) is a nearest image point to x, by damped Gauss–Newton.

        Starts from the left inverse, which is exact for points in the image. For points off the
        image it ends where no step lowers ‖f(z) − x‖ any more: a local minimum.

        Args:
            x: points, of shape ``batch + (D,)``.
            max_steps: at most this many steps.

        Returns:
            z, of shape ``batch + (K,)``; carries no grad.
        """
        check_count("max_steps", max_steps)
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
