# SPDX-License-Identifier: Apache-2.0
"""Damped Newton inversion of the gradient of a strongly convex potential."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_idvae.errors import ConvergenceError
from pyro_idvae.potentials import ConvexPotential
from pyro_idvae.transforms.iterative import ImplicitSolve, conjugate_gradient

MAX_HALVINGS = 40
SUFFICIENT_DECREASE = 1e-4


class Inversion(NamedTuple):
    """What :func:`invert_gradient` found."""

    x: Tensor
    """The solution, of shape ``batch + (dim,)``."""
    residual: Tensor
    """|∇φ(x) − y|, of shape ``batch``."""
    steps: int
    """Newton steps taken."""


def default_tolerance(dtype: torch.dtype) -> float:
    """Return the relative residual asked for: 1e-10 in float64, 4e-5 in float32."""
    return float(torch.finfo(dtype).eps ** 0.64)


def _factor(hessian: Tensor) -> Tensor:
    """Return the Cholesky factor of ∇²φ, raised by its own rounding where that made it indefinite.

    A Newton direction so damped is one still; where the Hessian is NaN, so is what is returned.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if bool(failed.any()):
        size = hessian.diagonal(dim1=-2, dim2=-1).sum(-1) * (failed > 0)
        rounding = hessian.shape[-1] * torch.finfo(hessian.dtype).eps * size
        eye = torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
        factor, _ = torch.linalg.cholesky_ex(hessian + rounding[..., None, None] * eye)
    return factor


def _newton_direction(
    potential: ConvexPotential, x: Tensor, gap: Tensor, relative: Tensor, exact: bool
) -> Tensor:
    if exact:
        factor = _factor(potential.hessian(x))
        return -torch.cholesky_solve(gap.unsqueeze(-1), factor).squeeze(-1)
    forcing = relative.clamp(torch.finfo(x.dtype).eps, 0.1)[..., None, None]
    return -conjugate_gradient(
        lambda v: potential.hessian_product(x, v),
        gap.unsqueeze(-1),
        tolerance=forcing,
        max_steps=2 * potential.dim,
    ).squeeze(-1)


@torch.no_grad()
def invert_gradient(
    potential: ConvexPotential,
    y: Tensor,
    *,
    tolerance: float | None = None,
    max_steps: int = 100,
    exact: bool = True,
) -> Inversion:
    r"""Solve ∇φ(x) = y for x, row by row, by Newton's method with halved steps.

    Every eigenvalue of ∇²φ is at least α > 0, so the Newton direction lowers ‖∇φ(x) − y‖ and
    the iteration converges from anywhere, in the end quadratically. It polishes down to
    rounding and then compares ‖∇φ(x) − y‖ with ``tolerance``·(‖y‖ + ‖∇φ(0)‖).

    Args:
        potential: φ.
        y: right-hand sides, of shape ``batch + (dim,)``.
        tolerance: largest relative residual accepted; None for the dtype's default.
        max_steps: at most this many Newton steps.
        exact: solve with the dense Hessian; else by conjugate gradients on its products.

    Raises:
        ConvergenceError: if some row's residual is above the tolerance.
    """
    eps = torch.finfo(y.dtype).eps
    wanted = default_tolerance(y.dtype) if tolerance is None else tolerance
    origin = potential.gradient(torch.zeros_like(y))
    x = torch.zeros_like(origin)
    gap = origin - y
    size = gap.norm(dim=-1)
    scale = (y.norm(dim=-1) + origin.norm(dim=-1)).clamp_min(torch.finfo(y.dtype).tiny)
    finished = size <= 4 * eps * scale
    steps = 0
    while steps < max_steps and not bool(finished.all()) and bool(size.isfinite().all()):
        steps += 1
        direction = _newton_direction(potential, x, gap, size / scale, exact)
        length = torch.ones_like(size)
        for _ in range(MAX_HALVINGS):
            trial = x + length.unsqueeze(-1) * direction
            trial_gap = potential.gradient(trial) - y
            trial_size = trial_gap.norm(dim=-1)
            better = trial_size <= (1 - SUFFICIENT_DECREASE * length) * size
            # Within a few roundings of the solution there is nothing left to gain.
            settled = ~better & (size <= 4096 * eps * scale)
            if bool((better | settled | finished).all()):
                break
            length = torch.where(better | settled | finished, length, 0.5 * length)
        take = (better & ~finished).unsqueeze(-1)
        x = torch.where(take, trial, x)
        gap = torch.where(take, trial_gap, gap)
        finished = finished | ~better
        size = gap.norm(dim=-1)
        finished = finished | (size <= 4 * eps * scale)
    relative = size / scale
    worst = float(relative.max()) if relative.numel() else 0.0
    if not worst <= wanted:
        raise ConvergenceError(
            f"Newton's method stopped after {steps} steps with a relative residual of {worst:.1e} "
            f"(tolerance {wanted:.1e}) on {int((~(relative <= wanted)).sum())} of "
            f"{relative.numel()} rows: check y for values that are not finite, raise max_steps or "
            "tolerance, or use float64",
            residual=worst,
            steps=steps,
        )
    return Inversion(x, size, steps)


def attach_gradient(potential: ConvexPotential, x: Tensor, y: Tensor, exact: bool) -> Tensor:
    """Give a solution x of ∇φ(x) = y its implicit derivatives.

    Returns x − H⁻¹(∇φ(x) − y) with x and H = ∇²φ(x) held constant: one more Newton step whose
    first derivatives are dx/dy = H⁻¹ and dx/dθ = −H⁻¹ ∂_θ∇φ(x).
    """
    x = x.detach()
    gap = potential.gradient(x) - y
    if exact:
        with torch.no_grad():
            factor = _factor(potential.hessian(x))
        return x - torch.cholesky_solve(gap.unsqueeze(-1), factor).squeeze(-1)
    step: Tensor = ImplicitSolve.apply(  # type: ignore[no-untyped-call]
        gap, lambda v: potential.hessian_product(x, v), 2 * potential.dim
    )
    return x - step
