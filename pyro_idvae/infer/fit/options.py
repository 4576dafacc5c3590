# SPDX-License-Identifier: Apache-2.0
"""The options of a fit that are numbers, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyro_idvae._checks import check_count, check_real, check_seed
from pyro_idvae.errors import ArgumentError


@dataclass(frozen=True)
class FitOptions:
    """The arguments of :func:`fit` of the same names."""

    num_epochs: int
    batch_size: int | None
    patience: int | None
    restore_best: bool
    kl_warmup: int
    max_grad_norm: float | None
    seed: int | None
    progress: bool
    every: int
    keep: int
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name in ("num_epochs", "every", "keep", "accumulate"):
            check_count(name, getattr(self, name))
        check_count("kl_warmup", self.kl_warmup, minimum=0)
        for name in ("batch_size", "patience"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.max_grad_norm is not None:
            check_real("max_grad_norm", self.max_grad_norm, above=0.0)
        if self.seed is not None:
            check_seed(self.seed)
        for name in ("restore_best", "progress"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(f"{name}={getattr(self, name)!r}: expected True or False")

    def described(self) -> dict[str, Any]:
        """Return those that a fit that goes on must share, in JSON."""
        names = ("batch_size", "patience", "restore_best", "kl_warmup", "max_grad_norm", "seed")
        found = {name: getattr(self, name) for name in names}
        # Checkpoints written before there was a choice do not say it.
        return found if self.accumulate == 1 else {**found, "accumulate": self.accumulate}
