# SPDX-License-Identifier: Apache-2.0
"""Has the posterior collapsed to the prior? A verdict for each latent, with confidence limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pyro_idvae._checks import check_list, check_real
from pyro_idvae.diagnostics.collapse.figures import figures_of
from pyro_idvae.diagnostics.collapse.measures import Measured
from pyro_idvae.diagnostics.collapse.pairs import dependence, labels_of, strong_pairs
from pyro_idvae.diagnostics.collapse.table import ChainAgreement, CollapseReport
from pyro_idvae.diagnostics.collapse.vector import VectorDivergence
from pyro_idvae.diagnostics.collapse.verdicts import (
    COLLAPSED,
    INFORMATIVE,
    JOINT,
    UNDECIDED,
    Level,
    add_limits,
    judge,
    judge_directions,
    judge_vector,
)
from pyro_idvae.diagnostics.estimators import LEAST_DRAWS, LEAST_PER_CHAIN, holm
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.mixing import Mixed
from pyro_idvae.diagnostics.parts import Parts
from pyro_idvae.errors import ArgumentError

NEEDED = ("posterior", "prior", "log_likelihood", "sample_stats_prior")


def collapse_report(
    data: Any,
    *,
    epsilon: float = 0.05,
    confidence: float = 0.95,
    var_names: Sequence[str] | None = None,
) -> CollapseReport:
    r"""Tell which latents have collapsed, which are informative, and what is undecided.

    *All latents together*: for exact draws the mean over data points of

    .. math:: J(x) = \mathbb E_{p(z|x)}\log p(x|z) - \mathbb E_{p(z)}\log p(x|z)

    which is KL(p(z|x) ‖ p(z)) plus the reverse, 0 exactly where the likelihood is constant, and
    above the KL of every marginal; the sum over data if a latent is global. For a guide's draws,
    KL(q ‖ p) instead. *Each dimension*: KL to the prior, data point by data point, then averaged;
    draws are never pooled over data points, as a correct model has E_x p(z|x) = p(z) however much
    it has learned. The estimand is the mean over the given data points.

    A latent is *collapsed* if an upper limit lies below ε that is a limit: of

    .. math:: \mathbb E_{p(z_{-k}|x)}\bigl[\mathrm{KL}(p(z_k|z_{-k},x)\,\|\,p(z_k))
        + \mathrm{KL}(p(z_k)\,\|\,p(z_k|z_{-k},x))\bigr]

    which the sampler stores with its draws, or of all latents together, which bounds every
    marginal. This is an equivalence test: failing to find a difference proves nothing. ``kl`` is
    fitted to the draws, and what it does not see, such as a narrow spike, has no place in its own
    upper limit. A latent that is not collapsed is *joint* if its fit is below ε and its draws
    depend on others: the data say something of it only together with those. It is *informative* if
    KL = 0 is rejected (after Holm's correction), with 100 effective draws or more and an R-hat of
    1.05 or less; else *undecided*, and the column ``why`` says so. Each limit is one-sided at the
    confidence; autocorrelation counts through effective sample sizes.

    Chains of a row that disagree count by the masses of their modes, where the sampler has stored
    them; other such rows are left out of all means. Above 5 % of them everything is undecided, as
    what is left would be a selection.

    Args:
        data: ArviZ data of :func:`from_guide`, :func:`from_mcmc` or :func:`mcmc`.
        epsilon: nats below which a divergence counts as none.
        confidence: of each one-sided limit, above .5.
        var_names: latent sites for the table; all if None. The vector is always the whole one.

    Returns:
        A :class:`CollapseReport`.

    Raises:
        ArgumentError: for missing groups, an unknown site, limits out of range, or fewer than 20
            draws of posterior or prior.
        DataError: for draws that are not finite or do not move.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> draws = idvae.from_guide(vae.model, vae.guide, torch.randn(3, 5), num_samples=100)
        >>> report = idvae.collapse_report(draws)
        >>> list(report.table.index)
        ['latent[0]', 'latent[1]']

    Reference:
        Wang, Blei & Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*,
        NeurIPS 2021. Hoffman & Johnson, *ELBO surgery*, 2016.
    """
    parts = Parts.of(data)
    groups = next(iter(parts)).groups
    missing = [group for group in NEEDED if group not in groups]
    if missing:
        raise ArgumentError(
            f"data has the groups {list(groups)} but not {missing}: convert draws with "
            "from_guide, from_mcmc or mcmc"
        )
    return report_on(parts, epsilon=epsilon, confidence=confidence, var_names=var_names)


def report_on(
    draws: Latents | Parts,
    *,
    epsilon: float,
    confidence: float,
    var_names: Sequence[str] | None = None,
) -> CollapseReport:
    """Return the report on draws in plain arrays; see :func:`collapse_report`."""
    parts = draws if isinstance(draws, Parts) else Parts.held([draws])
    check_real("epsilon", epsilon, above=0.0)
    check_real("confidence", confidence, above=0.5, below=1.0)
    wanted = [var_names] if isinstance(var_names, str) else var_names
    latents = next(iter(parts))
    names = latents.names if wanted is None else check_list("var_names", wanted, "names of sites")
    if not names or any(name not in latents.sites for name in names):
        raise ArgumentError(f"var_names={var_names!r}: expected some of {sorted(latents.names)}")
    chains, each = latents.shape
    if chains * each < LEAST_DRAWS or each < LEAST_PER_CHAIN:
        raise ArgumentError(
            f"data has {chains} chains of {each} posterior draws: expected at least {LEAST_DRAWS} "
            f"draws, {LEAST_PER_CHAIN} in each chain"
        )
    level = Level(epsilon, confidence)
    figures = figures_of(parts, names)
    found, joint, measured = figures.found, figures.joint, figures.sites
    table = pd.concat([part.rows(epsilon, confidence) for part in measured])
    table["p_value"] = holm(table["p_value"])
    vector = _vector(joint, found, level)
    add_limits(table, found.latents, vector, level)
    labels = labels_of(found.latents, names)
    depends = dependence(labels, figures.draws, float(table["ess"].median()))
    judge(table, found, depends.whole, vector, level)
    if vector["verdict"] == UNDECIDED and table["verdict"].isin([INFORMATIVE, JOINT]).any():
        # What a latent is known to carry, all of them together carry.
        vector["verdict"], vector["why"] = INFORMATIVE, ""
    dead = table.index[table["verdict"] == COLLAPSED].tolist()
    local = any(part.latent.local for part in measured)
    return CollapseReport(
        table=table,
        vector=vector,
        directions=judge_directions(found.latents.directions, dead, level),
        pairs=strong_pairs(depends),
        per_point=per_point(joint, measured, found.latents),
        verdict=str(vector["verdict"]),
        epsilon=epsilon,
        confidence=confidence,
        method="posterior" if latents.method is None else latents.method,
        chains=ChainAgreement.of(found, figures.num_rows),
        num_points=int(table["data_points"].max()) if local else 0,
        independent=latents.independent,
        complete=latents.complete,
    )


def _vector(joint: VectorDivergence, found: Mixed, level: Level) -> pd.Series:
    verdict, why, lower, upper = judge_vector(joint, found, level)
    return pd.Series(
        {
            "quantity": joint.quantity,
            "estimate": joint.estimate,
            "standard_error": joint.standard_error,
            "lower": lower,
            "upper": upper,
            "variation": joint.variation,
            "heavy_tails": joint.heavy,
            "per_point": joint.per_point,
            "verdict": verdict,
            "why": why,
        },
        name="all latents",
    )


def per_point(
    joint: VectorDivergence, measured: Sequence[Measured], latents: Latents
) -> xr.Dataset:
    """Return what belongs to single data points."""
    arrays: dict[str, Any] = {}
    local = [found for found in measured if found.latent.local]
    coords: dict[str, Any] = {}
    dim = latents.data_dim
    if local:
        kl = np.concatenate([found.kl.estimate for found in local], axis=1)
        error = np.concatenate([np.sqrt(found.kl.variance) for found in local], axis=1)
        arrays = {"kl": ((dim, "latent"), kl), "kl_standard_error": ((dim, "latent"), error)}
        coords = {"latent": [label for found in local for label in found.latent.labels]}
        coords[str(dim)] = latents.points
    if joint.per_point:
        if len(joint.points) == len(joint.points_variation):
            arrays["divergence"] = (dim, joint.points)
            arrays["divergence_standard_error"] = (dim, joint.points_error)
        arrays["variation"] = (dim, joint.points_variation)
    return xr.Dataset(arrays, coords=coords)
