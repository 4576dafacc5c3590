# SPDX-License-Identifier: Apache-2.0
"""The posteriors that an autopsy compares: the exact one, the guide, a free q."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyro.distributions as dist
import torch

from pyro_idvae.diagnostics.autopsy.case import Case, Exact
from pyro_idvae.diagnostics.autopsy.free import FreeNormal
from pyro_idvae.diagnostics.autopsy.free_sites import FreeSites
from pyro_idvae.diagnostics.autopsy.kept import (
    Array,
    Kept,
    KeptRows,
    closed_ratios,
    guide_log_prob,
    information_kept,
    joint_kept,
    normal_log_prob,
    site_distributions,
    thin,
)
from pyro_idvae.diagnostics.evidence.elbo import elbo_of
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.mixing import some_rows
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.infer.draws import draw_guide, evaluated
from pyro_idvae.programs.dependence import guide_dependences
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import dry_run, silent
from pyro_idvae.programs.sites import latent_sites, unwrap_masks

FACTORISED, FULL = "factorised Normal for each data point", "full-covariance Normal for each row"


def guide_draws(part: Case, number: int) -> Latents:
    """Return draws of a guide with as many of the prior and with its limits."""
    drawn = draw_guide(part.bound, number).with_prior(part.alone, number).with_limits(part.bound)
    return Latents.of_draws(part.bound, drawn)


def kept_by_guide(part: Case, own: Latents | None = None, *, number: int) -> KeptRows:
    """Return what a guide keeps in each row, its parameters as they are now.

    Args:
        part: the rows.
        own: draws of the guide, if it was drawn from before.
        number: draws of the guide.
    """
    exact = part.exact
    now = copy.copy(part.bound)
    now.guide_trace = dry_run(now.model, now.guide, now.arguments)[1]
    if own is None:
        own = Latents.of_draws(now, draw_guide(now, number))
    ratios = closed_ratios(part.alone, site_distributions(now), exact.values, exact.rows)
    thinned = thin(exact.values)
    joint = joint_kept(part.alone, guide_log_prob(now, thinned), thinned, exact.rows)
    return KeptRows(information_kept(exact.latents, _of_rows(own, exact), ratios), joint)


def _of_rows(latents: Latents, exact: Exact) -> Latents:
    return some_rows(latents, exact.rows) if len(exact.rows) < len(latents.points) else latents


def known_jointly(part: Case) -> Array | None:
    """Return what a Normal fitted to each row's exact draws keeps of all latents together."""
    alone, exact = part.alone, part.exact
    if not alone.factorises:
        return None
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
        kept: what it keeps in each row; None without one.
        family: in words; empty without one.
        reason: why there is none; empty if there is one.
        note: what else to say of it.
        elbo: its ELBO by row; None without one.
    """

    kept: KeptRows | None
    family: str
    reason: str
    note: str = ""
    elbo: RowEstimate | None = None

    @classmethod
    def join(cls, parts: Sequence[Free]) -> tuple[Free, Kept | None]:
        """Return what is to be said of all parts of the rows, and what they keep."""
        kept = [part.kept for part in parts if part.kept is not None]
        elbos = [part.elbo for part in parts if part.elbo is not None]
        if len(kept) < len(parts):
            return next(part for part in parts if part.kept is None), None
        elbo = RowEstimate.join(elbos) if len(elbos) == len(parts) else None
        return replace(parts[0], elbo=elbo), Kept.of(kept)


def free_q(part: Case, *, num_steps: int, number: int) -> Free:
    """Return what the guide's family can hold of the exact posterior without an encoder."""
    bound, alone, exact = part.bound, part.alone, part.exact
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
    kept = KeptRows(information_kept(exact.latents, drawn, ratios), joint)
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
