# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments: each raises a typed error naming argument, value and remedy.

torch is imported where tensors are checked: what knows arrays alone runs without it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter, isclass, signature
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_idvae.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def check_count(name: str, value: object, *, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < minimum:
        raise ArgumentError(f"{name}={value!r}: expected an integer of at least {minimum}")
    return int(value)


def check_seed(value: object, name: str = "seed") -> int:
    """Return ``value`` as an int that every generator of random numbers takes."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= int(value) < 2**32:
        raise ArgumentError(
            f"{name}={value!r}: expected an integer from 0 to 2**32 - 1, which is what numpy's "
            "generator takes"
        )
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


def check_list(name: str, value: object, wanted: str) -> list[Any]:
    """Return a sequence as a list.

    Args:
        name: of the argument.
        value: what was given for it.
        wanted: what was expected, in words.
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise ArgumentError(f"{name}={value!r:.60}: expected {wanted}")
    return list(value)


def check_further(name: str, value: object, known: Iterable[str], example: str) -> dict[str, Any]:
    """Return a dict of further arguments for another function.

    Args:
        name: of the argument.
        value: what was given for it.
        known: the names that the other function takes here.
        example: such a dict, in words.
    """
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{name} is a {type(value).__name__}: expected a dict, {example}")
    unknown = sorted(set(value) - set(known), key=str)
    if unknown:
        raise ArgumentError(f"{name} has {unknown}: expected some of {sorted(known)}")
    return dict(value)


def check_interval(name: str, value: object) -> tuple[float, float]:
    """Return the two ends of an interval."""
    ends = check_list(name, value, "the least value and the greatest")
    if len(ends) != 2:
        raise ArgumentError(f"{name}={value!r}: expected the least value and the greatest")
    low, high = (check_real(f"{name} entry", end) for end in ends)
    if not low < high:
        raise ArgumentError(f"{name}={value!r}: expected the least value before the greatest")
    return low, high


def check_index(name: str, value: object, size: int) -> int:
    """Return ``value`` as an index into so many, negative ones counting from the end."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not -size <= int(value) < size:
        raise ArgumentError(f"{name}={value!r}: expected an integer from {-size} to {size - 1}")
    return int(value)


def check_hidden_dims(hidden_dims: object, name: str = "hidden_dims") -> list[int]:
    """Return hidden layer widths as a non-empty list of positive ints."""
    if isinstance(hidden_dims, str) or not isinstance(hidden_dims, Sequence) or not hidden_dims:
        raise ArgumentError(
            f"{name}={hidden_dims!r}: expected a non-empty list of layer widths, e.g. [64]"
        )
    return [check_count(f"{name} entry", width) for width in hidden_dims]


def check_callable(name: str, value: Any, wanted: str, *, classes: bool = False) -> None:
    """Raise unless something can be called.

    Args:
        name: of the argument.
        value: what was given for it.
        wanted: what was expected, in words.
        classes: whether a class will do.
    """
    if not callable(value) or (isclass(value) and not classes):
        kind = f"the class {value.__name__}" if isclass(value) else f"a {type(value).__name__}"
        raise ArgumentError(f"{name} is {kind}: expected {wanted}")


def check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise for options that a function or class does not take.

    Args:
        function: what they are handed on to.
        options: keyword arguments.
    """
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    known = [p.name for p in signature(function).parameters.values() if p.kind in named]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ArgumentError(
            f"{unknown} {'is no argument' if len(unknown) == 1 else 'are no arguments'} of "
            f"{function.__name__}: it takes {', '.join(known) or 'none'}"
        )


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
    """Raise unless two tensors have one dtype and stand on one device.

    Under autocast products come in shorter numbers, on purpose.
    """
    if value.dtype != other.dtype and not _shortened(value, other):
        raise ArgumentError(
            f"{name} has dtype {value.dtype} but {other_name} has {other.dtype}: "
            f"convert one, e.g. {name}.to({other.dtype})"
        )
    if value.device != other.device:
        raise ArgumentError(
            f"{name} is on {value.device} but {other_name} is on {other.device}: "
            f"move one, e.g. {name}.to({str(other.device)!r})"
        )


def _shortened(one: Tensor, other: Tensor) -> bool:
    """Tell whether autocast has made float32 and its shorter numbers of one type."""
    import torch

    kind = one.device.type
    if kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind):
        return False
    return {one.dtype, other.dtype} == {torch.float32, torch.get_autocast_dtype(kind)}


def check_path(name: str, value: object) -> Path:
    """Return a str or path as a ``Path``."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or "\0" in path or not path:
        raise ArgumentError(f"{name}={value!r:.60}: expected a path, as a str or a Path")
    return Path(path)


def inverse_softplus(value: Tensor) -> Tensor:
    """Return r with softplus(r) = ``value`` > 0, accurate for small and large values."""
    import torch

    return value + torch.log(-torch.expm1(-value))
