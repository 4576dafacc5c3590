# SPDX-License-Identifier: Apache-2.0
"""Matrix-free linear algebra on symmetric positive definite operators, for whole batches.

By hand: ``linear_operator`` stops by the mean residual of all columns, not by a tolerance for each
row, and its log-determinant wants an operator that is made of tensors, not a function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
"""A·V for V of shape ``batch + (d, k)``."""


@torch.no_grad()
def conjugate_gradient(
    operator: Operator, right: Tensor, *, tolerance: float | Tensor, max_steps: int
) -> Tensor:
    """Solve A·X = B column by column.

    Args:
        operator: A, symmetric positive definite.
        right: B, of shape ``batch + (d, k)``.
        tolerance: stop when every residual is below this times the norm of its column; a
            number or a tensor that broadcasts with ``batch + (1, k)``.
        max_steps: at most this many products with A.

    Returns:
        X, of the shape of B.
    """
    solution = torch.zeros_like(right)
    residual = right.clone()
    direction = residual
    square = residual.square().sum(-2, keepdim=True)
    goal = square * torch.as_tensor(tolerance, dtype=right.dtype, device=right.device).square()
    tiny = torch.finfo(right.dtype).tiny
    for _ in range(max_steps):
        if bool((square <= goal).all()):
            break
        product = operator(direction)
        step = square / (direction * product).sum(-2, keepdim=True).clamp_min(tiny)
        step = torch.where(square > goal, step, torch.zeros_like(step))
        solution = solution + step * direction
        residual = residual - step * product
        new_square = residual.square().sum(-2, keepdim=True)
        direction = residual + (new_square / square.clamp_min(tiny)) * direction
        square = new_square
    return solution


class ImplicitSolve(torch.autograd.Function):
    """A⁻¹·r by conjugate gradients, differentiable in r; A counts as a constant."""

    @staticmethod
    def forward(ctx: Any, right: Tensor, operator: Operator, max_steps: int) -> Tensor:
        """Solve for one right-hand side of shape ``batch + (d,)``."""
        ctx.operator, ctx.max_steps = operator, max_steps
        return _solve_vector(operator, right, max_steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Solve once more: A is symmetric."""
        return _solve_vector(ctx.operator, grads[0], ctx.max_steps), None, None


def _solve_vector(operator: Operator, right: Tensor, max_steps: int) -> Tensor:
    tolerance = 4 * torch.finfo(right.dtype).eps
    columns = right.unsqueeze(-1)
    return conjugate_gradient(operator, columns, tolerance=tolerance, max_steps=max_steps).squeeze(
        -1
    )


@torch.no_grad()
def lanczos_log_det(operator: Operator, probes: Tensor, steps: int) -> Tensor:
    r"""Estimate log det A by stochastic Lanczos quadrature.

    .. math:: \log\det A = \mathbb{E}_v\left[v^\top \log(A)\, v\right]
        \approx \frac{1}{k}\sum_{i=1}^{k} |v_i|^2 \sum_j \tau_{ij}^2 \log\theta_{ij}

    with θ and τ the eigenvalues and first eigenvector entries of the Lanczos matrix of v_i.

    Args:
        operator: A, symmetric positive definite.
        probes: v, of shape ``batch + (d, k)``, with E[v vᵀ] = I.
        steps: size of the Lanczos matrix.

    Returns:
        One estimate a probe, of shape ``batch + (k,)``.

    Reference:
        Ubaru, Chen & Saad, *Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature*, 2017.
    """
    steps = min(steps, probes.shape[-2])
    norm = probes.norm(dim=-2, keepdim=True)
    basis = [probes / norm]
    diagonal: list[Tensor] = []
    off: list[Tensor] = []
    floor = 64 * torch.finfo(probes.dtype).eps
    alive = torch.ones_like(norm, dtype=torch.bool)
    for step in range(steps):
        vector = operator(basis[-1])
        alpha = (basis[-1] * vector).sum(-2, keepdim=True)
        # After a breakdown the rest of the matrix is the identity: decoupled, log 1 = 0.
        diagonal.append(torch.where(alive, alpha, torch.ones_like(alpha)).squeeze(-2))
        if step == steps - 1:
            break
        for _ in range(2):  # twice is enough to keep the basis orthogonal to rounding
            for earlier in basis:
                vector = vector - (earlier * vector).sum(-2, keepdim=True) * earlier
        beta = vector.norm(dim=-2, keepdim=True)
        alive = alive & (beta > floor * alpha.abs())
        off.append(torch.where(alive, beta, torch.zeros_like(beta)).squeeze(-2))
        basis.append(vector / beta.clamp_min(torch.finfo(probes.dtype).tiny))
    matrix = torch.diag_embed(torch.stack(diagonal, -1))
    if off:
        beside = torch.stack(off, -1)
        matrix = matrix + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    theta, vectors = torch.linalg.eigh(matrix)
    quadrature: Tensor = (vectors[..., 0, :].square() * theta.log()).sum(-1)
    squared: Tensor = norm.squeeze(-2).square()
    return squared * quadrature
