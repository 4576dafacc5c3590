# SPDX-License-Identifier: Apache-2.0
"""Remedies for posterior collapse on real digits, at equal processor time, beside IDVAE."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from pyro_idvae.datasets import MAX_INK, digits
from pyro_idvae.diagnostics import evaluate
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.experiments.endings import finished, save_figure
from pyro_idvae.experiments.images import (
    BATCH_SIZE,
    ENCODER_DIMS,
    LATENT_DIM,
    NUM_PIXELS,
    make_at_base,
    make_idvae,
    make_vae,
)
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.experiments.training import Make, Trainings
from pyro_idvae.infer import Callback, FitResult, Progress, fit, load, make_objective
from pyro_idvae.models import VAE, Encoder, SkipMLP

SKIP_WIDTH = 66  # gives the decoder as many parameters as the plain one, within 2 %
MOST_EPOCHS = 10**6
QUICK_SECONDS, QUICK_SAMPLES, QUICK_IMAGES, QUICK_RATE = 1.0, 20, 20, 2e-3
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


def named(name: str, **options: Any) -> Callable[[], Any]:
    """Return a function that makes an objective of the table."""
    return partial(make_objective, name, **options)


def make_skip(seed: int) -> VAE:
    """Return an ordinary VAE whose decoder reads z in every layer."""
    torch.manual_seed(seed)
    network = SkipMLP([LATENT_DIM, SKIP_WIDTH, SKIP_WIDTH, NUM_PIXELS])
    likelihood = NeuralLikelihood(make_family("binomial", total_count=MAX_INK), network)
    return VAE(likelihood, Encoder(NUM_PIXELS, LATENT_DIM, ENCODER_DIMS))


def remedies() -> dict[str, Remedy]:
    """Return what is compared, by name: all on one VAE but the last three."""
    objectives = {
        "none": TraceMeanField_ELBO,
        "annealed": named("annealed", elbo=TraceMeanField_ELBO()),
        "annealed, cyclical": named("annealed", schedule="cyclical", elbo=TraceMeanField_ELBO()),
        "batch norm": named("batch_norm"),
        "beta 0.5": named("beta", beta=0.5, elbo=TraceMeanField_ELBO()),
        "delta 0.1": named("delta", nats=0.1),
        "free bits": named("free_bits"),
        "importance weighted": named(
            "importance_weighted", vectorize_particles=True, max_plate_nesting=1
        ),
        "inverse Lipschitz": named("inverse_lipschitz"),
        "lagging": named("lagging"),
        "latent reconstruction": named("latent_reconstruction"),
        "MMD": named("mmd"),
        "semi-amortised": named("semi_amortised"),
        "target rate": named("target_rate", nats=25.0, method="lagrangian"),
    }
    return {
        **{name: Remedy(make_vae, objective) for name, objective in objectives.items()},
        "skip decoder": Remedy(make_skip, TraceMeanField_ELBO),
        "IDVAE, L ≥ 1": Remedy(make_idvae, TraceMeanField_ELBO),
        "IDVAE, 0.1 nat in noise units": Remedy(
            partial(make_at_base, digits().train), TraceMeanField_ELBO
        ),
    }


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
        images: to train on.
        remedy: how.
        seconds: of processor time a run; the best epoch on validation images counts.
        tuned: whether to choose the learning rate by runs of the same length.
    """

    def __init__(
        self, out: Path, images: Tensor, remedy: Remedy, seconds: float, *, tuned: bool
    ) -> None:
        super().__init__(out, images, MOST_EPOCHS)
        self.remedy, self.seconds, self.tuned = remedy, seconds, tuned

    def best_rate(self, name: str, make: Make) -> float:
        """Return the learning rate of least validation loss."""
        return super().best_rate(name, make) if self.tuned else QUICK_RATE

    def _fit(self, vae: VAE, rate: float, seed: int) -> FitResult:
        result = fit(
            vae.model,
            vae.guide,
            self.images,
            objective=self.remedy.objective(),
            optimizer=partial(torch.optim.Adam, lr=rate, fused=True),
            num_epochs=self.num_epochs,
            batch_size=BATCH_SIZE,
            validation=0.1,
            callbacks=[Budget(self.seconds)],
            seed=seed,
            progress=False,
        )
        return finished(result)


def run(
    out: Path,
    *,
    num_seeds: int = 5,
    seconds: float = 60.0,
    num_samples: int = 1000,
    quick: bool = False,
    resume: bool = False,
) -> pd.DataFrame:
    """Tune, train and judge each remedy.

    Writes ``tuning.csv``, ``training.csv``, ``weights/``, ``remedies.csv`` and ``remedies.png``.

    Args:
        out: folder to write to.
        num_seeds: runs a remedy.
        seconds: of processor time a run, those that choose the learning rate included.
        num_samples: draws of the guide an image.
        quick: one seed of a second, untuned, judged by a few images, to see that all goes through.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a remedy and seed: the columns of :attr:`Evaluation.row`, and what was trained how.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    if quick:
        num_seeds, seconds, num_samples = 1, QUICK_SECONDS, QUICK_SAMPLES
    options = {"seeds": num_seeds, "seconds": seconds, "samples": num_samples, "quick": quick}
    begin(out, options, resume=resume)
    torch.set_num_threads(1)
    data, found = digits(), Ledger(out / "remedies.csv")
    for name, remedy in remedies().items():
        trainings = BudgetTrainings(out, data.train, remedy, seconds, tuned=not quick)
        for seed in range(len(found.find(model=name)), num_seeds):
            trained = trainings.train(name, remedy.make, seed)
            vae = remedy.make(seed)
            load(trainings.weights_of(name, seed), vae.model, vae.guide)
            guide = trained_guide(remedy, vae, data.train)
            judged = evaluate(
                vae.model,
                guide,
                data.test[: QUICK_IMAGES if quick else None],
                num_samples=num_samples,
                evidence_options=QUICK_EVIDENCE if quick else None,
                leave_out=("certificate",),
                seed=seed,
            )
            found.add([{**trained, **judged.row}])
            print(
                f"{name}, learning rate {trained['learning_rate']:g}, seed {seed}: log p(x) "
                f"{judged.evidence.mean:.2f}, KL {judged.kl.mean:.2f}, information "
                f"{judged.mutual_information.mean:.2f}, least {judged.least_nats.mean:.3f} nats",
                flush=True,
            )
    frame = found.frame()
    print(table(frame))
    _plot(frame, out / "remedies.png")
    return frame


def trained_guide(remedy: Remedy, vae: VAE, images: Tensor) -> Any:
    """Return the guide that a remedy trained, from its weights."""
    objective = remedy.objective()
    if not hasattr(objective, "trained_guide"):
        return vae.guide
    return objective.trained_guide(vae.model, vae.guide, images)


def table(frame: pd.DataFrame) -> str:
    """Return means and standard deviations over seeds as text."""
    lines = [f"{'remedy':30s}" + "".join(f"{title:>17s}" for title in COLUMNS.values())]
    for name, own in frame.groupby("model", sort=False):
        cells = [_spread(own[column].tolist()) for column in COLUMNS]
        lines.append(f"{name:30s}" + "".join(f"{cell:>17s}" for cell in cells))
    lines.append(
        "mean ± standard deviation over seeds, nats an image; log p(x) by annealing, with a "
        f"Monte-Carlo error of at most {frame['evidence_mcse'].max():.3f} a seed; lost: log p(x) − "
        "ELBO; information: about which image, in the guide's draws, at most "
        f"{frame['information_cap'].max():.2f}"
    )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def _plot(frame: pd.DataFrame, path: Path) -> None:
    figure, ax = plt.subplots(figsize=(7.4, 4.6), layout="constrained")
    for number, (name, own) in enumerate(frame.groupby("model", sort=False)):
        marker = "os^D"[number // 10]
        ax.plot(own["least_nats"], own["evidence"], marker, color=f"C{number % 10}", label=name)
    ax.set_xlabel("information in the poorest latent dimension (nats)")
    ax.set_ylabel("held-out log-likelihood (nats per image)")
    ax.set_xscale("symlog", linthresh=0.01)
    ax.set_xlim(left=0)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)
