# SPDX-License-Identifier: Apache-2.0
"""Full precision where densities are wanted, and shorter numbers where weights are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any

import torch

DEVICES = ("cpu", "cuda")
LIBRARIES = (
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
)
"""Parts of ``torch.backends`` with a precision of their own, since torch 2.9."""


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
    with ExitStack() as held:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                held.enter_context(torch.autocast(device, enabled=False))
        libraries = [_part(name) for name in LIBRARIES]
        settings = [(part, "fp32_precision") for part in libraries]
        wanted: Any = "ieee"
        if not all(hasattr(*setting) for setting in settings):
            # Of older versions of torch.
            settings = [(part, "allow_tf32") for part in (_part("cuda.matmul"), _part("cudnn"))]
            wanted = False
        for part, name in settings:
            before = getattr(part, name)
            if before not in (wanted, "none"):
                setattr(part, name, wanted)
                held.callback(setattr, part, name, before)
        yield


def _part(name: str) -> Any:
    return reduce(getattr, name.split("."), torch.backends)


@contextmanager
def training_precision() -> Iterator[None]:
    """Go on in the numbers that autocast asks for, without its cache.

    A weight that was cast once is cast no more before the context ends that was entered first: all
    steps of a training loop within it would see the weights of the first, and so would what comes
    after the loop.
    """
    with ExitStack() as held:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                dtype = torch.get_autocast_dtype(device)
                held.callback(torch.clear_autocast_cache)
                held.enter_context(torch.autocast(device, dtype, cache_enabled=False))
        yield
