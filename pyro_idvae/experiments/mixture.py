# SPDX-License-Identifier: Apache-2.0
"""Two Normals fitted to one cluster, to two that overlap and to two apart: who collapses, when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import torch
from pyro.infer.autoguide import init_to_value
from torch import Tensor

from pyro_idvae.arviz_io import groups_of
from pyro_idvae.datasets import MIXTURE_REGIMES, mixture_data
from pyro_idvae.diagnostics import CollapseReport, collapse_report, discrete_information
from pyro_idvae.experiments.classical_figures import plot_mixture
from pyro_idvae.experiments.endings import whole
from pyro_idvae.experiments.ledger import Ledger, begin
from pyro_idvae.experiments.posteriors import GUIDES, convergence, fit_guide
from pyro_idvae.infer import from_mcmc, mcmc
from pyro_idvae.models import GaussianMixture

CONCENTRATION = 5.0
PRIOR_SAMPLES = 200
"""Prior draws, for J of all latents; θ's own KL goes by the cdf of its Beta prior."""
ASSIGNMENT_DRAWS = 200
STARTS = (0.1, 1.0)
"""Guides begin with means this many standard deviations either side of the data's; the start that
ends with the best ELBO counts."""


def run(
    out: Path,
    *,
    num_data: int = 10_000,
    regimes: Sequence[str] = tuple(MIXTURE_REGIMES),
    num_samples: int = 500,
    warmup_steps: int = 500,
    num_chains: int = 4,
    num_steps: int = 2500,
    parallel: bool = True,
    seed: int = 0,
    resume: bool = False,
) -> pd.DataFrame:
    """Sample, fit and judge; writes ``mixture.csv`` and ``mixture.png``.

    Args:
        out: folder to write to.
        num_data: observations a regime.
        regimes: some of ``MIXTURE_REGIMES``.
        num_samples: NUTS draws a chain; a guide draws as many as all chains.
        warmup_steps: NUTS steps before them.
        num_chains: NUTS chains.
        num_steps: optimiser steps of each guide.
        parallel: whether chains run in processes of their own.
        seed: seed of everything random.
        resume: whether to go on with the rows that are there.

    Returns:
        One row a regime and method; nats where there is no unit.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume`` or of other options.
    """
    options = {
        "data": num_data,
        "regimes": list(regimes),
        "samples": num_samples,
        "warmup": warmup_steps,
        "chains": num_chains,
        "steps": num_steps,
        "seed": seed,
    }
    begin(out, options, resume=resume)
    torch.set_num_threads(1)
    ledger = Ledger(out / "mixture.csv")
    curves: dict[str, dict[str, Any]] = {}
    for regime in regimes:
        data = mixture_data(regime, num_data=num_data, seed=seed)
        model = GaussianMixture(concentration=CONCENTRATION)
        curves[regime] = {}
        for method in ("NUTS", *GUIDES):
            name = f"{regime}, {method}"
            if ledger.find(regime=regime, method=method):
                curves[regime][method] = ledger.kept(name)
                continue
            if method == "NUTS":
                draws, figures = _sample(
                    model,
                    data.x,
                    num_samples=num_samples,
                    warmup_steps=warmup_steps,
                    num_chains=num_chains,
                    parallel=parallel,
                    seed=seed,
                )
            else:
                draws, figures = _fit(
                    model,
                    method,
                    data.x,
                    num_steps=num_steps,
                    num_draws=num_samples * num_chains,
                    seed=seed,
                )
            # For a guide too: its KL to the symmetric prior is the same.
            theta = relabelled(_tensors(draws))["theta"].numpy()
            curves[regime][method] = theta
            row = {
                "regime": regime,
                "method": method,
                "true_theta": data.weight,
                "mean": float(theta.mean()),
                "sd": float(theta.std()),
                **_judged(collapse_report(draws, var_names=["theta"])),
                **_assigned(model, data.x, draws),
                **figures,
            }
            ledger.keep(name, theta)
            ledger.add([row])
            print(_in_words(row), flush=True)
    found = ledger.frame()
    print(table(found))
    plot_mixture(found, curves, CONCENTRATION, out / "mixture.png")
    return found


def relabelled(samples: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return draws whose chains all have the lower mean first, on the average over a chain.

    The model is the same after an exchange of its components, and so is its prior: whole chains
    may be exchanged, as those in other labellings never meet. Single draws are left as they are, so
    that R-hat still tells of a chain that changes its labelling on the way.

    Args:
        samples: ``theta`` of shape ``(chain, draw)``, ``mu`` and ``sigma`` with two more.
    """
    mean = samples["mu"].mean(1)
    wrong = (mean[:, 0] > mean[:, 1]).unsqueeze(-1)
    pair = wrong.unsqueeze(-1)
    return {
        "theta": torch.where(wrong, 1 - samples["theta"], samples["theta"]),
        "mu": torch.where(pair, samples["mu"].flip(-1), samples["mu"]),
        "sigma": torch.where(pair, samples["sigma"].flip(-1), samples["sigma"]),
    }


def _tensors(draws: Any) -> dict[str, Tensor]:
    posterior = groups_of(draws)["posterior"]
    return {name: torch.tensor(posterior[name].values) for name in ("theta", "mu", "sigma")}


def _sample(
    model: GaussianMixture,
    x: Tensor,
    *,
    num_samples: int,
    warmup_steps: int,
    num_chains: int,
    parallel: bool,
    seed: int,
) -> tuple[Any, dict[str, float]]:
    """Return NUTS draws with how far they can be trusted."""
    begin = time.perf_counter()
    draws = whole(
        mcmc(
            model,
            x,
            num_samples=num_samples,
            warmup_steps=warmup_steps,
            num_chains=num_chains,
            jit_compile=True,
            parallel=parallel,
            num_prior_samples=PRIOR_SAMPLES,
            seed=seed,
            progress=False,
        )
    )
    seconds = time.perf_counter() - begin
    groups = groups_of(draws)
    diverging = torch.tensor(groups["sample_stats"]["diverging"].values)
    draws = from_mcmc(
        relabelled(_tensors(draws)),
        model,
        x,
        sample_stats={"diverging": diverging},
        num_prior_samples=PRIOR_SAMPLES,
        inference_method="nuts",
    )
    groups = groups_of(draws)
    rhat, ess = convergence(groups["posterior"]["theta"].values)
    rhats = [convergence(groups["posterior"][name].values)[0] for name in ("theta", "mu", "sigma")]
    return draws, {
        "rhat": rhat,
        "largest_rhat": max(rhats),
        "ess": ess,
        "divergences": int(groups["sample_stats"]["diverging"].sum()),
        "seconds": seconds,
    }


def _fit(
    model: GaussianMixture, method: str, x: Tensor, *, num_steps: int, num_draws: int, seed: int
) -> tuple[Any, dict[str, float]]:
    """Return the draws of the best of some fits, with how well it has settled."""
    fits = []
    for apart in STARTS:
        pyro.clear_param_store()
        start = {
            "theta": torch.tensor(0.5),
            "mu": x.mean() + apart * x.std() * torch.tensor([-1.0, 1.0]),
            "sigma": x.std().expand(2),
        }
        guide = GUIDES[method](model, init_loc_fn=init_to_value(values=start))
        fits.append(
            fit_guide(
                model,
                guide,
                x,
                num_steps=num_steps,
                num_draws=num_draws,
                num_prior_samples=PRIOR_SAMPLES,
                seed=seed,
            )
        )
    best = max(fits, key=lambda found: found.elbo)
    return best.draws, {
        **best.figures,
        "elbo_of_worst_start": min(found.elbo for found in fits),
        "seconds": sum(found.seconds for found in fits),
    }


def _judged(report: CollapseReport) -> dict[str, Any]:
    row = report.table.loc["theta"]
    return {
        "kl": float(row["kl"]),
        "kl_lower": float(row["kl_lower"]),
        "kl_upper": float(row["kl_upper"]),
        "verdict": str(row["verdict"]),
    }


def _assigned(model: GaussianMixture, x: Tensor, draws: Any) -> dict[str, float]:
    """Return what an observation says of its component, averaged over posterior draws."""
    posterior = groups_of(draws)["posterior"].stack(sample=("chain", "draw"))
    step = max(posterior.sizes["sample"] // ASSIGNMENT_DRAWS, 1)
    posterior = posterior.isel(sample=slice(None, None, step)).transpose("sample", ...)
    theta, mu, sigma = (torch.tensor(posterior[name].values) for name in ("theta", "mu", "sigma"))
    information, kl = [], []
    for one in zip(theta, mu, sigma, strict=True):
        p = model.assignment(x, *one).probs
        weights = torch.stack([one[0], 1 - one[0]])
        found = discrete_information(p.numpy(), weights.numpy())
        information.append(float(found.mutual_information))
        kl.append(float(np.mean(found.kl)))
    return {
        "assignment_information": float(np.mean(information)),
        "assignment_information_sd": float(np.std(information)),
        "assignment_kl": float(np.mean(kl)),
    }


def _in_words(row: dict[str, Any]) -> str:
    words = (
        f"{row['regime']}, {row['method']}: θ = {row['mean']:.3f} ± {row['sd']:.3f}, KL to the "
        f"prior {row['kl']:.3f} ({row['kl_lower']:.3f} to {row['kl_upper']:.3f}) nats, "
        f"{row['verdict']}; I(x;y) {row['assignment_information']:.3f} nats"
    )
    if "rhat" in row:
        words += (
            f"; R-hat {row['rhat']:.3f} (largest {row['largest_rhat']:.3f}), ESS {row['ess']:.0f}, "
            f"{row['divergences']} divergences"
        )
    else:
        words += (
            f"; ELBO {row['elbo']:.2f} ± {row['elbo_se']:.2f}, "
            f"{row['elbo_gain']:+.2f} in the last quarter, "
            f"{row['elbo_of_worst_start']:.2f} from the worst start"
        )
    return f"{words}; {row['seconds']:.0f} s"


def table(found: pd.DataFrame) -> str:
    """Return the rows as text."""
    shown = found.drop(columns=["true_theta", "assignment_information_sd"])
    lines = shown.round(3).to_string(index=False, na_rep="–")
    return f"{lines}\nθ against Beta(5, 5); limits one-sided at 95 %, ε = 0.05 nats"
