# SPDX-License-Identifier: Apache-2.0
"""Rows to train on, and rows held out."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.datasets.sizes import check_seed, check_size


def split_rows(num_rows: int, num_test: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of the rows to train on and of those held out, in a random order.

    Args:
        num_rows: of both.
        num_test: rows held out.
        seed: of the order.

    Raises:
        ValueError: if ``num_test`` leaves no rows on one side.
    """
    if check_size("num_test", num_test) >= num_rows:
        raise ValueError(f"num_test={num_test}: expected a number from 1 to {num_rows - 1}")
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(check_seed(seed)))
    return order[num_test:], order[:num_test]
