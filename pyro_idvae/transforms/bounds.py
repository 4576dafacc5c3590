# SPDX-License-Identifier: Apache-2.0
"""Pairs (least, most), whether a floating point number can hold them, and weights that are none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pyro_idvae._checks import check_real
from pyro_idvae.errors import ArgumentError


def check_pair(name: str, value: object) -> tuple[Any, Any]:
    """Return a pair (least, most), whatever its entries are."""
    entries = tuple(value) if isinstance(value, Iterable) else ()
    if len(entries) != 2:
        raise ArgumentError(f"{name}={value!r}: expected a pair of numbers (least, most)")
    return entries[0], entries[1]


def check_bounds(name: str, value: object) -> tuple[float, float]:
    """Return a pair of positive finite numbers, the second not below the first."""
    least, most = check_pair(name, value)
    low = check_real(f"{name}[0]", least, above=0.0)
    return low, check_real(f"{name}[1]", most, at_least=low)


def largest_bound() -> float:
    """Return the largest M (and 1 over the least L) of maps in the default dtype.

    Its square is finite: densities and Jacobians hold squares of what a map returns.
    """
    return math.sqrt(torch.finfo(torch.get_default_dtype()).max)


def check_representable(name: str, value: object) -> tuple[float, float]:
    """Return Lipschitz bounds (L, M) that a map of the default dtype can have."""
    low, high = check_bounds(name, value)
    most = largest_bound()
    if low < 1 / most or high > most:
        raise ArgumentError(
            f"{name}={(low, high)!r} is beyond what {torch.get_default_dtype()} can hold, "
            f"{1 / most:.1g} to {most:.1g}: ask for less, or build the map under "
            "torch.set_default_dtype(torch.float64)"
        )
    return low, high


def weights_not_finite(module: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers that hold NaN or infinite numbers."""
    held = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, value in held if not bool(torch.isfinite(value).all())]
