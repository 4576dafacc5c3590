# SPDX-License-Identifier: Apache-2.0
"""Models and objectives that are each trained for the same processor time, and judged alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor

from pyro_idvae.diagnostics import evaluate
from pyro_idvae.experiments.endings import finished, save_figure
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.experiments.training import Make, Trainings
from pyro_idvae.infer import Callback, FitResult, Progress, fit, load, make_objective

MOST_EPOCHS = 10**6
BATCH_SIZE = 128
QUICK_SECONDS, QUICK_SAMPLES, QUICK_ROWS, QUICK_RATE = 1.0, 20, 20, 2e-3
QUICK_EVIDENCE = {"num_chains": 4, "num_temperatures": 8}
COLUMNS = {
    "evidence": "log p(x)",
    "kl": "KL",
    "posterior_kl": "posterior KL",
    "inference_gap": "lost",
    "mutual_information": "information",
    "least_nats": "least nats",
    "active_units": "active",
}
"""Measures of a row, and what the printed table calls them."""


class Remedy(NamedTuple):
    """A model and what it is trained by."""

    make: Make
    """A model of a seed."""
    objective: Callable[[], Any]
    """What is minimised, new for each fit."""
    lower: Callable[[Any, float], Callback] | None = None
    """A callback for a model and its seconds of processor time, new for each fit."""


def named(name: str, **options: Any) -> Callable[[], Any]:
    """Return a function that makes an objective of the table."""
    return partial(make_objective, name, **options)


class Budget(Callback):
    """Ends a fit, after a whole epoch, when its processor time is used up.

    Args:
        seconds: of processor time, validation included.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start = seconds, time.process_time()

    def on_epoch(self, progress: Progress) -> None:
        """Stop if the time is over."""
        if time.process_time() - self.start >= self.seconds:
            progress.stop()


class BudgetTrainings(Trainings):
    """Models of one remedy, all trained for the same processor time.

    Args:
        out: the experiment's folder.
        rows: to train on.
        remedy: how.
        seconds: of processor time a run; the best epoch on validation rows counts.
        rates: learning rates to choose from, by runs of the same length; see :class:`Trainings`.
    """

    def __init__(
        self,
        out: Path,
        rows: Tensor,
        remedy: Remedy,
        seconds: float,
        rates: Sequence[float] | None = None,
    ) -> None:
        super().__init__(out, rows, MOST_EPOCHS, rates)
        self.remedy, self.seconds = remedy, seconds

    def _fit(self, vae: Any, rate: float, seed: int) -> FitResult:
        callbacks: list[Callback] = [Budget(self.seconds)]
        if self.remedy.lower is not None:
            callbacks.append(self.remedy.lower(vae, self.seconds))
        result = fit(
            vae.model,
            vae.guide,
            self.images,
            objective=self.remedy.objective(),
            optimizer=partial(torch.optim.Adam, lr=rate, fused=True),
            num_epochs=self.num_epochs,
            batch_size=BATCH_SIZE,
            validation=0.1,
            callbacks=callbacks,
            seed=seed,
            progress=False,
        )
        return finished(result)


class Contest:
    """A comparison, its rows in a file.

    Args:
        out: the experiment's folder.
        name: of the experiment, and of its files.
        of: what one of the data is, in words.
        num_seeds: runs a remedy.
        seconds: of processor time a run, those that choose the learning rate included.
        num_samples: draws of the guide for each of the data.
        quick: one seed of a second, untuned, judged by a few rows.
        rates: learning rates to choose from; see :class:`Trainings`.
    """

    def __init__(
        self,
        out: Path,
        name: str,
        of: str,
        *,
        num_seeds: int,
        seconds: float,
        num_samples: int,
        quick: bool,
        rates: Sequence[float] | None = None,
    ) -> None:
        self.rates = (QUICK_RATE,) if quick else rates
        if quick:
            num_seeds, seconds, num_samples = 1, QUICK_SECONDS, QUICK_SAMPLES
        self.out, self.name, self.of, self.quick = out, name, of, quick
        self.num_seeds, self.seconds, self.num_samples = num_seeds, seconds, num_samples

    def begin(self, *, resume: bool, **more: Any) -> None:
        """Make the folder, or see that what is in it is of a run with these options.

        Args:
            resume: whether what is there may be gone on with.
            **more: further options of the run.
        """
        options = {
            "seeds": self.num_seeds,
            "seconds": self.seconds,
            "samples": self.num_samples,
            "quick": self.quick,
            **more,
        }
        begin(self.out, options, resume=resume)
        torch.set_num_threads(1)

    def run(
        self,
        remedies: Mapping[str, Remedy],
        train: Tensor,
        test: Tensor,
        evidence_options: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Tune, train and judge each remedy, unless its rows are there.

        Args:
            remedies: by name.
            train: rows to train on, a tenth of them for validation.
            test: held-out ones.
            evidence_options: further arguments of ``log_evidence``.

        Returns:
            One row a remedy and seed.
        """
        found = Ledger(self.out / f"{self.name}.csv")
        for name, remedy in remedies.items():
            trainings = BudgetTrainings(self.out, train, remedy, self.seconds, self.rates)
            for seed in range(len(found.find(model=name)), self.num_seeds):
                trained = trainings.train(name, remedy.make, seed)
                vae = remedy.make(seed)
                load(trainings.weights_of(name, seed), vae.model, vae.guide)
                judged = evaluate(
                    vae.model,
                    trained_guide(remedy, vae, train),
                    test[: QUICK_ROWS if self.quick else None],
                    num_samples=self.num_samples,
                    evidence_options=QUICK_EVIDENCE if self.quick else evidence_options,
                    leave_out=("certificate",),
                    seed=seed,
                )
                found.add([{**trained, **judged.row}])
                print(
                    f"{name}, learning rate {trained['learning_rate']:g}, seed {seed}: log p(x) "
                    f"{judged.evidence.mean:.2f}, KL {judged.kl.mean:.2f}, information "
                    f"{judged.mutual_information.mean:.2f}, least {judged.least_nats.mean:.3f} "
                    "nats",
                    flush=True,
                )
        frame = found.frame()
        print(table(frame, self.of))
        _plot(frame, self.out / f"{self.name}.png", self.of)
        return frame


def trained_guide(remedy: Remedy, vae: Any, rows: Tensor) -> Any:
    """Return the guide that a remedy trained, from its weights."""
    objective = remedy.objective()
    if not hasattr(objective, "trained_guide"):
        return vae.guide
    return objective.trained_guide(vae.model, vae.guide, rows)


def table(frame: pd.DataFrame, of: str) -> str:
    """Return means and standard deviations over seeds as text.

    Args:
        frame: the rows.
        of: what one of the data is.
    """
    lines = [f"{'remedy':30s}" + "".join(f"{title:>17s}" for title in COLUMNS.values())]
    for name, own in frame.groupby("model", sort=False):
        cells = [_spread(own[column].tolist()) for column in COLUMNS]
        lines.append(f"{name:30s}" + "".join(f"{cell:>17s}" for cell in cells))
    lines.append(
        f"mean ± standard deviation over seeds, nats a {of}; log p(x) by annealing, with a "
        f"Monte-Carlo error of at most {frame['evidence_mcse'].max():.3f} a seed; lost: log p(x) − "
        f"ELBO; information: about which {of}, in the guide's draws, at most "
        f"{frame['information_cap'].max():.2f}"
    )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def _plot(frame: pd.DataFrame, path: Path, of: str) -> None:
    figure, ax = plt.subplots(figsize=(7.4, 4.6), layout="constrained")
    for number, (name, own) in enumerate(frame.groupby("model", sort=False)):
        marker = "os^D"[number // 10]
        ax.plot(own["least_nats"], own["evidence"], marker, color=f"C{number % 10}", label=name)
    ax.set_xlabel("information in the poorest latent dimension (nats)")
    ax.set_ylabel(f"held-out log-likelihood (nats per {of})")
    ax.set_xscale("symlog", linthresh=0.01)
    ax.set_xlim(left=0)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)
