# SPDX-License-Identifier: Apache-2.0
"""Log densities and gradients of many rows, without Pyro's handlers wherever that is safe."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.capture import CapturedFunction

Evaluate = Callable[..., tuple[Tensor, Tensor]]
"""(u, *constants) → log p of each row and its gradient."""


class Density(Protocol):
    """A log density of rows and its gradient, or several of them along a first dimension."""

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return log densities, and gradients with respect to u, of shape ``(rows, dim)``."""

    def example(self) -> Tensor:
        """Return unconstrained latents, of the shape of u."""

    def tensors(self) -> list[Tensor]:
        """Return what differs from one block of rows to the next."""

    def with_tensors(self, tensors: Sequence[Tensor]) -> Any:
        """Return the density of other rows."""


class RowGradient:
    """The log density of some rows and its gradient: ``evaluate(u, *constants)``.

    Args:
        density: the rows.
        recorded: operations recorded on rows of the same shapes, or None.
    """

    def __init__(self, density: Density, recorded: CapturedFunction | None) -> None:
        self.density, self.recorded = density, recorded
        self.evaluate: Evaluate = density
        self.constants: list[Tensor] = []
        self.captured = False
        if recorded is not None:
            constants = recorded.bind(density.tensors())
            if self._agrees(recorded.moving, constants):
                self.evaluate, self.constants = recorded.moving, constants
                self.captured = True

    def on(self, density: Density) -> RowGradient:
        """Return the gradient of other rows of the same shapes."""
        return RowGradient(density, self.recorded)

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p of each row and its gradient."""
        return self.evaluate(u, *self.constants)

    def _agrees(self, function: Evaluate, constants: list[Tensor]) -> bool:
        """Tell whether the recorded operations give what the model gives at random points."""
        start = self.density.example()
        for scale in (0.0, 0.5):
            u = start + scale * torch.randn_like(start)
            for mine, wanted in zip(function(u, *constants), self.density(u), strict=True):
                scale_of = wanted[wanted.isfinite()].abs().max() if wanted.numel() else 0.0
                close = torch.isclose(
                    mine,
                    wanted,
                    rtol=torch.finfo(u.dtype).eps ** 0.5,
                    atol=float(torch.finfo(u.dtype).eps ** 0.5 * scale_of),
                    equal_nan=True,
                )
                if not bool(close.all()):
                    return False
        return True


def recorded(density: Density) -> CapturedFunction | None:
    """Return the operations of a density, for rows of its shapes; None if that cannot be.

    A model whose Python depends on the values of its tensors cannot be recorded: it is run as it
    is, as :class:`RowGradient` does with one whose recording does not give its own density.
    """

    def evaluate(u: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = density.with_tensors(tensors)(u)
        return found

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CapturedFunction(evaluate, density.example(), density.tensors())
    except Exception:  # whatever tracing meets, the model itself still runs
        return None


def row_gradient(density: Density) -> RowGradient:
    """Return the gradient of a density, recorded if it can be."""
    return RowGradient(density, recorded(density))
