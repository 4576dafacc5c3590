# SPDX-License-Identifier: Apache-2.0
"""Full precision where densities are wanted, and shorter numbers where weights are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

DEVICES = ("cpu", "cuda")


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute products of float32 matrices in float32: no TF32, no autocast to shorter numbers.

    Example:
        >>> import torch
        >>> x = torch.ones(2, 2)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     with full_precision():
        ...         within = (x @ x).dtype
        ...     within, (x @ x).dtype
        (torch.float32, torch.bfloat16)
    """
    before = torch.get_float32_matmul_precision()
    with ExitStack() as held:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                held.enter_context(torch.autocast(device, enabled=False))
        if before != "highest":
            torch.set_float32_matmul_precision("highest")
            held.callback(torch.set_float32_matmul_precision, before)
        yield


@contextmanager
def training_precision() -> Iterator[None]:
    """Go on in the numbers that autocast asks for, without its cache.

    A weight that was cast once is cast no more before the context ends that was entered first: all
    steps of a training loop within it would see the weights of the first.
    """
    with ExitStack() as held:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                dtype = torch.get_autocast_dtype(device)
                held.enter_context(torch.autocast(device, dtype, cache_enabled=False))
        yield
