# SPDX-License-Identifier: Apache-2.0
"""Probabilistic PCA with one signal direction and one latent or two: what a spare one learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_idvae.datasets import PCAData, pca_data
from pyro_idvae.experiments.classical_figures import plot_pca
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.experiments.pca_rows import (
    CLOSED_FORM,
    EXACT,
    LIMITS,
    SAMPLED,
    rows_at,
    rows_sampled,
)
from pyro_idvae.experiments.posteriors import GUIDES


def run(
    out: Path,
    *,
    num_data: int = 500,
    num_samples: int = 1000,
    warmup_steps: int = 500,
    num_chains: int = 4,
    num_steps: int = 3000,
    max_tree_depth: int = 10,
    parallel: bool = True,
    seed: int = 0,
    resume: bool = False,
) -> pd.DataFrame:
    """Sample, fit and judge; writes ``pca.csv`` and ``pca.png``.

    With the loadings given, p(z|x) is known in closed form, and so is what each method should find.
    With the loadings sampled too, z is identified up to a rotation only: what does not depend on
    it is |z| of each data point and wwᵀ.

    Args:
        out: folder to write to.
        num_data: observations.
        num_samples: draws a chain, and from each guide.
        warmup_steps: NUTS steps before them.
        num_chains: chains.
        num_steps: optimiser steps of each guide.
        max_tree_depth: NUTS doubles a trajectory this often at most.
        parallel: whether NUTS chains run in processes of their own.
        seed: seed of everything random.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a setting, latent and method; nats where there is no unit.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    options = {
        "data": num_data,
        "samples": num_samples,
        "warmup": warmup_steps,
        "chains": num_chains,
        "steps": num_steps,
        "max_tree_depth": max_tree_depth,
        "seed": seed,
    }
    begin(out, options, resume=resume)
    torch.set_num_threads(1)
    data = pca_data(num_data=num_data, seed=seed)
    ledger = Ledger(out / "pca.csv")
    for setting, method, rows in _parts(
        data,
        parallel=parallel,
        warmup_steps=warmup_steps,
        max_tree_depth=max_tree_depth,
        num_steps=num_steps,
        num_samples=num_samples,
        num_chains=num_chains,
        seed=seed,
    ):
        if ledger.find(setting=setting, method=method):
            continue
        # All rows of a method at a setting are on disk, or none.
        made = [{"setting": setting, **row} for row in rows]
        ledger.add(made)
        for row in made:
            print(_in_words(row), flush=True)
    found = ledger.frame()
    print(table(found))
    plot_pca(found, LIMITS["epsilon"], out / "pca.png")
    return found


def _parts(
    data: PCAData,
    *,
    parallel: bool,
    warmup_steps: int,
    max_tree_depth: int,
    num_steps: int,
    **common: int,
) -> Iterator[tuple[str, str, Iterator[dict[str, Any]]]]:
    """Yield each setting and method, with the rows that are made when they are asked for."""
    for setting, w in loadings(data).items():
        for method in (CLOSED_FORM, EXACT, *GUIDES):
            yield setting, method, rows_at(data, w, method, num_steps=num_steps, **common)
    for latent_dim in (1, 2):
        rows = rows_sampled(
            data,
            latent_dim,
            warmup_steps=warmup_steps,
            max_tree_depth=max_tree_depth,
            parallel=parallel,
            **common,
        )
        yield f"{_latents(latent_dim)}, loadings sampled", SAMPLED, rows


def maximum_likelihood(x: Tensor, latent_dim: int, scale: float) -> Tensor:
    r"""Return the loadings U (Λ − σ²)₊^½ that maximise Σ log N(x_i | 0, wwᵀ + σ²I).

    U and Λ are the leading eigenvectors and eigenvalues of xᵀx/n.

    Reference:
        Tipping & Bishop, *Probabilistic Principal Component Analysis*, JRSS B 1999.
    """
    values, vectors = torch.linalg.eigh(x.double().mT @ x.double() / len(x))
    values, vectors = values.flip(0)[:latent_dim], vectors.flip(1)[:, :latent_dim]
    found: Tensor = vectors * (values - scale**2).clamp_min(0.0).sqrt()
    return found.to(x.dtype)


def loadings(data: PCAData) -> dict[str, Tensor]:
    """Return the loadings to condition on, by the name of the setting."""
    best = {
        f"{_latents(k)}, ML loadings": maximum_likelihood(data.x, k, data.scale) for k in (1, 2)
    }
    return {**best, "2 latents, true loadings": torch.cat([data.w, 0 * data.w], -1)}


def _latents(count: int) -> str:
    return f"{count} latent{'s' if count > 1 else ''}"


def _in_words(row: dict[str, Any]) -> str:
    parts = []
    if "quantity" in row:
        limits = f" ({row['lower']:.4f} to {row['upper']:.4f})" if "lower" in row else ""
        parts.append(f"{row['quantity']} {row['estimate']:.4f}{limits} nats, {row['verdict']}")
    if np.isfinite(row.get("rhat", np.nan)):
        parts.append(f"R-hat up to {row['rhat']:.3f}, ESS from {row['ess']:.0f}")
    if "points_informative" in row:
        shares = f"{row['points_informative']:.0%} informative, {row['points_collapsed']:.0%}"
        parts.append(f"of the data points {shares} collapsed")
    if "elbo_gain" in row:
        gain = f"{row['elbo_gain']:+.2f} in the last quarter"
        parts.append(f"ELBO {row['elbo']:.2f} ± {row['elbo_se']:.2f}, {gain}")
    elif "elbo" in row:
        parts.append(f"log p(x) {row['elbo']:.2f}")
    if "divergences" in row:
        parts.append(f"{row['divergences']} divergences")
    if "seconds" in row:
        parts.append(f"{row['seconds']:.0f} s")
    return f"{row['setting']}, {row['method']}, {row['latent']}: {'; '.join(parts)}"


def table(found: pd.DataFrame) -> str:
    """Return the rows as text."""
    columns = ["setting", "latent", "method", "quantity", "estimate", "lower", "upper", "verdict"]
    shown = found[[*columns, "rhat", "ess"]].round(4)
    epsilon, confidence = LIMITS["epsilon"], LIMITS["confidence"]
    return (
        f"{shown.to_string(index=False, na_rep='–')}\n"
        f"nats; limits one-sided at {100 * confidence:g} %, ε = {epsilon:g}; KL of single latents "
        "and |z|: means over data points"
    )
