# SPDX-License-Identifier: Apache-2.0
"""Upper bounds of largest eigenvalues that stay upper bounds."""

from __future__ import annotations

import torch
from torch import Tensor

EXACT_SIZE = 256
"""Largest matrix whose eigenvalues are computed rather than bounded."""

GRAM_STEPS = 7
"""Squarings of the Gram iteration: within n^(1/2^8) of λ_max, 2.5 % at n = 512."""


def largest_eigenvalue(matrix: Tensor) -> Tensor:
    r"""Bound λ_max of positive semi-definite matrices from above; exact for small ones.

    Above ``EXACT_SIZE`` rows it is the Gram iteration

    .. math:: \lambda_{\max}(A) \le \| A^{2^t} \|_F^{1/2^t},

    an upper bound at every step, where power iteration bounds from *below*.

    Args:
        matrix: A, of shape ``batch + (n, n)``.

    Returns:
        A tensor of shape ``batch``, differentiable in A.

    Reference:
        Delattre et al., *Efficient Bound of Lipschitz Constant for Convolutional Layers by Gram
        Iteration*, ICML 2023.
    """
    if matrix.shape[-1] <= EXACT_SIZE:
        eigenvalues: Tensor = torch.linalg.eigvalsh(matrix)
        return eigenvalues[..., -1].clamp_min(0.0)
    log_norm = torch.zeros(matrix.shape[:-2], dtype=matrix.dtype, device=matrix.device)
    tiny = torch.finfo(matrix.dtype).tiny
    power = 1.0
    for _ in range(GRAM_STEPS):
        norm = torch.linalg.matrix_norm(matrix).clamp_min(tiny)
        log_norm = log_norm + norm.log() / power
        matrix = matrix / norm[..., None, None]
        matrix = matrix @ matrix
        power *= 2.0
    last: Tensor = torch.linalg.matrix_norm(matrix).clamp_min(tiny)
    return (log_norm + last.log() / power).exp()


def squared_norm(matrix: Tensor) -> Tensor:
    """Bound ‖A‖² from above through the smaller of AᵀA and AAᵀ, for A of ``batch + (m, n)``."""
    rows, columns = matrix.shape[-2:]
    gram = matrix.mT @ matrix if columns <= rows else matrix @ matrix.mT
    return largest_eigenvalue(gram)


def weighted_squared_norm(weights: Tensor, matrix: Tensor) -> Tensor:
    """Bound λ_max(Aᵀ diag(w) A) from above, for w ≥ 0 of ``batch + (m,)`` and A of (m, n)."""
    return squared_norm(safe_root(weights).unsqueeze(-1) * matrix)


def safe_root(value: Tensor) -> Tensor:
    """Return √v for v ≥ 0, with a derivative of 0, not an infinite one, where v underflows."""
    return value.clamp_min(torch.finfo(value.dtype).tiny).sqrt()
