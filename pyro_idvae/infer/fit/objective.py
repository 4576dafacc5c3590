# SPDX-License-Identifier: Apache-2.0
"""What the fit loop needs to know of an objective: weights, state and culprits."""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.infer.enumerated import DRAWING
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program, evaluating, run_pair, undisturbed
from pyro_idvae.programs.sites import latent_sites, observed_sites


def kl_weight(program: Program, weight: float) -> Program:
    """Return the program with its latents' log densities weighted; itself for a weight of 1."""
    if weight == 1.0:
        return program

    def scale(msg: Any) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * weight

    weighted: Program = _upstream.Handler(sample=scale)(program)
    return weighted


def prepare(elbo: Any, model: Program, guide: Program, arguments: Arguments) -> None:
    """Let an ELBO find out before the first step what it would then find out by a run.

    A fit that goes on in another process has another ELBO: its first step must draw as many random
    numbers as any other.
    """
    only_draws = isinstance(elbo, DRAWING) and not elbo.vectorize_particles
    if getattr(elbo, "max_plate_nesting", None) == math.inf and not only_draws:
        with torch.no_grad(), poutine.block(), undisturbed(arguments), evaluating(model, guide):
            _upstream.guess_plate_nesting(elbo, model, guide, *arguments)


def objective_state(elbo: Any) -> dict[str, Any]:
    """Return what an objective keeps from step to step: its own state, and means in the store."""
    store = pyro.get_param_store()
    means = {name: store[name] for name in store if _upstream.is_baseline(name)}
    own = elbo.state_dict() if hasattr(elbo, "state_dict") else None
    return {"means": means, "own": own}


def load_objective(elbo: Any, state: dict[str, Any]) -> None:
    """Go back to what :func:`objective_state` returned."""
    store = pyro.get_param_store()
    for name in [n for n in store if _upstream.is_baseline(n) and n not in state["means"]]:
        del store[name]
    for name, value in state["means"].items():
        store[name] = value
    if state["own"] is not None:
        elbo.load_state_dict(state["own"])


def described(elbo: Any) -> str:
    """Return what an objective is: its class and its options that are numbers."""
    options = {k: v for k, v in vars(elbo).items() if isinstance(v, (bool, int, float, str))}
    return f"{type(elbo).__name__} {dict(sorted(options.items()))}"


def sampled_kl(
    model: Program, guide: Program, arguments: Arguments, divisor: int, devices: list[int]
) -> float:
    """Return log q − log p of the latents per data point, from one draw of a batch."""
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        model_trace, guide_trace = run_pair(model, guide, arguments)
        names = set(latent_sites(guide_trace)) & set(latent_sites(model_trace))
        log_p = model_trace.log_prob_sum(lambda name, site: name in names)
        log_q = guide_trace.log_prob_sum()
    return float(log_q - log_p) / divisor


def non_finite_sites(model: Program, guide: Program, arguments: Arguments) -> list[str]:
    """Return the names of the sites whose value or log density is not finite."""
    bad: list[str] = []
    with torch.no_grad(), pyro.validation_enabled(False):
        model_trace, guide_trace = run_pair(model, guide, arguments)
        for trace, select in ((guide_trace, latent_sites), (model_trace, _scored_sites)):
            for name, site in select(trace).items():
                log_prob = site["fn"].log_prob(site["value"])
                if name not in bad and not (_finite(log_prob) and _finite(site["value"])):
                    bad.append(name)
    return bad


def _scored_sites(trace: Any) -> dict[str, Any]:
    return {**latent_sites(trace), **observed_sites(trace)}


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(value.isfinite().all())
