# SPDX-License-Identifier: Apache-2.0
"""Counts of genes in single cells of human blood."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_idvae.datasets.local import Folder, find
from pyro_idvae.datasets.split import split_rows


class CellSplit(NamedTuple):
    """Training and held-out cells, one row each.

    Attributes:
        train: counts, of shape ``(n, genes)``, as float32.
        test: held-out counts.
        train_types: number of each cell's type in ``types``.
        test_types: of held-out cells.
        genes: their names.
        types: names of the cell types.
    """

    train: Tensor
    test: Tensor
    train_types: Tensor
    test_types: Tensor
    genes: tuple[str, ...]
    types: tuple[str, ...]


def single_cells(folder: Folder, *, num_test: int = 100, seed: int = 0) -> CellSplit:
    """Load 700 blood cells with the counts of 765 genes, and their types.

    Args:
        folder: with ``pbmc68k_reduced.npz``: arrays ``counts``, ``bulk_labels``,
            ``bulk_label_names`` and ``genes``, taken from the data set of that name in scanpy.
        num_test: cells held out.
        seed: of the split.

    Returns:
        A :class:`CellSplit`.

    Raises:
        FileNotFoundError: without the file.
        ValueError: if ``num_test`` leaves no cells on one side.

    Reference:
        Zheng et al., *Massively parallel digital transcriptional profiling of single cells*, Nature
        Communications 2017; reduced by scanpy (BSD-3-Clause).
    """
    path = find(folder, "pbmc68k_reduced.npz", "arrays counts, bulk_labels, genes")
    with np.load(path, allow_pickle=False) as file:
        counts = torch.as_tensor(file["counts"].astype(np.float32))
        labels = torch.as_tensor(file["bulk_labels"].astype(np.int64))
        genes, types = tuple(map(str, file["genes"])), tuple(map(str, file["bulk_label_names"]))
    rest, held = split_rows(len(counts), num_test, seed)
    return CellSplit(counts[rest], counts[held], labels[rest], labels[held], genes, types)
