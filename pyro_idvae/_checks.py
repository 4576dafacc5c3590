# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments: each raises a typed error naming argument, value and remedy.

torch is imported where tensors are checked: what knows arrays alone runs without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING

from pyro_idvae.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def check_count(name: str, value: object, *, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < minimum:
        raise ArgumentError(f"{name}={value!r}: expected an integer of at least {minimum}")
    return int(value)


def check_real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
) -> float:
    """Return ``value`` as a finite float within the limits."""
    wanted = "a finite number"
    if above is not None:
        wanted += f" above {above:g}"
    if at_least is not None:
        wanted += f" of at least {at_least:g}"
    if below is not None:
        wanted += f" below {below:g}"
    number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    good = (
        math.isfinite(number)
        and (above is None or number > above)
        and (at_least is None or number >= at_least)
        and (below is None or number < below)
    )
    if not good:
        raise ArgumentError(f"{name}={value!r}: expected {wanted}")
    return number


def check_window(
    low_name: str, low: object, high_name: str, high: object | None
) -> tuple[float, float | None]:
    """Return a positive floor and a ceiling (or None) that is not below it."""
    floor = check_real(low_name, low, above=0.0)
    if high is None:
        return floor, None
    ceiling = check_real(high_name, high, above=0.0)
    if ceiling < floor:
        raise ArgumentError(
            f"{high_name}={high!r} is below {low_name}={low!r}: raise {high_name} to at least "
            f"{floor:g} or lower {low_name}"
        )
    return floor, ceiling


def check_hidden_dims(hidden_dims: object) -> list[int]:
    """Return hidden layer widths as a non-empty list of positive ints."""
    if isinstance(hidden_dims, str) or not isinstance(hidden_dims, Sequence) or not hidden_dims:
        raise ArgumentError(
            f"hidden_dims={hidden_dims!r}: expected a non-empty list of layer widths, e.g. [64]"
        )
    return [check_count("hidden_dims entry", width) for width in hidden_dims]


def check_floating(name: str, value: object) -> Tensor:
    """Return ``value`` if it is a floating point tensor."""
    from torch import Tensor

    if not isinstance(value, Tensor):
        raise ArgumentError(f"{name} is a {type(value).__name__}: expected a torch.Tensor")
    if not value.is_floating_point():
        raise ArgumentError(f"{name} has dtype {value.dtype}: pass {name}.float() or .double()")
    return value


def check_last_dim(name: str, value: object, dim: int) -> Tensor:
    """Return ``value`` if it is a floating point tensor whose last dimension is ``dim``."""
    tensor = check_floating(name, value)
    if tensor.dim() == 0 or tensor.shape[-1] != dim:
        raise ShapeError(
            f"{name} has shape {tuple(tensor.shape)}: expected the last dimension to be {dim}"
        )
    return tensor


def check_same_kind(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless two tensors have one dtype and stand on one device."""
    if value.dtype != other.dtype:
        raise ArgumentError(
            f"{name} has dtype {value.dtype} but {other_name} has {other.dtype}: "
            f"convert one, e.g. {name}.to({other.dtype})"
        )
    if value.device != other.device:
        raise ArgumentError(
            f"{name} is on {value.device} but {other_name} is on {other.device}: "
            f"move one, e.g. {name}.to({str(other.device)!r})"
        )


def inverse_softplus(value: Tensor) -> Tensor:
    """Return r with softplus(r) = ``value`` > 0, accurate for small and large values."""
    import torch

    return value + torch.log(-torch.expm1(-value))
