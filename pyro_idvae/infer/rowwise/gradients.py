# SPDX-License-Identifier: Apache-2.0
"""Log densities and gradients of many rows, without Pyro's handlers wherever that is safe."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.capture import CapturedFunction
from pyro_idvae.programs.arguments import tensors_of, with_tensors
from pyro_idvae.programs.row_density import RowDensity

Evaluate = Callable[..., tuple[Tensor, Tensor]]
"""(u, *constants) → log p of each row and its gradient."""


class RowGradient:
    """The log density of some rows and its gradient: ``evaluate(u, *constants)``.

    Args:
        density: the rows.
        captured: operations recorded on rows of the same shapes, or None.
    """

    def __init__(self, density: RowDensity, captured: CapturedFunction | None) -> None:
        self.density = density
        self.evaluate: Evaluate = density
        self.constants: list[Tensor] = []
        self.captured = False
        if captured is not None:
            constants = captured.bind(tensors_of(density.arguments))
            if self._agrees(captured.moving, constants):
                self.evaluate, self.constants = captured.moving, constants
                self.captured = True

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p of each row and its gradient."""
        return self.evaluate(u, *self.constants)

    def _agrees(self, function: Evaluate, constants: list[Tensor]) -> bool:
        """Tell whether the recorded operations give what the model gives at random points."""
        start = self.density.flatten(self.density.values())
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


def row_gradients(densities: list[RowDensity], *, capture: bool = True) -> list[RowGradient]:
    """Return gradients of chunks of equal shapes; recorded once where the model allows it.

    A model whose Python depends on the values of its tensors cannot be recorded, and one whose
    recording does not give the model's own density is not trusted: both are run as they are.
    """
    captured: CapturedFunction | None = None
    if capture:
        first = densities[0]

        def evaluate(u: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
            density = copy.copy(first)
            density.arguments = with_tensors(first.arguments, tensors)
            return density(u)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                captured = CapturedFunction(
                    evaluate, first.flatten(first.values()), tensors_of(first.arguments)
                )
        except Exception:  # whatever tracing meets, the model itself still runs
            captured = None
    return [RowGradient(density, captured) for density in densities]
