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
from pyro_idvae.experiments.images import Row, evaluate, make_idvae, make_vae, train
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.models import VAE

LEARNING_RATES = (1e-3, 2e-3, 4e-3)
FLOORS = (0.1, 1.0, 3.0)
TUNING_SEED = 1000
"""Seed of the tuning runs: not one of those reported."""


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
    resume: bool = False,
) -> list[Row]:
    """Tune, train and judge; writes ``digits.csv``, ``digits_tuning.csv`` and ``digits.png``.

    Args:
        out: folder to write to.
        num_seeds: runs a model.
        num_epochs: epochs a run; the best on validation images counts.
        num_samples: importance samples an image.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a model and seed.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    options = {"seeds": num_seeds, "epochs": num_epochs, "samples": num_samples}
    begin(out, options, resume=resume)
    torch.set_num_threads(1)
    data = digits()
    tuning, found = Ledger(out / "digits_tuning.csv"), Ledger(out / "digits.csv")
    for name, make in makers().items():
        for rate in LEARNING_RATES:
            if tuning.find(model=name, learning_rate=rate):
                continue
            result = train(
                make(TUNING_SEED),
                data.train,
                learning_rate=rate,
                num_epochs=num_epochs,
                seed=TUNING_SEED,
                progress=False,
            )
            loss = min(result.validation_losses)
            tuning.add([{"model": name, "learning_rate": rate, "validation_loss": loss}])
        best = min(tuning.find(model=name), key=lambda row: float(row["validation_loss"]))
        # A model's rows are in the order of their seeds.
        for seed in range(len(found.find(model=name)), num_seeds):
            vae = make(seed)
            result = train(
                vae,
                data.train,
                learning_rate=best["learning_rate"],
                num_epochs=num_epochs,
                seed=seed,
                progress=False,
            )
            row = evaluate(name, vae, result, data.test, num_samples=num_samples, seed=seed)
            found.add([asdict(row)])
            print(
                f"{name}, learning rate {best['learning_rate']:g}, seed {seed}: log p(x) "
                f"{row.log_likelihood:.2f}, KL {row.kl:.2f}, {row.active_units} active, least "
                f"{row.min_nats:.3f} nats",
                flush=True,
            )
    rows = [Row.of(columns) for columns in found.rows]
    print(table(rows))
    _plot(rows, out / "digits.png")
    return rows


def table(rows: list[Row]) -> str:
    """Return means and standard deviations over seeds as text."""
    lines = [
        f"{'model':16s} {'decoder':>8s} {'log p(x), nats':>17s} {'KL, nats':>14s} "
        f"{'active':>9s} {'least nats a dimension':>23s} {'seconds':>8s}"
    ]
    for name in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == name]

        def spread(values: list[float]) -> str:
            if len(values) == 1:
                return f"{values[0]:.2f}"
            return f"{mean(values):.2f} ± {stdev(values):.2f}"

        active = [row.active_units for row in own]
        lines.append(
            f"{name:16s} {own[0].parameters:8d} {spread([r.log_likelihood for r in own]):>17s} "
            f"{spread([r.kl for r in own]):>14s} {min(active):>4d}–{max(active):<4d} "
            f"{spread([r.min_nats for r in own]):>22s} "
            f"{mean(r.seconds for r in own):8.1f}"
        )
    lines.append("mean ± standard deviation over seeds; seconds of a whole training run")
    return "\n".join(lines)


def _plot(rows: list[Row], path: Path) -> None:
    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for number, name in enumerate(dict.fromkeys(row.model for row in rows)):
        own = [row for row in rows if row.model == name]
        ax.plot(
            [row.min_nats for row in own],
            [row.log_likelihood for row in own],
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
