# SPDX-License-Identifier: Apache-2.0
"""Has the posterior collapsed to the prior? A verdict for each latent, with confidence limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pyro_idvae._checks import check_real
from pyro_idvae.diagnostics.collapse.latent_kl import latent_kl, prior_of
from pyro_idvae.diagnostics.collapse.table import (
    COLLAPSED,
    INFORMATIVE,
    RHAT_LIMIT,
    UNDECIDED,
    CollapseReport,
    judge,
)
from pyro_idvae.diagnostics.collapse.vector import VectorDivergence, vector_divergence
from pyro_idvae.diagnostics.estimators import (
    LEAST_DRAWS,
    LEAST_PER_CHAIN,
    KLEstimate,
    effective_sample_size,
    holm,
    split_rhat,
)
from pyro_idvae.diagnostics.latents import Latent, Latents
from pyro_idvae.errors import ArgumentError, DataError

Array = np.ndarray[Any, Any]

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

    A row is *collapsed* if the upper limit lies below ε (an equivalence test: failing to find a
    difference proves nothing); else *informative* if KL = 0 is rejected (for dimensions after
    Holm's correction); else *undecided*. A tiny KL may be both significant and below ε: it is
    collapsed. Each limit is one-sided at the confidence; autocorrelation counts through effective
    sample sizes.

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
    latents = Latents.of(data)
    missing = [group for group in NEEDED if group not in latents.groups]
    if missing:
        raise ArgumentError(
            f"data has the groups {list(latents.groups)} but not {missing}: convert draws with "
            "from_guide, from_mcmc or mcmc"
        )
    return report_on(latents, epsilon=epsilon, confidence=confidence, var_names=var_names)


def report_on(
    latents: Latents,
    *,
    epsilon: float,
    confidence: float,
    var_names: Sequence[str] | None = None,
) -> CollapseReport:
    """Return the report on draws in plain arrays; see :func:`collapse_report`."""
    check_real("epsilon", epsilon, above=0.0)
    check_real("confidence", confidence, above=0.5, below=1.0)
    wanted = [var_names] if isinstance(var_names, str) else var_names
    names = latents.names if wanted is None else list(wanted)
    if not names or any(name not in latents.sites for name in names):
        raise ArgumentError(f"var_names={var_names!r}: expected some of {sorted(latents.names)}")
    chains, each = latents.shape
    if chains * each < LEAST_DRAWS or each < LEAST_PER_CHAIN:
        raise ArgumentError(
            f"data has {chains} chains of {each} posterior draws: expected at least {LEAST_DRAWS} "
            f"draws, {LEAST_PER_CHAIN} in each chain"
        )
    joint = vector_divergence(latents)
    measured = [_measure(latents.sites[name], latents.independent) for name in names]
    rhat = np.concatenate([found.rhat.ravel() for found in measured])
    table = pd.concat([found.rows(confidence) for found in measured])
    table["p_value"] = holm(table["p_value"])
    limits = {"epsilon": epsilon, "confidence": confidence}
    table.insert(4, "verdict", judge(table["kl_upper"], table["p_value"], **limits))
    vector = _vector(joint, **limits)
    local = any(found.latent.local for found in measured)
    return CollapseReport(
        table=table,
        vector=vector,
        per_point=_per_point(joint, measured, latents),
        verdict=_overall(vector["verdict"], table["verdict"]),
        epsilon=epsilon,
        confidence=confidence,
        method="posterior" if latents.method is None else latents.method,
        worst_rhat=float(np.nanmax(rhat)) if rhat.size else math.nan,
        share_rhat=float((rhat > RHAT_LIMIT).mean()) if rhat.size else 0.0,
        num_points=int(table["data_points"].max()) if local else 0,
        independent=latents.independent,
    )


def _overall(vector: str, verdicts: pd.Series) -> str:
    if vector == COLLAPSED:
        # No marginal's divergence is above the vector's: one of them is wrong.
        return UNDECIDED if INFORMATIVE in set(verdicts) else COLLAPSED
    return INFORMATIVE if INFORMATIVE in {vector, *verdicts} else vector


def _vector(joint: VectorDivergence, *, epsilon: float, confidence: float) -> pd.Series:
    lower, upper = joint.limits(confidence)
    # The lower limit is above 0 exactly where the test of 0 rejects.
    verdict = judge(upper, 0.0 if lower > 0 else 1.0, epsilon=epsilon, confidence=confidence)
    return pd.Series(
        {
            "quantity": joint.quantity,
            "estimate": joint.estimate,
            "standard_error": joint.standard_error,
            "lower": lower,
            "upper": upper,
            "variation": joint.variation,
            "per_point": joint.per_point,
            "verdict": str(verdict),
        },
        name="all latents",
    )


@dataclass(frozen=True)
class _Measured:
    """The figures of one site, arrays of shape (N, K) or (K,); N = 1 for a global one."""

    latent: Latent
    kl: KLEstimate
    active_variance: Array
    contraction: Array
    mutual_information: Array
    aggregate_kl: Array
    ess: Array
    rhat: Array

    def rows(self, confidence: float) -> pd.DataFrame:
        mean = self.kl.mean(0)
        return pd.DataFrame(
            {
                "kl": mean.estimate,
                "kl_lower": mean.lower(confidence),
                "kl_upper": mean.upper(confidence),
                "p_value": mean.p_value(),
                "active_variance": self.active_variance,
                "contraction": self.contraction,
                "mutual_information": self.mutual_information,
                "aggregate_kl": self.aggregate_kl,
                "ess": np.median(self.ess, axis=0),
                "data_points": self.kl.raw.shape[0],
            },
            index=list(self.latent.labels),
        )


def _measure(latent: Latent, independent: bool) -> _Measured:
    """Return the figures of a site."""
    values, prior = latent.values, prior_of(latent)
    if not np.isfinite(values).all() or not np.isfinite(prior).all():
        raise DataError(f"draws of {latent.name!r} are not all finite: look at the sampler")
    try:
        kl, aggregate = latent_kl(latent, independent=independent)
    except (ArgumentError, DataError) as error:
        raise type(error)(f"latent {latent.name!r}: {error}") from error
    values, prior = values.astype(float), prior.astype(float)
    count = values.shape[2]
    size = float(values.shape[0] * values.shape[1])
    ess = np.full(kl.raw.shape, size) if independent else effective_sample_size(values)
    variance, prior_variance = values.var((0, 1)).mean(0), prior.var((0, 1)).mean(0)
    nothing = np.full(kl.raw.shape[1], math.nan)
    known = latent.local and count > 1
    information = np.clip(kl.mean(0).estimate - aggregate, 0.0, math.log(count))
    noise = (values.var((0, 1)) / ess).mean(0)
    spread = values.mean((0, 1)).var(0, ddof=1) if known else nothing
    with np.errstate(divide="ignore", invalid="ignore"):
        contraction = np.where(prior_variance > 0, 1.0 - variance / prior_variance, math.nan)
    return _Measured(
        latent=latent,
        kl=kl,
        active_variance=np.maximum(spread - noise, 0.0),
        contraction=contraction,
        mutual_information=information if known else nothing,
        aggregate_kl=aggregate if known else nothing,
        ess=ess,
        rhat=np.empty(0) if independent else split_rhat(values),
    )


def _per_point(joint: VectorDivergence, measured: list[_Measured], latents: Latents) -> xr.Dataset:
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
