# SPDX-License-Identifier: Apache-2.0
"""Tensors, datasets and loaders as one thing: batches of arguments for a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    TensorDataset,
    random_split,
)

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.infer.ranks import Ranks
from pyro_idvae.programs.arguments import (
    Arguments,
    as_arguments,
    named_arguments,
    row_count,
    take_rows,
    tensors_of,
)
from pyro_idvae.programs.door import check_pair, first_parameter, where_weights_are

ALONE = Ranks(0, 1)
ROWS_CHECKED = 2**16
"""Rows of data that are on another device at once, to be checked there."""


class TensorBatches:
    """Batches of tensors held in memory.

    Args:
        arguments: the tensors.
        batch_size: rows a batch; None for all in one.
        ranks: the process whose share of each batch is given, of how many.
    """

    def __init__(self, arguments: Arguments, batch_size: int | None, ranks: Ranks = ALONE) -> None:
        self.arguments, self.ranks = arguments, ranks
        self.num_rows = row_count(arguments)
        self.batch_size = min(
            self.num_rows if batch_size is None else check_count("batch_size", batch_size),
            self.num_rows,
        )

    def batches(self, generator: torch.Generator | None) -> Iterator[Arguments | None]:
        """Yield batches, shuffled if there is a generator and more than one batch.

        None is the share of a process that a small batch has no row for.
        """
        if self.batch_size == self.num_rows and self.ranks.size == 1:
            yield self.arguments
            return
        order = torch.arange(self.num_rows)
        if generator is not None and self.batch_size < self.num_rows:
            order = torch.randperm(self.num_rows, generator=generator)
        device = tensors_of(self.arguments)[0].device
        for index in order.to(device).split(self.batch_size):
            own = index[self.ranks.rank :: self.ranks.size]
            yield take_rows(self.arguments, own) if len(own) else None

    def begin_epoch(self, number: int) -> None:
        """Do nothing: the order comes from the generator."""

    def first(self) -> Arguments:
        """Return one batch."""
        found = next(self.batches(None))
        if found is None:
            raise ArgumentError(
                f"batch_size={self.batch_size} with {self.ranks.size} processes, which share each "
                "batch: give a row to each at least"
            )
        return found

    def alone(self) -> TensorBatches:
        """Return whole batches."""
        return TensorBatches(self.arguments, self.batch_size)

    def shared(self) -> TensorBatches:
        """Return this process's share of each batch."""
        return TensorBatches(self.arguments, self.batch_size, Ranks.here())

    @property
    def is_one_step(self) -> bool:
        """Tell whether an epoch is known to be a single batch."""
        return self.batch_size == self.num_rows

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators that the order of the batches comes from, besides the one given."""
        return []

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
        self.num_rows = _length(loader.dataset)

    def begin_epoch(self, number: int) -> None:
        """Let a sampler of several processes shuffle anew."""
        sampler: Any = self.loader.sampler
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(number)

    def shared(self) -> LoaderBatches:
        """Return itself, which must give this process's share.

        Raises:
            ArgumentError: if it gives all rows to each of several processes.
        """
        if Ranks.here().size > 1 and not isinstance(self.loader.sampler, DistributedSampler):
            raise ArgumentError(
                "data is a DataLoader that gives all rows to each process: make it with "
                "sampler=torch.utils.data.DistributedSampler(dataset)"
            )
        return self

    def batches(self, generator: torch.Generator | None) -> Iterator[Arguments]:
        """Yield the loader's batches.

        Raises:
            DataError: for a batch of other types than the first.
        """
        kinds: dict[str, Any] | None = None
        for number, batch in enumerate(self.loader):
            arguments = as_arguments(batch, f"batch {number} of data")
            own = {n: getattr(v, "dtype", type(v)) for n, v in named_arguments(arguments).items()}
            kinds = kinds or own
            if own != kinds:
                raise DataError(
                    f"batch {number} of data has the types {own}, the first has {kinds}: let the "
                    "dataset give the same for all rows"
                )
            yield arguments

    def first(self) -> Arguments:
        """Return one batch."""
        for arguments in self.batches(None):
            return arguments
        raise DataError(
            f"data gave no batch of its {self.num_rows} rows: a loader must give some each time "
            "it is gone through; is batch_size larger than the data, with drop_last?"
        )

    @property
    def is_one_step(self) -> bool:
        """Tell whether an epoch is known to be a single batch."""
        return False

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators that the order of the batches comes from, besides the global one."""
        loader: Any = self.loader
        inner = getattr(loader.batch_sampler, "sampler", None)
        found = [getattr(part, "generator", None) for part in (loader, loader.sampler, inner)]
        return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())

    def split(self, share: float, seed: int) -> tuple[LoaderBatches, LoaderBatches]:
        """Refuse: whoever made the loader knows how to split."""
        raise ArgumentError(
            f"validation={share}: a DataLoader cannot be split here; pass a second DataLoader"
        )


Batches = TensorBatches | LoaderBatches


def _length(dataset: Any) -> int:
    """Return the number of rows of a dataset, which must say it."""
    try:
        size = len(dataset)
    except TypeError as error:
        raise DataError(
            f"data is a {type(dataset).__name__}, which does not say how many rows it has: a batch "
            "stands for all of them; give it a __len__"
        ) from error
    if size == 0:
        raise DataError("data has 0 rows: there is nothing to fit")
    return size


def make_batches(data: Any, batch_size: int | None) -> Batches:
    """Return batches of a Tensor, tuple, dict, ``Dataset`` or ``DataLoader``."""
    if isinstance(data, DataLoader):
        if batch_size is not None:
            raise ArgumentError(
                f"batch_size={batch_size} with a DataLoader, which has its own: leave it out"
            )
        return LoaderBatches(data)
    if isinstance(data, TensorDataset):
        return TensorBatches(as_arguments(data.tensors), batch_size)
    if isinstance(data, Dataset):
        size, number = batch_size or _length(data), Ranks.here().size
        if number > 1:
            each = -(-size // number)
            return LoaderBatches(DataLoader(data, each, sampler=DistributedSampler(data)))
        return LoaderBatches(DataLoader(data, batch_size=size, shuffle=True))
    return TensorBatches(as_arguments(data), batch_size)


def split_data(
    data: Any, batch_size: int | None, validation: Any, seed: int
) -> tuple[Batches, Batches | None]:
    """Return training batches and, if wanted, validation batches."""
    if validation is None:
        return make_batches(data, batch_size), None
    if not isinstance(validation, float):
        own = None if isinstance(validation, DataLoader) else batch_size
        return make_batches(data, batch_size), make_batches(validation, own)
    if isinstance(data, Dataset) and not isinstance(data, TensorDataset):
        share = check_real("validation", validation, above=0.0, below=1.0)
        generator = torch.Generator().manual_seed(seed)
        train, test = random_split(data, [1 - share, share], generator=generator)
        return make_batches(train, batch_size), make_batches(test, batch_size)
    return make_batches(data, batch_size).split(validation, seed)


def check_batches(model: Any, guide: Any, batches: Batches) -> None:
    """Raise a typed error for programs and data that no training could use.

    Data on another device than the weights go there some rows at a time.
    """
    whole = batches.arguments if isinstance(batches, TensorBatches) else batches.first()
    like, tensors = first_parameter(model, guide), tensors_of(whole)
    there = like is None or all(t.device == like.device or t.is_meta for t in tensors)
    if there or (like is not None and like.is_meta):
        check_pair(model, guide, whole)
        return
    for part in torch.arange(row_count(whole)).split(ROWS_CHECKED):
        try:
            check_pair(model, guide, where_weights_are(take_rows(whole, part), model, guide))
        except DataError as error:
            rows = f"rows {int(part[0])} to {int(part[-1])}, counted anew"
            raise DataError(f"in {rows}: {error}") from error
