# SPDX-License-Identifier: Apache-2.0
"""What looks at a model without leaving a trace: no random state moved, no parameter stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch


@contextmanager
def unchanged() -> Iterator[None]:
    """Put torch's random states and Pyro's parameter store back as they were; also a decorator.

    Random numbers drawn inside are those that the caller would draw next. Programs that run inside
    find the parameters that are stored; what they would add to the store is forgotten.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    store = pyro.get_param_store()
    with torch.random.fork_rng(devices=devices), store.scope(store.get_state()):
        yield
