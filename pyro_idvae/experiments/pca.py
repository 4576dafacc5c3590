# SPDX-License-Identifier: Apache-2.0
"""Probabilistic PCA with one signal direction and one latent or two: what a spare one learns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae.arviz_io import groups_of
from pyro_idvae.datasets import PCAData, pca_data
from pyro_idvae.diagnostics import collapse_report
from pyro_idvae.diagnostics.collapse import COLLAPSED, INFORMATIVE
from pyro_idvae.experiments.classical_figures import plot_pca
from pyro_idvae.experiments.posteriors import GUIDES, convergence, fit_guide, norm_divergence
from pyro_idvae.infer import mcmc
from pyro_idvae.models import ProbabilisticPCA

LIMITS = {"epsilon": 0.05, "confidence": 0.95}
PRIOR_SAMPLES = 200
FULL_RANK = {"learning_rates": (0.02, 2e-5), "num_particles": 64}
"""Thousands of off-diagonal entries jitter unless steps end small and gradients are averaged."""


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

    Returns:
        One row a setting, latent and method; nats where there is no unit.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data = pca_data(num_data=num_data, seed=seed)
    rows: list[dict[str, Any]] = []
    for setting, w in loadings(data).items():
        given = _given(
            data,
            w,
            num_samples=num_samples,
            num_chains=num_chains,
            num_steps=num_steps,
            seed=seed,
        )
        for row in given:
            rows.append({"setting": setting, **row})
            print(_in_words(rows[-1]), flush=True)
    for latent_dim in (1, 2):
        draws, seconds = _sample(
            data,
            latent_dim,
            num_samples=num_samples,
            warmup_steps=warmup_steps,
            num_chains=num_chains,
            max_tree_depth=max_tree_depth,
            parallel=parallel,
            seed=seed,
        )
        for row in _joint(draws, seconds):
            rows.append({"setting": f"{_latents(latent_dim)}, loadings sampled", **row})
            print(_in_words(rows[-1]), flush=True)
    found = pd.DataFrame(rows)
    found.to_csv(out / "pca.csv", index=False)
    print(table(found))
    plot_pca(found, LIMITS["epsilon"], out / "pca.png")
    return found


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


def _given(
    data: PCAData,
    w: Tensor,
    *,
    num_samples: int,
    num_chains: int,
    num_steps: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield rows of the posterior of z at given loadings, all methods."""
    latent_dim = w.shape[1]
    pca = ProbabilisticPCA(w.shape[0], latent_dim, scale=data.scale)
    # Hidden, as the loadings are no observations of any data point.
    model = poutine.block(poutine.condition(pca, {"w": w}), hide=["w"])
    yield from _closed_form(pca, data.x, w)
    begin = time.perf_counter()
    draws = mcmc(
        model,
        data.x,
        kernel="vectorized",
        num_samples=num_samples,
        num_chains=num_chains,
        num_prior_samples=PRIOR_SAMPLES,
        seed=seed,
        progress=False,
    )
    seconds = time.perf_counter() - begin
    z = groups_of(draws)["posterior"]["z"].values
    stats_of_chains = [convergence(z[..., k]) for k in range(latent_dim)]
    yield from _rows(draws, "exact (HMC)", {"seconds": seconds}, stats_of_chains)
    for name, make in GUIDES.items():
        pyro.clear_param_store()
        options: Any = FULL_RANK if name == "full rank" else {}
        found = fit_guide(
            model,
            make(model, init_scale=0.5),
            data.x,
            num_steps=num_steps,
            num_draws=num_samples,
            num_prior_samples=PRIOR_SAMPLES,
            seed=seed,
            **options,
        )
        yield from _rows(found.draws, name, found.figures, [])


def _closed_form(pca: ProbabilisticPCA, x: Tensor, w: Tensor) -> Iterator[dict[str, Any]]:
    """Yield the exact KL of all latents and of each one's marginal, averaged over the data."""
    x, w = x.double(), w.double()
    posterior = pca.posterior(x, w)
    variance, mean = posterior.variance, posterior.mean
    each = 0.5 * (variance + mean.square() - 1.0 - variance.log()).mean(0)
    evidence = float(pca.marginal(w).log_prob(x).sum())
    whole = float(pca.kl_to_prior(x, w).mean())
    names = ["all latents", *(f"z[{k}]" for k in range(len(each)))]
    for name, kl in zip(names, [whole, *each.tolist()], strict=True):
        verdict = COLLAPSED if kl < LIMITS["epsilon"] else INFORMATIVE
        yield {
            "latent": name,
            "method": "closed form",
            "quantity": "KL",
            "estimate": kl,
            "verdict": verdict,
            **({"elbo": evidence} if name == names[0] else {}),
        }


def _rows(
    draws: Any, method: str, extra: dict[str, Any], chains: list[tuple[float, float]]
) -> Iterator[dict[str, Any]]:
    """Yield what the collapse report says of all latents and of each dimension of z."""
    report = collapse_report(draws, var_names=["z"], **LIMITS)
    whole = report.vector
    yield {
        "latent": "all latents",
        "method": method,
        "quantity": whole["quantity"],
        **{name: whole[name] for name in ("estimate", "lower", "upper", "verdict")},
        **extra,
    }
    for k, (name, row) in enumerate(report.table.iterrows()):
        rhat, ess = chains[k] if chains else (np.nan, np.nan)
        yield {
            "latent": str(name),
            "method": method,
            "quantity": "KL",
            "estimate": row["kl"],
            "lower": row["kl_lower"],
            "upper": row["kl_upper"],
            "verdict": row["verdict"],
            "rhat": rhat,
            "ess": ess,
        }


def _sample(
    data: PCAData,
    latent_dim: int,
    *,
    num_samples: int,
    warmup_steps: int,
    num_chains: int,
    max_tree_depth: int,
    parallel: bool,
    seed: int,
) -> tuple[Any, float]:
    """Return NUTS draws of loadings and latents together, and the seconds they took."""
    begin = time.perf_counter()
    draws = mcmc(
        ProbabilisticPCA(data.x.shape[1], latent_dim, scale=data.scale),
        data.x,
        num_samples=num_samples,
        warmup_steps=warmup_steps,
        num_chains=num_chains,
        jit_compile=True,
        kernel_options={"max_tree_depth": max_tree_depth},
        parallel=parallel,
        num_prior_samples=PRIOR_SAMPLES,
        seed=seed,
        progress=False,
    )
    return draws, time.perf_counter() - begin


def _joint(draws: Any, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield rows of all latents, of what no rotation changes, and of z as it stands."""
    groups = groups_of(draws)
    z, w = (groups["posterior"][name].values.astype(float) for name in ("z", "w"))
    chains = [convergence(z[..., k]) for k in range(z.shape[-1])]
    whole, *each = _rows(draws, "NUTS", {"seconds": seconds}, chains)
    divergences = int(groups["sample_stats"]["diverging"].sum())
    rhat, ess = convergence(w @ np.swapaxes(w, -1, -2))
    yield {**whole, "latent": "w and z", "divergences": divergences}
    yield {"latent": "wwᵀ", "method": "NUTS", "rhat": rhat, "ess": ess}
    yield {"latent": "|z|", "method": "NUTS", **norm_divergence(z, **LIMITS)}
    yield from each


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
