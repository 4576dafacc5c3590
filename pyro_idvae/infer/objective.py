# SPDX-License-Identifier: Apache-2.0
"""What the fit loop needs to know of an objective: weights, plates, culprits."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.batches import Arguments
from pyro_idvae.infer.parameters import Program, latent_sites, observed_sites, run_pair


class LatentScale(Messenger):
    """Scales the log densities of latent sites, in model and guide alike."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.weight


def kl_weight(program: Program, weight: float) -> Program:
    """Return the program with its latents' log densities weighted; itself for a weight of 1."""
    return program if weight == 1.0 else LatentScale(weight)(program)


def subsampled_size(trace: Any) -> int | None:
    """Return the full size of a plate that the model itself subsamples, or None."""
    for site in observed_sites(trace).values():
        for frame in site["cond_indep_stack"]:
            if frame.full_size is not None and frame.full_size > frame.size:
                return int(frame.full_size)
    return None


def check_minibatch(trace: Any, rows: int) -> None:
    """Raise if a latent stands outside the plate of a minibatch.

    Weighting the batch by N/B would weight that latent's prior too.
    """
    for name, site in latent_sites(trace).items():
        if all(frame.size != rows for frame in site["cond_indep_stack"]):
            raise ArgumentError(
                f"the latent site {name!r} is not in a plate of the batch's {rows} rows: a "
                "minibatch would count its prior once for each batch. Put it inside "
                "pyro.plate('data', len(x)), or pass batch_size=None"
            )


def sampled_kl(model: Program, guide: Program, arguments: Arguments, divisor: int) -> float:
    """Return log q − log p of the latents per data point, from one draw of a batch."""
    args, kwargs = arguments
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model_trace, guide_trace = run_pair(model, guide, args, kwargs)
        names = set(latent_sites(guide_trace)) & set(latent_sites(model_trace))
        log_p = model_trace.log_prob_sum(lambda name, site: name in names)
        log_q = guide_trace.log_prob_sum()
    return float(log_q - log_p) / divisor


def non_finite_sites(model: Program, guide: Program, arguments: Arguments) -> list[str]:
    """Return the names of the sites whose value or log density is not finite."""
    args, kwargs = arguments
    bad: list[str] = []
    with torch.no_grad(), pyro.validation_enabled(False):
        model_trace, guide_trace = run_pair(model, guide, args, kwargs)
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
