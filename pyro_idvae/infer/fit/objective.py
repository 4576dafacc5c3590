# SPDX-License-Identifier: Apache-2.0
"""What the fit loop needs to know of an objective: which one, its state, and culprits."""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.elbo import ELBO
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.enumerated import DRAWING
from pyro_idvae.infer.objectives.annealed import Annealed
from pyro_idvae.infer.objectives.objective import options_of
from pyro_idvae.infer.objectives.schedules import Linear
from pyro_idvae.infer.objectives.table import make_objective
from pyro_idvae.infer.objectives.weighted import innermost
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program, evaluating, run_pair, undisturbed
from pyro_idvae.programs.sites import latent_sites, observed_sites


def chosen(elbo: Any, objective: Any, kl_warmup: int) -> Any:
    """Return what is minimised: an ELBO of Pyro's, a remedy, or one of them under a KL warm-up.

    Raises:
        ArgumentError: for both at once, what is neither, or two schedules of the KL's weight.
    """
    if objective is not None and elbo is not None:
        name = objective if isinstance(objective, str) else type(objective).__name__
        raise ArgumentError(
            f"elbo={type(elbo).__name__} with objective={name!r}: leave one out; 'beta' and "
            "'annealed' weight any ELBO: objective=make_objective('beta', elbo=...)"
        )
    if isinstance(objective, str):
        objective = make_objective(objective)
    elif objective is not None:
        check_elbo(objective, "objective")
    else:
        objective = Trace_ELBO() if elbo is None else elbo
        check_elbo(objective)
    if not kl_warmup:
        return objective
    if isinstance(objective, Annealed):
        raise ArgumentError(
            f"kl_warmup={kl_warmup} with an Annealed objective: both are schedules of the KL's "
            "weight; leave one of them out"
        )
    return Annealed(Linear(kl_warmup), unit="epochs", elbo=objective)


def check_elbo(elbo: Any, name: str = "elbo") -> None:
    """Raise unless something is an objective: an object with ``loss`` and ``loss_and_grads``.

    Args:
        elbo: what was given for it.
        name: of the argument.
    """
    if isinstance(elbo, type):
        raise ArgumentError(
            f"{name} is the class {elbo.__name__}: pass an instance, {elbo.__name__}()"
        )
    if isinstance(elbo, ELBO):
        return
    if not all(callable(getattr(elbo, part, None)) for part in ("loss", "loss_and_grads")):
        raise ArgumentError(
            f"{name}={elbo!r:.60}: expected a Pyro ELBO, e.g. pyro.infer.Trace_ELBO()"
        )


def prepare(elbo: Any, model: Program, guide: Program, arguments: Arguments) -> None:
    """Let an ELBO find out before the first step what it would then find out by a run.

    A fit that goes on in another process has another ELBO: its first step must draw as many random
    numbers as any other.
    """
    elbo = innermost(elbo)
    only_draws = isinstance(elbo, DRAWING) and not elbo.vectorize_particles
    if getattr(elbo, "max_plate_nesting", None) == math.inf and not only_draws:
        with torch.no_grad(), poutine.block(), undisturbed(arguments), evaluating(model, guide):
            _upstream.guess_plate_nesting(elbo, model, guide, *arguments)


def objective_state(elbo: Any) -> dict[str, Any]:
    """Return what an objective keeps from step to step: its own state, and means in the store."""
    store = pyro.get_param_store()
    means = {name: store[name] for name in store if _upstream.is_baseline(name)}
    own = elbo.state_dict() if hasattr(elbo, "state_dict") else None
    return {"means": means, "own": own, "kind": _kind(elbo)}


def _kind(elbo: Any) -> str:
    return " of ".join(dict.fromkeys(type(part).__name__ for part in (elbo, innermost(elbo))))


def check_objective(elbo: Any, state: dict[str, Any], where: str) -> None:
    """Raise unless an objective can go on from what another one, or it, has kept.

    Args:
        elbo: the objective.
        state: by :func:`objective_state`; that of older versions does not say its kind.
        where: what to call its place.
    """
    stored = state.get("kind", _kind(elbo))
    if state["own"] is not None and stored != _kind(elbo):
        raise ArgumentError(
            f"{where} was trained with the objective {stored}, which keeps a state of its own, "
            f"this is {_kind(elbo)}: pass the same objective, and kl_warmup if there was one, or "
            "fit without resume"
        )


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
    """Return what an objective is: its class and its options that are numbers or words."""
    return f"{type(elbo).__name__} {options_of(elbo)}"


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
