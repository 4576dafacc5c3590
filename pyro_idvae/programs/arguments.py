# SPDX-License-Identifier: Apache-2.0
"""The arguments of a model: tensors with one row for each data point, and anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pyro_idvae.errors import DataError, ShapeError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a model."""


def as_arguments(data: Any, name: str = "data") -> Arguments:
    """Return a tensor, tuple, list or mapping as arguments of a model.

    Args:
        data: what somebody gave for them.
        name: what messages call it.

    Raises:
        DataError: for anything else, such as an array, a loader or numbers, saying how to convert.
    """
    if isinstance(data, Tensor):
        return (data,), {}
    if isinstance(data, Mapping):
        arguments: Arguments = (), dict(data)
    elif isinstance(data, (tuple, list)):
        arguments = tuple(data), {}
    else:
        raise DataError(f"{name} is {kind_of(data)}: {_conversion(name, data)}")
    if any(not isinstance(key, str) for key in arguments[1]):
        raise DataError(
            f"{name} is a dict with the keys {list(arguments[1])}: expected the names "
            "of the model's arguments"
        )
    for place, value in named_arguments(arguments).items():
        if is_array(value) or isinstance(value, Dataset | DataLoader):
            raise DataError(f"{place} is {kind_of(value)}: {_conversion(place, value)}")
    if not any(isinstance(value, Tensor) for value in named_arguments(arguments).values()):
        kinds = [kind_of(value) for value in named_arguments(arguments).values()][:3]
        raise DataError(
            f"{name} holds no tensor with rows but {', '.join(kinds) or 'nothing'}: "
            f"{_conversion(name, data)}"
        )
    return arguments


def is_array(value: Any) -> bool:
    """Tell an array or table of another library, such as numpy, pandas or xarray."""
    if isinstance(value, Tensor) or not hasattr(value, "__array__"):
        return False
    return getattr(value, "ndim", 1) != 0


def kind_of(value: Any) -> str:
    """Return what something is, for messages: itself if that is short, or its type."""
    kind = type(value)
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value) if len(repr(value)) < 40 else f"a {kind.__name__}"
    module = kind.__module__.partition(".")[0]
    return f"a {kind.__name__}" if module == "builtins" else f"a {module} {kind.__name__}"


def _conversion(name: str, value: Any) -> str:
    """Return how to make a tensor of something."""
    if isinstance(value, TensorDataset):
        return f"pass its tensors, {name}.tensors"
    if isinstance(value, DataLoader):
        return f"only fit takes loaders; pass the tensors themselves, e.g. {name}.dataset.tensors"
    if isinstance(value, Dataset):
        return f"only fit takes these; pass tensors, e.g. torch.stack([x for x in {name}])"
    if hasattr(value, "to_numpy"):
        return f"pass torch.as_tensor({name}.to_numpy(), dtype=torch.float32)"
    if is_array(value) or isinstance(value, list | tuple):
        return f"pass torch.as_tensor({name}, dtype=torch.float32), with one row a data point"
    return "pass a Tensor with one row a data point, or a tuple or a dict of them"


def named_arguments(arguments: Arguments) -> dict[str, Any]:
    """Return all arguments by the names that messages call them."""
    args, kwargs = arguments
    return {f"data[{i}]": value for i, value in enumerate(args)} | kwargs


def has_rows(value: Any) -> bool:
    """Tell whether an argument is a tensor whose first dimension counts data points."""
    return isinstance(value, Tensor) and value.dim() > 0


def row_count(arguments: Arguments) -> int:
    """Return the number of rows all tensors share.

    Raises:
        DataError: if there is no tensor, no row, or the numbers differ.
    """
    rows = {name: len(v) for name, v in named_arguments(arguments).items() if has_rows(v)}
    if not rows:
        raise DataError("data holds no tensor with rows: pass a Tensor, a tuple or a dict of them")
    if len(set(rows.values())) > 1:
        raise ShapeError(f"the tensors of data have different numbers of rows: {rows}")
    count = next(iter(rows.values()))
    if count == 0:
        raise DataError("data has 0 rows: there is nothing to fit")
    return count


def take_rows(arguments: Arguments, index: Tensor) -> Arguments:
    """Return the rows of every tensor; anything else is passed on."""

    def rows(value: Any) -> Any:
        return value[index.to(value.device)] if has_rows(value) else value

    args, kwargs = arguments
    return tuple(map(rows, args)), {name: rows(value) for name, value in kwargs.items()}


def placed(arguments: Arguments, device: torch.device) -> Arguments:
    """Return the data on a device: themselves, where they are there, or have no numbers."""

    def moved(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) and not value.is_meta else value

    args, kwargs = arguments
    return tuple(map(moved, args)), {name: moved(value) for name, value in kwargs.items()}


def repeat_rows(arguments: Arguments, times: int) -> Arguments:
    """Return the data that many times, one copy after the other."""
    return take_rows(arguments, torch.arange(row_count(arguments)).repeat(times))


def one_row_more(arguments: Arguments) -> Arguments:
    """Return the data with their first row once more at the end."""
    index = torch.arange(row_count(arguments) + 1)
    index[-1] = 0
    return take_rows(arguments, index)


def tensors_of(arguments: Arguments) -> list[Tensor]:
    """Return all tensors among the arguments, in a fixed order."""
    return [v for v in named_arguments(arguments).values() if isinstance(v, Tensor)]


def with_tensors(arguments: Arguments, tensors: tuple[Tensor, ...]) -> Arguments:
    """Return the arguments with other tensors, in the order of :func:`tensors_of`."""
    given = iter(tensors)

    def put(value: Any) -> Any:
        return next(given) if isinstance(value, Tensor) else value

    args, kwargs = arguments
    return tuple(map(put, args)), {name: put(value) for name, value in kwargs.items()}
