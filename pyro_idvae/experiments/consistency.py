# SPDX-License-Identifier: Apache-2.0
"""Do other seeds find the same latents? An ordinary VAE and an identifiable one on real digits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor

from pyro_idvae.datasets import digits
from pyro_idvae.diagnostics import Consistency, consistency
from pyro_idvae.experiments.endings import save_figure
from pyro_idvae.experiments.images import make_at_base, make_idvae, make_vae
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.experiments.training import Make, Trainings
from pyro_idvae.infer import load
from pyro_idvae.plots import plot_consistency

LEAST_SEEDS = 2
QUICK_EPOCHS = 2


def makers() -> dict[str, Make]:
    """Return the models to compare, by name."""
    return {
        "VAE (ReLU MLP)": make_vae,
        "IDVAE, L ≥ 1": make_idvae,
        "IDVAE, 0.1 nat in noise units": partial(make_at_base, digits().train),
    }


def run(
    out: Path,
    *,
    num_seeds: int = 5,
    num_epochs: int = 300,
    quick: bool = False,
    resume: bool = False,
) -> pd.DataFrame:
    """Train each model from several seeds, and hold the seeds' latents against each other.

    Writes ``tuning.csv``, ``training.csv``, ``weights/``, ``consistency.csv``, a row for each model
    and measure, ``latents.csv``, a row for each latent of each seed, and ``consistency.png``.

    Args:
        out: folder to write to.
        num_seeds: runs a model.
        num_epochs: epochs a run; the best on validation images counts.
        quick: two seeds of two epochs, to see that all goes through.
        resume: whether to go on with the rows that are there.

    Returns:
        The rows of ``consistency.csv``.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    if quick:
        num_seeds, num_epochs = LEAST_SEEDS, QUICK_EPOCHS
    begin(out, {"seeds": num_seeds, "epochs": num_epochs}, resume=resume)
    torch.set_num_threads(1)
    data = digits()
    trainings = Trainings(out, data.train, num_epochs)
    reports = {
        name: report_of(name, make, trainings, data.test, num_seeds)
        for name, make in makers().items()
    }
    table, latents = Ledger(out / "consistency.csv"), Ledger(out / "latents.csv")
    # What the weights give is made anew: it takes seconds, and all rows are of one run.
    table.rows, latents.rows = [], []
    for name, report in reports.items():
        for ledger, frame in ((table, report.table), (latents, report.latents)):
            ledger.add({"model": name, **row} for row in frame.reset_index().to_dict("records"))
        print(f"{name}: {report}\n", flush=True)
    _plot(reports, out / "consistency.png")
    return table.frame()


def report_of(
    name: str, make: Make, trainings: Trainings, images: Tensor, num_seeds: int
) -> Consistency:
    """Return how far a model's seeds agree on held-out images.

    Args:
        name: of the model.
        make: makes it from a seed.
        trainings: trains it, unless its weights are there.
        images: held-out images.
        num_seeds: runs.
    """
    runs = {}
    for seed in range(num_seeds):
        trained = trainings.train(name, make, seed)
        vae = make(seed)
        load(trainings.weights_of(name, seed), vae.model, vae.guide)
        runs[f"seed {seed}"] = vae
        print(f"{name}, learning rate {trained['learning_rate']:g}, seed {seed}", flush=True)
    return consistency(runs, images)


def _plot(reports: dict[str, Consistency], path: Path) -> None:
    size = (10.6, 4.4 * len(reports))
    figure, axes = plt.subplots(
        len(reports), 2, figsize=size, width_ratios=(1.4, 1.0), squeeze=False, layout="constrained"
    )
    for row, (name, report) in zip(axes, reports.items(), strict=True):
        plot_consistency(report, axes=row)
        row[1].set_title(name, fontsize=10)
    save_figure(figure, path)
