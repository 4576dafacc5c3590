# SPDX-License-Identifier: Apache-2.0
"""The posteriors that an autopsy compares: the exact one, the guide, a free q."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch

from pyro_idvae.diagnostics.autopsy.free import FreeNormal
from pyro_idvae.diagnostics.autopsy.free_sites import FreeSites
from pyro_idvae.diagnostics.autopsy.kept import (
    Array,
    Kept,
    closed_ratios,
    guide_log_prob,
    information_kept,
    joint_kept,
    normal_log_prob,
    site_distributions,
    thin,
)
from pyro_idvae.diagnostics.collapse import CollapseReport, report_on
from pyro_idvae.diagnostics.evidence.elbo import elbo_of
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.mixing import mixed, some_rows
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.infer.draws import Draws, draw_guide, evaluated
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.dependence import guide_dependences
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import dry_run, silent
from pyro_idvae.programs.sites import latent_sites, unwrap_masks

FACTORISED, FULL = "factorised Normal for each data point", "full-covariance Normal for each row"


@dataclass(frozen=True)
class Exact:
    """The exact posterior of some rows.

    Attributes:
        report: its collapse report.
        latents: its draws, chains weighed, without rows that cannot be.
        rows: the rows that are kept.
        values: the draws of all rows, chains weighed.
    """

    report: CollapseReport
    latents: Latents
    rows: Array
    values: Values


def exact_posterior(alone: BoundModel, sampling: Sampling, **limits: Any) -> Exact:
    """Sample the exact posterior of a model's latents and report on it."""
    draws = sampling.run(alone)
    draws = draws.with_prior(alone, draws.shape[1]).with_limits(alone)
    latents = Latents.of_draws(alone, draws)
    found = mixed(latents)
    return Exact(report_on(latents, **limits), found.latents, found.rows, draws.weighed(alone))


def guide_draws(bound: BoundModel, alone: BoundModel, number: int) -> Draws:
    """Return draws of a guide with as many of the prior and with its limits."""
    return draw_guide(bound, number).with_prior(alone, number).with_limits(bound)


def kept_by_guide(
    bound: BoundModel, alone: BoundModel, exact: Exact, number: int, own: Latents | None = None
) -> Kept:
    """Return what a guide keeps, its parameters as they are now.

    Args:
        bound: model and guide.
        alone: the model.
        exact: the exact posterior.
        number: draws of the guide.
        own: these draws, if they were drawn before.
    """
    now = copy.copy(bound)
    now.guide_trace = dry_run(bound.model, bound.guide, bound.arguments)[1]
    if own is None:
        own = Latents.of_draws(now, draw_guide(now, number))
    ratios = closed_ratios(alone, site_distributions(now), exact.values, exact.rows)
    thinned = thin(exact.values)
    return Kept.of(
        information_kept(exact.latents, _of_rows(own, exact), ratios),
        joint_kept(alone, guide_log_prob(now, thinned), thinned, exact.rows),
    )


def _of_rows(latents: Latents, exact: Exact) -> Latents:
    return some_rows(latents, exact.rows) if len(exact.rows) < len(latents.points) else latents


def known_jointly(alone: BoundModel, exact: Exact) -> float:
    """Return what a Normal fitted to each row's exact draws keeps of all latents together."""
    if not alone.factorises:
        return float("nan")
    draws = thin(exact.values, 1000)
    with torch.no_grad(), silent(alone.model):
        whole = RowDensity(alone)
        u = whole.flatten(draws, 1)
        log_q = normal_log_prob(u, whole.constrain(u)[1].double())
    return joint_kept(alone, log_q, draws, exact.rows)


@dataclass(frozen=True)
class Free:
    """A freely optimised q of the guide's family, or why there is none.

    Attributes:
        kept: what it keeps.
        family: in words; empty without one.
        reason: why there is none; empty if there is one.
        note: what else to say of it.
        elbo: its ELBO by row; None without one.
    """

    kept: Kept | None
    family: str
    reason: str
    note: str = ""
    elbo: RowEstimate | None = None


def free_q(
    bound: BoundModel, alone: BoundModel, exact: Exact, *, num_steps: int, number: int
) -> Free:
    """Return what the guide's family can hold of the exact posterior without an encoder."""
    if not alone.factorises:
        return Free(None, "", "rows that share latents have no q of their own")
    if any(guide_dependences(bound).values()):
        return Free(
            None,
            "",
            "the guide's sites depend on one another, and what its family can hold is not known",
        )
    sites = {name: unwrap_masks(s["fn"]) for name, s in latent_sites(bound.guide_trace).items()}
    shape = _normal_family(sites, set(alone.latents))
    free: FreeNormal | FreeSites
    distributions: dict[str, Any] = {}
    if shape is not None:
        free = FreeNormal(alone, exact.values, full=shape, num_steps=num_steps)
        family, note = FULL if shape else FACTORISED, ""
    elif set(sites) != set(alone.latents):
        return Free(None, "", "the guide draws helpers whose family is not one of single rows")
    else:
        words = " and ".join(sorted({_name(fn) for fn in sites.values()}))
        try:
            free = FreeSites(bound, alone, exact.values, num_steps=num_steps)
        except (TypeError, NotImplementedError) as error:
            return Free(None, "", f"its family, {words}, cannot be freed row by row ({error})")
        family, note = f"{words} with free arguments for each data point", free.note
        distributions = free.distributions()
    values, log_q = free.sample(number)
    q = evaluated(alone, values, {"log_q": log_q}, independent=True, method="svi")
    drawn = _of_rows(Latents.of_draws(alone, q.with_prior(alone, number)), exact)
    ratios = closed_ratios(alone, distributions, exact.values, exact.rows)
    thinned = thin(exact.values)
    with torch.no_grad():
        joint = joint_kept(alone, free.log_prob(thinned), thinned, exact.rows)
    kept = Kept.of(information_kept(exact.latents, drawn, ratios), joint)
    own = {name: term[0] for part in (q.log_likelihood, q.log_prior) for name, term in part.items()}
    return Free(kept, family, "", note, elbo_of(own, log_q[0]))


def _normal_family(sites: dict[str, Any], latents: set[str]) -> bool | None:
    """Return whether a guide is a Normal with covariances, or without; None if it is none."""
    # Of an autoguide's helpers only those with a density count.
    drawn = [fn for fn in sites.values() if not isinstance(fn, dist.Delta)]
    full = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)
    if drawn and all(isinstance(fn, dist.Normal | dist.LogNormal) for fn in drawn):
        return False
    if len(drawn) == 1 and isinstance(drawn[0], full[:1] if set(sites) == latents else full):
        return True
    return None


def _name(fn: Any) -> str:
    if isinstance(fn, dist.TransformedDistribution):
        return f"{_name(unwrap_masks(fn.base_dist))} under transforms"
    return type(fn).__name__
