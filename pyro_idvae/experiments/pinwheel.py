# SPDX-License-Identifier: Apache-2.0
"""Does a mixture VAE know its component? Pinwheels, an identifiable model and its twins."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from pyro.infer import TraceEnum_ELBO
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pyro_idvae.datasets import pinwheel
from pyro_idvae.diagnostics import Assignments, assignments
from pyro_idvae.experiments.contest import MOST_EPOCHS, Budget
from pyro_idvae.experiments.endings import finished, save_figure
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.experiments.pinwheel_models import (
    ARMS,
    FIXED,
    FREE,
    IDENTIFIABLE,
    decoder_size,
    makers,
)
from pyro_idvae.experiments.training import Trainings
from pyro_idvae.infer import FitResult, fit, load
from pyro_idvae.models import MixtureVAE

NUM_TRAIN, NUM_TEST, NUM_JUDGED = 2000, 2000, 100
RATES, BATCH_SIZE, MOST_GRADIENT = (3e-3, 1e-2), 200, 100.0
ELBO_DRAWS = 20
QUICK_SECONDS, QUICK_JUDGED = 1.0, 10
QUICK_EVIDENCE: dict[str, Any] = {"num_chains": 4, "num_temperatures": 3}
SHOWN = (IDENTIFIABLE, FIXED, FREE)


class PinwheelTrainings(Trainings):
    """Mixture VAEs, all trained for the same processor time, each at its better learning rate.

    Args:
        out: the experiment's folder.
        points: to train on.
        seconds: of processor time a run; the best epoch on validation points counts.
        rates: learning rates to try.
    """

    def __init__(
        self, out: Path, points: Tensor, seconds: float, rates: Sequence[float] = RATES
    ) -> None:
        super().__init__(out, points, MOST_EPOCHS, rates)
        self.seconds = seconds

    def _fit(self, vae: Any, rate: float, seed: int) -> FitResult:
        result = fit(
            vae.model,
            vae.guide,
            self.images,
            elbo=TraceEnum_ELBO(max_plate_nesting=1),
            optimizer=partial(torch.optim.Adam, lr=rate),
            num_epochs=self.num_epochs,
            batch_size=BATCH_SIZE,
            validation=0.1,
            max_grad_norm=MOST_GRADIENT,
            callbacks=[Budget(self.seconds)],
            seed=seed,
            progress=False,
        )
        return finished(result)


class Pinwheel:
    """Models of the experiment, their rows and weights.

    Args:
        out: the experiment's folder.
        seconds: of processor time a run.
        quick: few points to judge by.
    """

    def __init__(self, out: Path, seconds: float, *, quick: bool) -> None:
        self.quick = quick
        train = pinwheel(NUM_TRAIN, num_arms=ARMS)
        self.test = pinwheel(NUM_TEST, num_arms=ARMS, seed=1)
        self.makers = makers(train.x)
        rates = RATES[:1] if quick else RATES
        self.trainings = PinwheelTrainings(out, train.x, seconds, rates)
        self.found = Ledger(out / "pinwheel.csv")

    def judge(self, name: str, seed: int) -> None:
        """Make the row of a model, unless it is there."""
        if self.found.find(model=name, seed=seed):
            return
        trained = self.trainings.train(name, self.makers[name], seed)
        vae = self.makers[name](seed)
        load(self.trainings.weights_of(name, seed), vae.model, vae.guide)
        judged = QUICK_JUDGED if self.quick else NUM_JUDGED
        told = assignments(
            vae.model,
            vae.guide,
            self.test.x[:judged],
            seed=seed,
            **(QUICK_EVIDENCE if self.quick else {}),
        )
        with torch.no_grad():
            q = vae.guide.posterior(self.test.x).component().probs
        row = {
            **trained,
            "decoder_size": decoder_size(vae),
            "elbo": elbo(vae, self.test.x, seed),
            "evidence": told.evidence.mean,
            "evidence_se": told.evidence.se,
            "accuracy": accuracy(q.argmax(-1), self.test.arms),
            **_told(told, self.test.arms[:judged]),
        }
        self.found.keep(f"{name} {seed}", q.argmax(-1).numpy())
        self.found.add([row])
        print(
            f"{name}, seed {seed}: ELBO {row['elbo']:.3f}, log p(x) {row['evidence']:.3f}, "
            f"I(x; y) {row['information_exact']:.2f} exact, {row['information_guide']:.2f} by the "
            f"guide, accuracy {row['accuracy_exact']:.2f} and {row['accuracy_guide']:.2f}",
            flush=True,
        )


def elbo(vae: MixtureVAE, x: Tensor, seed: int) -> float:
    """Return the ELBO of a point, components summed out."""
    torch.manual_seed(seed)
    objective = TraceEnum_ELBO(max_plate_nesting=1)
    total = sum(objective.loss(vae.model, vae.guide, x) for _ in range(ELBO_DRAWS))
    return -float(total) / ELBO_DRAWS / len(x)


def accuracy(components: Any, arms: Any) -> float:
    """Return the share of points whose component is that of their arm, in the best order.

    Example:
        >>> from pyro_idvae.experiments.pinwheel import accuracy
        >>> accuracy([1, 1, 0, 0], [0, 0, 1, 0])
        0.75
    """
    counts = np.zeros((ARMS, ARMS))
    np.add.at(counts, (np.asarray(components), np.asarray(arms)), 1)
    rows, columns = linear_sum_assignment(-counts)
    return float(counts[rows, columns].sum() / counts.sum())


def _told(told: Assignments, arms: Tensor) -> dict[str, float]:
    table, found = told.table, {}
    own: Any = told.guide
    for which, p in (("exact", told.exact), ("guide", own)):
        found[f"information_{which}"] = float(table.loc[which, "information"])
        found[f"kl_{which}"] = float(table.loc[which, "kl"])
        found[f"accuracy_{which}"] = accuracy(np.argmax(p, -1), arms.numpy())
    return found


def run(
    out: Path,
    *,
    num_seeds: int = 5,
    seconds: float = 60.0,
    quick: bool = False,
    resume: bool = False,
) -> pd.DataFrame:
    """Train and judge identifiable mixture VAEs of several architectures, and ordinary ones.

    Writes ``training.csv``, ``weights/``, ``pinwheel.csv`` and ``pinwheel.png``.

    Args:
        out: folder to write to.
        num_seeds: runs a model.
        seconds: of processor time a run.
        quick: one seed of a second, to see that all goes through.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a model and seed, in nats a point.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    if quick:
        num_seeds, seconds = 1, QUICK_SECONDS
    begin(out, {"seconds": seconds, "quick": quick}, resume=resume)
    torch.set_num_threads(1)
    own = Pinwheel(out, seconds, quick=quick)
    for name in own.makers:
        for seed in range(num_seeds):
            own.judge(name, seed)
    frame = own.found.frame()
    print(table(frame))
    _plot(own, out / "pinwheel.png")
    return frame


def table(frame: pd.DataFrame) -> str:
    """Return each row as text."""
    columns = ["model", "seed", "decoder_size", "learning_rate", "epochs", "elbo", "evidence"]
    columns += [c for c in frame if c.startswith(("information", "accuracy"))]
    lines = frame[columns].round(3).to_string(index=False)
    return f"{lines}\nnats a point; I(x; y) is at most log 5 = 1.609"


def _plot(own: Pinwheel, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.6), layout="constrained", sharey=True)
    for ax, name in zip(axes, SHOWN, strict=True):
        row = own.found.find(model=name, seed=0)[0]
        components = own.found.kept(f"{name} 0")
        for number in range(ARMS):
            x = own.test.x[torch.as_tensor(components == number)]
            ax.plot(x[:, 0], x[:, 1], ".", markersize=2, color=f"C{number}")
        ax.set_title(f"{name}\nI(x; y) {row['information_guide']:.2f} nats", fontsize=10)
        ax.set_aspect("equal")
        ax.set_xlabel("first coordinate")
    axes[0].set_ylabel("second coordinate")
    figure.suptitle("held-out points by the guide's component (seed 0)", fontsize=10)
    save_figure(figure, path)
