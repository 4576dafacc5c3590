# SPDX-License-Identifier: Apache-2.0
"""The typed errors of the package; all are ``ValueError`` or ``RuntimeError``."""

from __future__ import annotations

from typing import Any

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ConvergenceError",
    "DataError",
    "NoCertificateError",
    "NoClosedFormError",
    "NonFiniteLossError",
    "NotInjectiveError",
    "RankError",
    "ShapeError",
    "SiteMismatchError",
    "StoreError",
]


class ArgumentError(ValueError):
    """An argument has a value outside what the callee accepts."""


class ShapeError(ArgumentError):
    """A tensor or a dimension does not have the size the callee needs."""


class DataError(ValueError):
    """Observations are missing, not finite, of the wrong type or outside the support."""


class NotInjectiveError(ArgumentError):
    """A map asked for cannot be injective, whatever its parameters."""


class NoCertificateError(ValueError):
    """No bound in nats exists for what was asked; the message says why."""


class NoClosedFormError(NoCertificateError):
    """A family of distributions has no closed form of what was asked."""


class SiteMismatchError(ValueError):
    """The sample sites of a guide are not those of its model."""


class CheckpointError(ValueError):
    """A file of weights cannot be read or written, is damaged, or is of another model or fit."""


class StoreError(ValueError):
    """A store of draws cannot be read or written, or is of another call."""


class ConvergenceError(RuntimeError):
    """An iterative solver stopped before its residual was small enough.

    Attributes:
        residual: largest relative residual over the rows.
        steps: number of steps taken.
    """

    def __init__(self, message: str, *, residual: float, steps: int) -> None:
        super().__init__(message)
        self.residual = residual
        self.steps = steps


class RankError(RuntimeError):
    """Another of the processes that share the work failed, or has other work."""


class NonFiniteLossError(RuntimeError):
    """The objective or its gradient stopped being finite during training.

    The parameters of model and guide are those of the last step whose loss and gradient
    were finite.

    Attributes:
        step: number of the optimiser step, from 0.
        sites: names of the sites whose log density is not finite (may be empty when only the
            gradient was not finite).
        result: the ``FitResult`` of what had been done.
    """

    def __init__(self, message: str, *, step: int, sites: list[str], result: Any) -> None:
        super().__init__(message)
        self.step = step
        self.sites = sites
        self.result = result
