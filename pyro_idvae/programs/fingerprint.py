# SPDX-License-Identifier: Apache-2.0
"""What tells programs, data and options from others, in JSON."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from pyro_idvae.programs.arguments import Arguments, named_arguments
from pyro_idvae.programs.run import Program

HASHED_BYTES = 2**26
"""Larger tensors are known by rows at equal distances that come to as many bytes."""


def name_of(program: Program) -> str:
    """Return the name of a function, or of an object's class."""
    kind = program if hasattr(program, "__qualname__") else type(program)
    return str(kind.__qualname__)


def arguments_identity(arguments: Arguments) -> dict[str, Any]:
    """Return what tells a model's arguments from others, by name."""
    return {
        name: tensor_identity(value) if isinstance(value, Tensor) else plain(value)
        for name, value in named_arguments(arguments).items()
    }


def plain(value: Any) -> Any:
    """Return a value that JSON has; of others the type, as their words may hold addresses."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else name_of(value)


def tensor_identity(tensor: Tensor) -> str:
    """Return a tensor's shape, type and digest."""
    size = tensor.numel() * tensor.element_size()
    rows = tensor.detach()
    if size > HASHED_BYTES and len(rows) > 1:
        rows = rows[:: max(1, size // HASHED_BYTES)]
    if rows.layout != torch.strided:
        rows = rows.to_dense()
    dense = rows.cpu().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(dense.numpy().data).hexdigest()[:16]
    return f"{tuple(tensor.shape)} {tensor.dtype} {digest}"
