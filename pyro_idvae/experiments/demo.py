# SPDX-License-Identifier: Apache-2.0
"""The demo: an ordinary and an identifiable VAE on real digits, and the exact posterior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pyro
import torch
from torch import Tensor

from pyro_idvae.arviz_io import groups_of, save_netcdf
from pyro_idvae.datasets import MAX_INK, digits
from pyro_idvae.diagnostics import kl_to_prior
from pyro_idvae.experiments.endings import save_figure, whole
from pyro_idvae.experiments.images import Row, judge, make_idvae, make_vae, train, write_rows
from pyro_idvae.infer import FitResult, from_guide, mcmc
from pyro_idvae.models import VAE
from pyro_idvae.plots import plot_latent_walk, plot_losses, plot_prior_posterior

LEARNING_RATES = {"VAE": 1e-3, "IDVAE": 4e-3}
"""Each model's best of a common grid on validation images; see the digits experiment."""

LEAST_DRAWS = 4
"""Draws of a chain that a density can be drawn of."""

NUM_JUDGED = 200
"""Held-out digits that the table is of."""
EVIDENCE: dict[str, Any] = {}
"""Options of the annealing."""

NUM_SAMPLED = 3
"""Held-out digits whose exact posterior is sampled."""


def run(out: Path, *, seed: int = 0, num_epochs: int = 150, num_draws: int = 250) -> list[Row]:
    """Train both models, print the table, sample and draw; see the module's docstring.

    Each file is written as soon as what it shows is there, and whole. Ctrl-C while NUTS samples
    keeps the draws so far.

    Args:
        out: folder for ``posterior.nc``, ``summary.csv`` and the PNG files.
        seed: seed of everything random.
        num_epochs: epochs for each model.
        num_draws: NUTS draws a chain, after as many warm-up steps.

    Returns:
        One row a model.

    Raises:
        KeyboardInterrupt: after an interrupt, when all that it left is written.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # small matrices: more threads only wait for each other
    data = digits()
    models: dict[str, VAE] = {"VAE": make_vae(seed), "IDVAE": make_idvae(seed)}
    fits: dict[str, FitResult] = {}
    rows = []
    for name, vae in models.items():
        print(f"Training the {name} on {len(data.train)} digits …")
        fits[name] = train(
            vae,
            data.train,
            learning_rate=LEARNING_RATES[name],
            num_epochs=num_epochs,
            seed=seed,
            progress=True,
        )
        print(f"Judging the {name} on {NUM_JUDGED} held-out digits …")
        row = judge(
            name,
            vae,
            data.test[:NUM_JUDGED],
            seconds=fits[name].wall_time,
            epochs=fits[name].best_epoch + 1,
            num_samples=1000,
            seed=seed,
            evidence_options=EVIDENCE,
        )
        rows.append(row)
    print()
    print(format_rows(rows))
    print()
    write_rows(rows, out / "summary.csv")
    _plot_losses(fits, out / "losses.png")
    _plot_reconstructions(models, data.test[:8], out / "reconstructions.png")
    _plot_walk(models, data.test, out / "latent_walk.png")
    chosen = data.test[:NUM_SAMPLED]
    labels = [f"digit {int(label)}" for label in data.test_labels[:NUM_SAMPLED]]
    identifiable = models["IDVAE"]
    print(f"Sampling the exact posterior of {NUM_SAMPLED} held-out digits by NUTS …")
    exact = mcmc(
        identifiable.model,
        chosen,
        num_samples=num_draws,
        warmup_steps=num_draws,
        num_chains=2,
        coords={"data": labels},
        seed=seed,
    )
    pyro.set_rng_seed(seed)
    guide = from_guide(
        identifiable.model, identifiable.guide, chosen, num_samples=1000, coords={"data": labels}
    )
    save_netcdf(exact, out / "posterior.nc")
    if groups_of(exact)["posterior"].sizes["draw"] >= LEAST_DRAWS:
        _plot_posterior(exact, guide, out / "prior_posterior.png")
    whole(exact)
    stats = groups_of(exact)["sample_stats"]
    diverging = int(stats["diverging"].sum())
    acceptance = float(stats["acceptance_rate"].mean())
    print(f"NUTS: {diverging} divergences, mean acceptance {acceptance:.2f}.")
    print(f"Wrote {', '.join(sorted(p.name for p in out.iterdir()))} to {out}")
    return rows


def format_rows(rows: list[Row]) -> str:
    """Return the table of the demo as text."""
    head = (
        f"{'model':8s}{'decoder':>10s}{'training':>10s}{'log p(x)':>16s}{'KL':>8s}"
        f"{'active':>10s}{'least':>8s}{'L':>8s}\n"
        f"{'':8s}{'params':>10s}{'s':>10s}{'nats an image':>16s}{'nats':>8s}"
        f"{'of 16':>10s}{'nats':>8s}{'':>8s}"
    )
    lines = [head]
    for row in rows:
        bound = "none" if row.lipschitz is None else f"≥ {row.lipschitz:.2f}"
        lines.append(
            f"{row.model:8s}{row.parameters:10d}{row.seconds:10.1f}"
            f"{row.evidence:9.2f} ± {row.evidence_se:4.2f}{row.kl:8.2f}"
            f"{row.active_units:10d}{row.least_nats:8.3f}{bound:>8s}"
        )
    mcse = max(row.evidence_mcse for row in rows)
    lines += [
        f"log p(x): of {NUM_JUDGED} held-out digits by annealed importance sampling, ± standard",
        f"error over the images (Monte-Carlo error {mcse:.3f}).",
        "KL: guide to prior over all dimensions; least: the poorest dimension's.",
        "L: the decoder's guaranteed inverse Lipschitz constant; none means not identifiable.",
    ]
    return "\n".join(lines)


def _plot_posterior(exact: Any, guide: Any, path: Path) -> None:
    axes = plot_prior_posterior({"NUTS (exact)": exact, "SVI (guide)": guide}, num_data=NUM_SAMPLED)
    save_figure(axes[0, 0].figure, path)


def _plot_losses(fits: dict[str, FitResult], path: Path) -> None:
    ax = plot_losses(fits)
    save_figure(ax.figure, path)


def _image(ax: Any, pixels: Tensor) -> None:
    ax.imshow(pixels.reshape(8, 8).numpy(), cmap="gray_r", vmin=0, vmax=MAX_INK)
    ax.set_xticks([])
    ax.set_yticks([])


def _mean_image(vae: VAE, z: Tensor) -> Tensor:
    """Return E[x|z] of a Binomial likelihood."""
    mean: Tensor = vae.likelihood.condition(z).base_dist.mean
    return mean


@torch.no_grad()
def _plot_reconstructions(models: dict[str, VAE], images: Tensor, path: Path) -> None:
    rows = {"data": images}
    for name, vae in models.items():
        rows[name] = _mean_image(vae, vae.guide.posterior(images).mean)
    figure, axes = plt.subplots(
        len(rows),
        len(images),
        figsize=(0.9 * len(images) + 0.8, 0.95 * len(rows) + 0.4),
        layout="constrained",
    )
    for line, (name, pixels) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, pixels, strict=True):
            _image(ax, image)
        line[0].set_ylabel(name)
    figure.suptitle("Held-out digits and their reconstructions")
    save_figure(figure, path)


@torch.no_grad()
def _plot_walk(models: dict[str, VAE], images: Tensor, path: Path) -> None:
    """Move one digit along the richest and the poorest dimension of each model."""
    figure, axes = plt.subplots(
        2 * len(models), 9, figsize=(9.65, 1.9 * len(models) + 0.7), layout="constrained"
    )
    for place, (name, vae) in enumerate(models.items()):
        nats = kl_to_prior(vae.model, vae.guide, images).mean(0)
        dims = {"richest": int(nats.argmax()), "poorest": int(nats.argmin())}
        lines = axes[2 * place : 2 * place + 2]
        plot_latent_walk(
            vae.likelihood,
            vae.guide.posterior(images[:1]).mean[0],
            image_shape=(8, 8),
            dims=[*dims.values()],
            limits=(-2.5, 2.5),
            num_steps=9,
            axes=lines,
        )
        for line, (word, dim) in zip(lines, dims.items(), strict=True):
            line[0].set_ylabel(
                f"{name}, {word}\n{nats[dim]:.2f} nats", rotation=0, ha="right", va="center"
            )
        if place < len(models) - 1:
            for ax in lines[-1]:
                ax.set_xlabel("")
    figure.suptitle("One digit moved along one latent dimension")
    figure.supxlabel("value of the dimension (prior standard deviations)")
    save_figure(figure, path)
