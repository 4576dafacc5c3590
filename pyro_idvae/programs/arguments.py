# SPDX-License-Identifier: Apache-2.0
"""The arguments of a model: tensors with one row for each data point, and anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_idvae.errors import DataError, ShapeError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a model."""


def as_arguments(data: Any) -> Arguments:
    """Return a tensor, tuple, list or mapping as arguments of a model."""
    if isinstance(data, Mapping):
        return (), dict(data)
    if isinstance(data, (tuple, list)):
        return tuple(data), {}
    return (data,), {}


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
