# SPDX-License-Identifier: Apache-2.0
"""A module with the parameters that it had in one call, for what is computed after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class AtParameters:
    """A module with certain parameters.

    Args:
        module: whose methods are called.
        values: its parameters by name; they may be others than it has by then.
    """

    def __init__(self, module: nn.Module, values: dict[str, Tensor]) -> None:
        self.module, self.values = module, values

    def __call__(self, method: str, *args: Any) -> Tensor:
        """Return what a method returns at these parameters."""
        now = dict(self.module.named_parameters())
        if all(now[name] is value for name, value in self.values.items()):
            found: Tensor = getattr(self.module, method)(*args)
            return found
        held = {f"module.{name}": value for name, value in self.values.items()}
        swapped: Tensor = torch.func.functional_call(_Caller(self.module), held, (method, args))
        return swapped


class _Caller(nn.Module):
    """Calls a method of a module as its own forward."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, method: str, args: tuple[Any, ...]) -> Tensor:
        found: Tensor = getattr(self.module, method)(*args)
        return found
