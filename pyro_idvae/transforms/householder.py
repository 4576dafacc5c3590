# SPDX-License-Identifier: Apache-2.0
"""An orthonormal basis of the vectors orthogonal to a given one, by one reflection."""

from __future__ import annotations

import torch
from torch import Tensor


def in_complement(v: Tensor, unit: Tensor) -> Tensor:
    r"""Return Bv, of shape ``batch + (V,)``: BᵀB = I and ``unit``ᵀB = 0.

    B is the first V − 1 columns of the Householder reflection that takes the last axis to
    −``unit``:

    .. math:: Q = I - \frac{uu^\top}{1 + r_V}, \qquad u = r + e_V

    Costs O(V).

    Args:
        v: of shape ``batch + (V − 1,)``.
        unit: r, of shape ``(V,)`` and length 1, its last entry not negative.
    """
    v, unit = _promoted(v, unit)
    # The last entry of u is r_V + 1 ≥ 1: nothing cancels.
    along = (v @ unit[:-1]).unsqueeze(-1)
    return torch.cat([torch.addcmul(v, along, unit[:-1] / (1 + unit[-1]), value=-1), -along], -1)


def of_complement(x: Tensor, unit: Tensor) -> Tensor:
    """Return Bᵀx, of shape ``batch + (V − 1,)``: what ``unit`` adds to x is forgotten.

    Args:
        x: of shape ``batch + (V,)``.
        unit: as for :func:`in_complement`.
    """
    x, unit = _promoted(x, unit)
    head, last = x[..., :-1], x[..., -1:]
    along = (head @ unit[:-1]).unsqueeze(-1) + last * (1 + unit[-1])
    return torch.addcmul(head, along, unit[:-1] / (1 + unit[-1]), value=-1)


def _promoted(x: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the more precise of their types, which a product does not see to itself."""
    dtype = torch.promote_types(x.dtype, unit.dtype)
    return x.to(dtype), unit.to(dtype)
