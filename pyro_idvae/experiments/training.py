# SPDX-License-Identifier: Apache-2.0
"""Models trained on images, each with its own best learning rate; weights stay on disk."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pyro_idvae.errors import NonFiniteLossError
from pyro_idvae.experiments.images import train
from pyro_idvae.experiments.ledger import Ledger
from pyro_idvae.infer import FitResult, save

LEARNING_RATES = (1e-3, 2e-3, 4e-3)
"""To begin with; further ones by factors of two, until the best is not at an end."""
LEAST_RATE, LARGEST_RATE = 1e-5, 0.1
"""Beyond these no further ones are tried."""
TUNING_SEED = 1000
"""Seed of the tuning runs: not one of those reported."""

Make = Callable[[int], Any]
"""A model of a seed, with its guide: a ``VAE``, or another pair."""


class Trainings:
    """Trained models of an experiment: one row each in ``training.csv``, and a file of weights.

    Args:
        out: the experiment's folder.
        images: to train on.
        num_epochs: epochs a run; the best on validation images counts.
        rates: learning rates to choose from, and no others; None to begin with three and try
            further ones until the best is not at an end.
    """

    def __init__(
        self, out: Path, images: Tensor, num_epochs: int, rates: Sequence[float] | None = None
    ) -> None:
        self.out, self.images, self.num_epochs, self.rates = out, images, num_epochs, rates
        self.tuning, self.done = Ledger(out / "tuning.csv"), Ledger(out / "training.csv")

    def best_rate(self, name: str, make: Make) -> float:
        """Return a model's learning rate of least validation loss, and train what that takes."""
        if self.rates is not None and len(self.rates) == 1:
            return self.rates[0]
        losses = {rate: self._loss(name, make, rate) for rate in self.rates or LEARNING_RATES}
        while True:
            best = min(losses, key=lambda rate: losses[rate])
            if self.rates is not None or best not in (min(losses), max(losses)):
                return best
            following = best / 2 if best == min(losses) else best * 2
            if not LEAST_RATE <= following <= LARGEST_RATE:
                return best
            losses[following] = self._loss(name, make, following)

    def _loss(self, name: str, make: Make, rate: float) -> float:
        known = self.tuning.find(model=name, learning_rate=rate)
        if known:
            return float(known[0]["validation_loss"])
        try:
            result = self._fit(make(TUNING_SEED), rate, TUNING_SEED)
            loss = float(min(result.validation_losses))
        except NonFiniteLossError:  # a rate that is too large
            loss = math.inf
        self.tuning.add([{"model": name, "learning_rate": rate, "validation_loss": loss}])
        return loss

    def _fit(self, vae: Any, rate: float, seed: int) -> FitResult:
        return train(
            vae,
            self.images,
            learning_rate=rate,
            num_epochs=self.num_epochs,
            seed=seed,
            progress=False,
        )

    def weights_of(self, name: str, seed: int) -> Path:
        """Return the file of a model's weights."""
        plain = re.sub(r"\W+", "_", name).strip("_")
        return self.out / "weights" / f"{plain}_{seed}.safetensors"

    def train(self, name: str, make: Make, seed: int) -> dict[str, Any]:
        """Train a model of one seed, unless it is there; return its row."""
        known = self.done.find(model=name, seed=seed)
        if known:
            return known[0]
        rate, vae = self.best_rate(name, make), make(seed)
        result = self._fit(vae, rate, seed)
        path = self.weights_of(name, seed)
        path.parent.mkdir(exist_ok=True)
        save(path, vae.model, vae.guide)
        row: dict[str, Any] = {
            "model": name,
            "seed": seed,
            "learning_rate": rate,
            "epochs": result.best_epoch + 1,
            "seconds": result.wall_time,
        }
        self.done.add([row])
        return row
