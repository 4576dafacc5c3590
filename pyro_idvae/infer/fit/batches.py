# SPDX-License-Identifier: Apache-2.0
"""Tensors, datasets and loaders as one thing: batches of arguments for a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from pyro_idvae._checks import check_count, check_real, check_same_kind
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs.arguments import (
    Arguments,
    as_arguments,
    named_arguments,
    row_count,
    take_rows,
    tensors_of,
)


class TensorBatches:
    """Batches of tensors held in memory.

    Args:
        arguments: the tensors.
        batch_size: rows a batch; None for all in one.
    """

    def __init__(self, arguments: Arguments, batch_size: int | None) -> None:
        self.arguments = arguments
        self.num_rows = row_count(arguments)
        self.batch_size = min(
            self.num_rows if batch_size is None else check_count("batch_size", batch_size),
            self.num_rows,
        )

    def batches(self, generator: torch.Generator | None) -> Iterator[Arguments]:
        """Yield batches, shuffled if there is a generator and more than one batch."""
        if self.batch_size == self.num_rows:
            yield self.arguments
            return
        order = (
            torch.arange(self.num_rows)
            if generator is None
            else torch.randperm(self.num_rows, generator=generator)
        )
        device = tensors_of(self.arguments)[0].device
        for index in order.to(device).split(self.batch_size):
            yield take_rows(self.arguments, index)

    def first(self) -> Arguments:
        """Return one batch."""
        return next(self.batches(None))

    def split(self, share: float, seed: int) -> tuple[TensorBatches, TensorBatches]:
        """Return (training, validation) batches, with this share of the rows for validation."""
        held = max(1, round(check_real("validation", share, above=0.0, below=1.0) * self.num_rows))
        if held >= self.num_rows:
            raise ArgumentError(
                f"validation={share} of {self.num_rows} rows leaves none to train on"
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.num_rows, generator=generator)
        train, test = (take_rows(self.arguments, index) for index in (order[held:], order[:held]))
        return TensorBatches(train, self.batch_size), TensorBatches(test, self.batch_size)


class LoaderBatches:
    """Batches from a ``DataLoader``, in its own order."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        dataset: Any = loader.dataset
        self.num_rows = len(dataset)
        if self.num_rows == 0:
            raise DataError("data has 0 rows: there is nothing to fit")

    def batches(self, generator: torch.Generator | None) -> Iterator[Arguments]:
        """Yield the loader's batches."""
        for batch in self.loader:
            yield as_arguments(batch)

    def first(self) -> Arguments:
        """Return one batch."""
        return next(self.batches(None))

    def split(self, share: float, seed: int) -> tuple[LoaderBatches, LoaderBatches]:
        """Refuse: whoever made the loader knows how to split."""
        raise ArgumentError(
            f"validation={share}: a DataLoader cannot be split here; pass a second DataLoader"
        )


Batches = TensorBatches | LoaderBatches


def make_batches(data: Any, batch_size: int | None) -> Batches:
    """Return batches of a Tensor, tuple, dict, ``Dataset`` or ``DataLoader``."""
    if isinstance(data, DataLoader):
        return LoaderBatches(data)
    if isinstance(data, TensorDataset):
        return TensorBatches(as_arguments(data.tensors), batch_size)
    if isinstance(data, Dataset):
        size = len(data)  # type: ignore[arg-type]
        if size == 0:
            raise DataError("data has 0 rows: there is nothing to fit")
        return LoaderBatches(DataLoader(data, batch_size=batch_size or size, shuffle=True))
    return TensorBatches(as_arguments(data), batch_size)


def split_data(
    data: Any, batch_size: int | None, validation: Any, seed: int
) -> tuple[Batches, Batches | None]:
    """Return training batches and, if wanted, validation batches."""
    if validation is None:
        return make_batches(data, batch_size), None
    if not isinstance(validation, float):
        return make_batches(data, batch_size), make_batches(validation, batch_size)
    if isinstance(data, Dataset) and not isinstance(data, TensorDataset):
        share = check_real("validation", validation, above=0.0, below=1.0)
        generator = torch.Generator().manual_seed(seed)
        train, test = random_split(data, [1 - share, share], generator=generator)
        return make_batches(train, batch_size), make_batches(test, batch_size)
    return make_batches(data, batch_size).split(validation, seed)


def check_batches(model: Any, batches: Batches, like: Tensor | None) -> None:
    """Raise a typed error for data that no training could use.

    A model with a method ``check_data`` judges its own arguments; for any other, floating point
    tensors must be finite and of the dtype and on the device of the parameters.
    """
    args, kwargs = batches.arguments if isinstance(batches, TensorBatches) else batches.first()
    if hasattr(model, "check_data"):
        model.check_data(*args, **kwargs)
        return
    for name, value in named_arguments((args, kwargs)).items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        if like is not None:
            check_same_kind(name, value, "the model", like)
        bad = ~value.isfinite()
        if bool(bad.any()):
            where = tuple(bad.nonzero()[0].tolist())
            raise DataError(
                f"{name} has {int(bad.sum())} entries that are not finite, the first at {where}: "
                "clean the data; a model that masks them itself can say so by a method check_data"
            )
