# SPDX-License-Identifier: Apache-2.0
"""What each method says of probabilistic PCA's latents, as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyro
from pyro import poutine
from torch import Tensor

from pyro_idvae.arviz_io import groups_of
from pyro_idvae.datasets import PCAData
from pyro_idvae.diagnostics import collapse_report
from pyro_idvae.diagnostics.collapse import COLLAPSED, INFORMATIVE
from pyro_idvae.experiments.endings import whole
from pyro_idvae.experiments.posteriors import GUIDES, convergence, fit_guide, norm_divergence
from pyro_idvae.infer import mcmc
from pyro_idvae.models import ProbabilisticPCA

LIMITS = {"epsilon": 0.05, "confidence": 0.95}
PRIOR_SAMPLES = 200
FULL_RANK = {"learning_rates": (0.02, 2e-5), "num_particles": 64}
"""Thousands of off-diagonal entries jitter unless steps end small and gradients are averaged."""

CLOSED_FORM, EXACT, SAMPLED = "closed form", "exact (HMC)", "NUTS"


def rows_at(
    data: PCAData,
    w: Tensor,
    method: str,
    *,
    num_samples: int,
    num_chains: int,
    num_steps: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield rows of the posterior of z at given loadings, by one method.

    Args:
        data: the data.
        w: the loadings.
        method: ``CLOSED_FORM``, ``EXACT`` or one of ``GUIDES``.
        num_samples: draws a chain, and from a guide.
        num_chains: chains.
        num_steps: optimiser steps of a guide.
        seed: seed of everything random.
    """
    latent_dim = w.shape[1]
    pca = ProbabilisticPCA(w.shape[0], latent_dim, scale=data.scale)
    # Hidden, as the loadings are no observations of any data point.
    model = poutine.block(poutine.condition(pca, {"w": w}), hide=["w"])
    if method == CLOSED_FORM:
        yield from _closed_form(pca, data.x, w)
    elif method == EXACT:
        begin = time.perf_counter()
        draws = whole(
            mcmc(
                model,
                data.x,
                kernel="vectorized",
                num_samples=num_samples,
                num_chains=num_chains,
                num_prior_samples=PRIOR_SAMPLES,
                seed=seed,
                progress=False,
            )
        )
        seconds = time.perf_counter() - begin
        z = groups_of(draws)["posterior"]["z"].values
        chains = [convergence(z[..., k]) for k in range(latent_dim)]
        yield from _rows(draws, method, {"seconds": seconds}, chains)
    else:
        pyro.clear_param_store()
        options: Any = FULL_RANK if method == "full rank" else {}
        found = fit_guide(
            model,
            GUIDES[method](model, init_scale=0.5),
            data.x,
            num_steps=num_steps,
            num_draws=num_samples,
            num_prior_samples=PRIOR_SAMPLES,
            seed=seed,
            **options,
        )
        yield from _rows(found.draws, method, found.figures, [])


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
            "method": CLOSED_FORM,
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
    vector = report.vector
    yield {
        "latent": "all latents",
        "method": method,
        "quantity": vector["quantity"],
        **{name: vector[name] for name in ("estimate", "lower", "upper", "verdict")},
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


def rows_sampled(
    data: PCAData,
    latent_dim: int,
    *,
    num_samples: int,
    warmup_steps: int,
    num_chains: int,
    max_tree_depth: int,
    parallel: bool,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield rows of NUTS draws of loadings and latents together.

    Of all latents, of what no rotation changes, and of z as it stands.
    """
    begin = time.perf_counter()
    draws = whole(
        mcmc(
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
    )
    seconds = time.perf_counter() - begin
    groups = groups_of(draws)
    z, w = (groups["posterior"][name].values.astype(float) for name in ("z", "w"))
    chains = [convergence(z[..., k]) for k in range(z.shape[-1])]
    first, *each = _rows(draws, SAMPLED, {"seconds": seconds}, chains)
    divergences = int(groups["sample_stats"]["diverging"].sum())
    rhat, ess = convergence(w @ np.swapaxes(w, -1, -2))
    yield {**first, "latent": "w and z", "divergences": divergences}
    yield {"latent": "wwᵀ", "method": SAMPLED, "rhat": rhat, "ess": ess}
    yield {"latent": "|z|", "method": SAMPLED, **norm_divergence(z, **LIMITS)}
    yield from each
