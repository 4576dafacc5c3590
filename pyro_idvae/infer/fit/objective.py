# SPDX-License-Identifier: Apache-2.0
"""What the fit loop needs to know of an objective: weights and culprits."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program, run_pair
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
