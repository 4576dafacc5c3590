# SPDX-License-Identifier: Apache-2.0
"""An orthonormal basis of the vectors orthogonal to a given one, by one reflection."""

from __future__ import annotations

import torch
from torch import Tensor


def reflected(x: Tensor, unit: Tensor) -> Tensor:
    r"""Return Qx for the Householder reflection Q that takes the last axis to −``unit``.

    .. math:: Q = I - \frac{uu^\top}{1 + r_V}, \qquad u = r + e_V

    Q is symmetric and its own inverse; its first V − 1 columns are an orthonormal basis of the
    complement of r. Costs O(V).

    Args:
        x: of shape ``batch + (V,)``.
        unit: r, of shape ``(V,)`` and length 1, its last entry not negative.
    """
    # The last entry of u is r_V + 1 ≥ 1: nothing cancels.
    along = (x * unit).sum(-1, keepdim=True) + x[..., -1:]
    factor = along / (1 + unit[-1])
    out = x - factor * unit
    return torch.cat([out[..., :-1], out[..., -1:] - factor], -1)


def in_complement(v: Tensor, unit: Tensor) -> Tensor:
    """Return Bv, of shape ``batch + (V,)``: BᵀB = I and ``unit``ᵀB = 0.

    Args:
        v: of shape ``batch + (V − 1,)``.
        unit: as for :func:`reflected`.
    """
    return reflected(torch.nn.functional.pad(v, (0, 1)), unit)


def of_complement(x: Tensor, unit: Tensor) -> Tensor:
    """Return Bᵀx, of shape ``batch + (V − 1,)``: what ``unit`` adds to x is forgotten."""
    return reflected(x, unit)[..., :-1]
