# SPDX-License-Identifier: Apache-2.0
"""What a floor costs and keeps, in noise units and in the family's own parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from pyro_idvae.diagnostics import collapse_report, evaluate
from pyro_idvae.errors import NonFiniteLossError
from pyro_idvae.experiments.endings import finished, save_figure, whole
from pyro_idvae.experiments.floor_cases import CASES, ORDINARY, Case, models
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.experiments.training import Make
from pyro_idvae.infer import Callback, Progress, fit, load, mcmc, save
from pyro_idvae.models import VAE

NAMES = tuple(case.name for case in CASES)
EVIDENCE = {"proposal": "guide", "num_chains": 8}
QUICK_EVIDENCE = {"proposal": "guide", "num_chains": 4, "num_temperatures": 4}
EXACT_ROWS, EXACT_DRAWS = 50, 200
"""Of the exact posteriors that say whether a latent has collapsed."""
MOST_GRADIENT = 100.0
LOOKS = ("oC0", "sC1", "^C2", "DC3", "vC4")
"""Marker and colour of each model, the same in all panels."""


class Keep(Callback):
    """Writes the weights after certain epochs.

    Args:
        paths: files, by the number of epochs done.
    """

    def __init__(self, paths: dict[int, Path]) -> None:
        self.paths = paths

    def on_epoch(self, progress: Progress) -> None:
        """Write them."""
        path = self.paths.get(progress.epoch + 1)
        if path is not None:
            save(path, progress.model, progress.guide)


class Floors:
    """The rows of one data set.

    Args:
        out: the experiment's folder.
        case: the data set.
        train: its rows to train on.
        test: held-out ones.
        quick: a few rows and epochs, to see that it runs.
    """

    def __init__(self, out: Path, case: Case, train: Tensor, test: Tensor, *, quick: bool) -> None:
        self.out, self.case, self.quick = out, case, quick
        self.train = train[:300] if quick else train
        self.test = case.judged_by(test)[: 10 if quick else None]
        self.epochs = (1, 2)[: len(case.epochs)] if quick else case.epochs
        self.found, self.trained = Ledger(out / "floors.csv"), Ledger(out / "training.csv")

    def run(self, num_seeds: int) -> None:
        """Make all rows: the first seed tries each learning rate, the others take its best."""
        for name, make in models(self.case, self.train).items():
            rates = self.case.rates[:1] if self.quick else self.case.rates
            for rate in rates:
                self.judge(name, make, 0, rate, self.epochs)
            best = min(rates, key=lambda rate: self._loss(name, rate))
            for seed in range(1, num_seeds):
                self.judge(name, make, seed, best, self.epochs[:1])

    def _loss(self, name: str, rate: float) -> float:
        row = self.trained.find(data=self.case.name, model=name, seed=0, learning_rate=rate)[0]
        return float(row["validation_loss"])

    def path_of(self, name: str, seed: int, rate: float, epochs: int) -> Path:
        """Return the file of a model's weights."""
        stem = _stem(self.case.name, name, seed, rate, epochs)
        return self.out / "weights" / f"{stem}.safetensors"

    def judge(self, name: str, make: Make, seed: int, rate: float, epochs: Sequence[int]) -> None:
        """Train a model, and judge it after each of some numbers of epochs."""
        key = {"data": self.case.name, "model": name, "seed": seed, "learning_rate": rate}
        if not self.trained.find(**key):
            self.trained.add([{**key, **self._fit(name, make, seed, rate, epochs)}])
        training = self.trained.find(**key)[0]
        for number in epochs:
            path = self.path_of(name, seed, rate, number)
            if self.found.find(**key, epochs=number) or not path.exists():
                continue
            vae = make(seed)
            load(path, vae.model, vae.guide)
            row = {**key, "epochs": number, "seconds": training["seconds"], **self._row(vae, path)}
            self.found.add([row])
            print(
                f"{self.case.name}, {name}, learning rate {rate:g}, seed {seed}, {number} epochs: "
                f"log p(x) {row['evidence']:.2f}, KL {row['kl']:.2f}, least "
                f"{row['least_nats']:.3f} nats, collapsed {row['collapsed']}",
                flush=True,
            )

    def _fit(
        self, name: str, make: Make, seed: int, rate: float, epochs: Sequence[int]
    ) -> dict[str, Any]:
        vae, paths = make(seed), {n: self.path_of(name, seed, rate, n) for n in epochs}
        (self.out / "weights").mkdir(exist_ok=True)
        train, held = self.case.batches(self.train)
        try:
            result = fit(
                vae.model,
                vae.guide,
                train,
                elbo=TraceMeanField_ELBO(),
                optimizer=partial(torch.optim.Adam, lr=rate, fused=True),
                num_epochs=max(epochs),
                validation=held,
                restore_best=not self.case.ink,
                max_grad_norm=MOST_GRADIENT,
                callbacks=[Keep(paths)] if self.case.ink else [],
                seed=seed,
                progress=False,
            )
        except NonFiniteLossError:  # a rate that is too large
            return {"validation_loss": np.inf, "best_epoch": 0, "seconds": np.nan}
        finished(result)
        if not self.case.ink:  # the best epoch, which only now is known
            save(paths[max(epochs)], vae.model, vae.guide)
        losses = result.validation_losses
        return {
            "validation_loss": float(losses[-1] if self.case.ink else min(losses)),
            "best_epoch": result.best_epoch + 1,
            "seconds": result.wall_time,
        }

    def _row(self, vae: VAE, path: Path) -> dict[str, Any]:
        judged = evaluate(
            vae.model,
            vae.guide,
            self.test,
            num_samples=20 if self.quick else 100,
            evidence_options=QUICK_EVIDENCE if self.quick else EVIDENCE,
            leave_out=("certificate", "information"),
            seed=0,
        )
        self.found.keep(path.stem, judged.evidence.value)
        capped = vae.likelihood.family.capped_rates()
        bounds = vae.likelihood.lipschitz_bounds() if vae.likelihood.identifiable else (None, None)
        return {
            **judged.row,
            "collapsed": None if self.case.ink else self._collapsed(vae),
            "capped": None if capped is None else float(capped.float().mean()),
            "lipschitz": bounds[0],
            "smoothness": bounds[1],
        }

    def _collapsed(self, vae: VAE) -> int:
        draws = mcmc(
            vae.model,
            self.test[:EXACT_ROWS],
            kernel="vectorized",
            num_samples=50 if self.quick else EXACT_DRAWS,
            warmup_steps=50 if self.quick else 200,
            num_chains=2,
            seed=0,
            progress=False,
        )
        return int((collapse_report(whole(draws)).table["verdict"] == "collapsed").sum())


def run(
    out: Path,
    folder: Path,
    *,
    data_sets: Sequence[str] = NAMES,
    num_seeds: int = 3,
    quick: bool = False,
    resume: bool = False,
) -> pd.DataFrame:
    """Train and judge decoders with a floor in either units, and without.

    Writes ``training.csv``, ``weights/``, ``floors.csv`` and ``floors.png``.

    Args:
        out: folder to write to.
        folder: where the data sets are.
        data_sets: names of those to use.
        num_seeds: runs a model at its best learning rate.
        quick: few rows, two epochs and one rate, to see that all goes through.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a data set, model, learning rate, seed and number of epochs.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
        FileNotFoundError: for a data set that is not in the folder.
    """
    # More seeds and other data sets are further rows.
    begin(out, {"quick": quick}, resume=resume)
    torch.set_num_threads(1)
    for case in CASES:
        if case.name in data_sets:
            data = case.load(folder)
            Floors(out, case, data.train, data.test, quick=quick).run(num_seeds)
    found = Ledger(out / "floors.csv")
    frame = found.frame()
    print(table(found))
    _plot(frame, out / "floors.png")
    return frame


def table(found: Ledger) -> str:
    """Return the rows as text, each beside the best ordinary decoder of its data set."""
    lines = []
    for data, rows in found.frame().groupby("data", sort=False):
        plain = rows[rows["model"] == ORDINARY]
        best = plain.loc[plain["evidence"].idxmax()]
        reference = found.kept(_stem_of(best))
        lines.append(f"{data}: least nats and KL of the guide, log p(x) by annealing")
        for _, row in rows.iterrows():
            gain = found.kept(_stem_of(row)) - reference
            lines.append(
                f"  {row['model']:36s} rate {row['learning_rate']:<6g} {row['epochs']:4d} epochs "
                f"seed {row['seed']}: log p(x) {row['evidence']:9.2f}, {gain.mean():+6.2f} ± "
                f"{gain.std(ddof=1) / len(gain) ** 0.5:.2f}, KL {row['kl']:6.2f}, least "
                f"{row['least_nats']:.3f}, active {row['active_units']:.0f}"
                + ("" if pd.isna(row["capped"]) else f", capped {row['capped']:.0%}")
                + ("" if pd.isna(row["collapsed"]) else f", collapsed {row['collapsed']:.0f}")
            )
    lines.append("nats a row; ±: standard error of the difference to the best ordinary decoder")
    return "\n".join(lines)


def _stem(data: str, name: str, seed: int, rate: float, epochs: int) -> str:
    return re.sub(r"\W+", "_", f"{data} {name} {seed} {rate:g} {epochs}")


def _stem_of(row: Any) -> str:
    return _stem(row["data"], row["model"], row["seed"], float(row["learning_rate"]), row["epochs"])


def _plot(frame: pd.DataFrame, path: Path) -> None:
    names = list(dict.fromkeys(frame["data"]))
    looks = dict(zip(dict.fromkeys(frame["model"]), LOOKS, strict=False))
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.2 * len(names) + 2.6, 3.6), layout="constrained", squeeze=False
    )
    handles: dict[str, Any] = {}
    for ax, data in zip(axes[0], names, strict=True):
        rows = frame[frame["data"] == data]
        for name, own in rows.groupby("model", sort=False):
            x, y = own["least_nats"], own["evidence"]
            (handles[str(name)],) = ax.plot(x, y, looks[name], label=name, alpha=0.7)
        ax.set_title(data)
        ax.set_xscale("symlog", linthresh=0.01)
        ax.set_xlim(left=0)
        ax.set_xlabel("least nats of a latent")
    axes[0][0].set_ylabel("held-out log-likelihood (nats a row)")
    figure.legend(handles.values(), handles, loc="outside right upper", frameon=False, fontsize=9)
    save_figure(figure, path)
