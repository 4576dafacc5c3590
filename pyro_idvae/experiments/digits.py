# SPDX-License-Identifier: Apache-2.0
"""The price of identifiability on real digits: five seeds, three floors of L, tuned alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
import torch

from pyro_idvae.datasets import digits
from pyro_idvae.experiments.endings import save_figure
from pyro_idvae.experiments.images import Row, judge, make_idvae, make_vae
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.experiments.training import Trainings
from pyro_idvae.infer import load
from pyro_idvae.models import VAE

FLOORS = (0.1, 1.0, 3.0)


def makers() -> dict[str, Callable[[int], VAE]]:
    """Return the models to compare, by name."""
    injective: dict[str, Callable[[int], VAE]] = {
        f"IDVAE, L ≥ {floor:g}": lambda seed, floor=floor: make_idvae(seed, floor)  # type: ignore[misc]
        for floor in FLOORS
    }
    return {"VAE (ReLU MLP)": make_vae, **injective}


def run(
    out: Path,
    *,
    num_seeds: int = 5,
    num_epochs: int = 300,
    num_samples: int = 2000,
    num_images: int | None = None,
    resume: bool = False,
) -> list[Row]:
    """Tune, train and judge.

    Writes ``tuning.csv``, ``training.csv``, ``weights/``, ``digits.csv`` and ``digits.png``.

    Args:
        out: folder to write to.
        num_seeds: runs a model.
        num_epochs: epochs a run; the best on validation images counts.
        num_samples: importance samples an image.
        num_images: held-out images to judge by; all of them if None.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a model and seed.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    options = {
        "seeds": num_seeds,
        "epochs": num_epochs,
        "samples": num_samples,
        "images": num_images,
    }
    begin(out, options, resume=resume)
    torch.set_num_threads(1)
    data = digits()
    trainings, found = Trainings(out, data.train, num_epochs), Ledger(out / "digits.csv")
    for name, make in makers().items():
        # A model's rows are in the order of their seeds.
        for seed in range(len(found.find(model=name)), num_seeds):
            trained = trainings.train(name, make, seed)
            vae = make(seed)
            load(trainings.weights_of(name, seed), vae.model, vae.guide)
            row = judge(
                name,
                vae,
                data.test[:num_images],
                seconds=trained["seconds"],
                epochs=trained["epochs"],
                num_samples=num_samples,
                seed=seed,
            )
            found.add([asdict(row)])
            print(
                f"{name}, learning rate {trained['learning_rate']:g}, seed {seed}: log p(x) "
                f"{row.evidence:.2f}, KL {row.kl:.2f}, {row.active_units} active, least "
                f"{row.least_nats:.3f} nats",
                flush=True,
            )
    rows = [Row.of(columns) for columns in found.rows]
    print(table(rows))
    _plot(rows, out / "digits.png")
    return rows


def table(rows: list[Row]) -> str:
    """Return means and standard deviations over seeds as text."""
    lines = [
        f"{'model':16s} {'decoder':>8s} {'log p(x), nats':>17s} {'bound':>15s} {'KL, nats':>14s} "
        f"{'lost, nats':>14s} {'active':>9s} {'least nats a dimension':>23s} {'seconds':>8s}"
    ]
    for name in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == name]

        def spread(values: list[float]) -> str:
            if len(values) == 1:
                return f"{values[0]:.2f}"
            return f"{mean(values):.2f} ± {stdev(values):.2f}"

        active = [row.active_units for row in own]
        lines.append(
            f"{name:16s} {own[0].parameters:8d} {spread([r.evidence for r in own]):>17s} "
            f"{spread([r.importance_bound for r in own]):>15s} "
            f"{spread([r.kl for r in own]):>14s} {spread([r.inference_gap for r in own]):>14s} "
            f"{min(active):>4d}–{max(active):<4d} "
            f"{spread([r.least_nats for r in own]):>22s} "
            f"{mean(r.seconds for r in own):8.1f}"
        )
    lines += [
        "mean ± standard deviation over seeds; log p(x) by annealing, with a Monte-Carlo error of "
        f"at most {max(row.evidence_mcse for row in rows):.3f} a seed; bound: importance-weighted,",
        f"k above 0.7 for {min(row.unreliable for row in rows):.0%} of the images or more; lost: "
        "log p(x) − ELBO; seconds of a whole training run",
    ]
    return "\n".join(lines)


def _plot(rows: list[Row], path: Path) -> None:
    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for number, name in enumerate(dict.fromkeys(row.model for row in rows)):
        own = [row for row in rows if row.model == name]
        ax.plot(
            [row.least_nats for row in own],
            [row.evidence for row in own],
            "o",
            color=f"C{number}",
            label=name,
        )
    ax.set_xlabel("information in the poorest latent dimension (nats)")
    ax.set_ylabel("held-out log-likelihood (nats per image)")
    ax.set_xscale("symlog", linthresh=0.01)
    ax.set_xlim(left=0)
    ax.legend(frameon=False)
    save_figure(figure, path)
