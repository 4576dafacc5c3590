# SPDX-License-Identifier: Apache-2.0
"""Has the posterior collapsed to the prior? A verdict for each latent, with confidence limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pyro_idvae._checks import check_real
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.diagnostics.collapse_table import (
    COLLAPSED,
    INFORMATIVE,
    RHAT_LIMIT,
    UNDECIDED,
    CollapseReport,
    holm,
    judge,
)
from pyro_idvae.diagnostics.divergence import LEAST_DRAWS
from pyro_idvae.diagnostics.drawn import DrawKL
from pyro_idvae.diagnostics.ess import LEAST_DRAWS as LEAST_PER_CHAIN
from pyro_idvae.diagnostics.ess import effective_sample_size, split_rhat
from pyro_idvae.diagnostics.joint import JointDivergence, data_dimension, joint_divergence
from pyro_idvae.diagnostics.sites import flat_draws, site_divergence
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
    check_real("epsilon", epsilon, above=0.0)
    check_real("confidence", confidence, above=0.5, below=1.0)
    groups = groups_of(data)
    missing = [group for group in NEEDED if group not in groups]
    if missing:
        raise ArgumentError(
            f"data has the groups {sorted(groups)} but not {missing}: convert draws with "
            "from_guide, from_mcmc or mcmc"
        )
    posterior = groups["posterior"]
    wanted = [var_names] if isinstance(var_names, str) else var_names
    names = [str(name) for name in (posterior.data_vars if wanted is None else wanted)]
    unknown = [name for name in names if name not in posterior]
    if unknown or not names:
        raise ArgumentError(
            f"var_names={var_names!r}: expected some of {sorted(map(str, posterior.data_vars))}"
        )
    chains, each = posterior.sizes["chain"], posterior.sizes["draw"]
    if chains * each < LEAST_DRAWS or each < LEAST_PER_CHAIN:
        raise ArgumentError(
            f"data has {chains} chains of {each} posterior draws: expected at least {LEAST_DRAWS} "
            f"draws, {LEAST_PER_CHAIN} in each chain"
        )
    method = str(posterior.attrs.get("inference_method", "posterior"))
    joint = joint_divergence(groups, guide=method == "svi")
    dim = data_dimension(groups)
    latents = [_measure(groups, name, dim, method) for name in names]
    rhat = np.concatenate([latent.rhat.ravel() for latent in latents])
    table = pd.concat([latent.rows(confidence) for latent in latents])
    table["p_value"] = holm(table["p_value"])
    limits = {"epsilon": epsilon, "confidence": confidence}
    table.insert(4, "verdict", judge(table["kl_upper"], table["p_value"], **limits))
    vector = _vector(joint, **limits)
    return CollapseReport(
        table=table,
        vector=vector,
        per_point=_per_point(joint, latents, posterior, dim),
        verdict=_overall(vector["verdict"], table["verdict"]),
        epsilon=epsilon,
        confidence=confidence,
        method=method,
        worst_rhat=float(np.nanmax(rhat)) if rhat.size else math.nan,
        share_rhat=float((rhat > RHAT_LIMIT).mean()) if rhat.size else 0.0,
        num_points=int(table["data_points"].max()) if any(lat.local for lat in latents) else 0,
    )


def _overall(vector: str, verdicts: pd.Series) -> str:
    if vector == COLLAPSED:
        # No marginal's divergence is above the vector's: one of them is wrong.
        return UNDECIDED if INFORMATIVE in set(verdicts) else COLLAPSED
    return INFORMATIVE if INFORMATIVE in {vector, *verdicts} else vector


def _vector(joint: JointDivergence, *, epsilon: float, confidence: float) -> pd.Series:
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
class _Latent:
    """The figures of one site, arrays of shape (N, K) or (K,); N = 1 for a global one."""

    labels: list[str]
    local: bool
    kl: DrawKL
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
            index=self.labels,
        )


def _labels(array: Any, dim: str | None) -> list[str]:
    shape = [array.sizes[d] for d in array.dims if d not in ("chain", "draw", dim)]
    places = [",".join(map(str, index)) for index in np.ndindex(*shape)]
    return [f"{array.name}[{place}]" if place else str(array.name) for place in places]


def _measure(groups: Mapping[str, xr.Dataset], name: str, dim: str | None, method: str) -> _Latent:
    """Return the figures of a site."""
    array = groups["posterior"][name]
    local = dim is not None and dim in array.dims
    if name not in groups["prior"]:
        raise ArgumentError(f"data has no prior/{name}: convert draws with prior draws")
    values, prior = flat_draws(array, dim), flat_draws(groups["prior"][name], dim)
    if not np.isfinite(values).all() or not np.isfinite(prior).all():
        raise DataError(f"draws of {name!r} are not all finite: look at the sampler")
    independent = method == "svi"
    try:
        kl, aggregate = site_divergence(groups, name, dim, values, prior, independent=independent)
    except (ArgumentError, DataError) as error:
        raise type(error)(f"latent {name!r}: {error}") from error
    values, prior = values.astype(float), prior.astype(float)
    count = values.shape[2]
    size = float(values.shape[0] * values.shape[1])
    ess = np.full(kl.raw.shape, size) if independent else effective_sample_size(values)
    variance, prior_variance = values.var((0, 1)).mean(0), prior.var((0, 1)).mean(0)
    nothing = np.full(kl.raw.shape[1], math.nan)
    known = local and count > 1
    information = np.clip(kl.mean(0).estimate - aggregate, 0.0, math.log(count))
    noise = (values.var((0, 1)) / ess).mean(0)
    spread = values.mean((0, 1)).var(0, ddof=1) if known else nothing
    with np.errstate(divide="ignore", invalid="ignore"):
        contraction = np.where(prior_variance > 0, 1.0 - variance / prior_variance, math.nan)
    return _Latent(
        labels=_labels(array, dim),
        local=local,
        kl=kl,
        active_variance=np.maximum(spread - noise, 0.0),
        contraction=contraction,
        mutual_information=information if known else nothing,
        aggregate_kl=aggregate if known else nothing,
        ess=ess,
        rhat=np.empty(0) if independent else split_rhat(values),
    )


def _per_point(
    joint: JointDivergence, latents: list[_Latent], posterior: xr.Dataset, dim: str | None
) -> xr.Dataset:
    """Return what belongs to single data points."""
    arrays: dict[str, Any] = {}
    local = [latent for latent in latents if latent.local]
    coords: dict[str, Any] = {}
    if local:
        kl = np.concatenate([latent.kl.estimate for latent in local], axis=1)
        error = np.concatenate([np.sqrt(latent.kl.variance) for latent in local], axis=1)
        arrays = {"kl": ((dim, "latent"), kl), "kl_standard_error": ((dim, "latent"), error)}
        coords = {"latent": [label for latent in local for label in latent.labels]}
        coords[str(dim)] = posterior[str(dim)].values
    if joint.per_point:
        if len(joint.points) == len(joint.points_variation):
            arrays["divergence"] = (dim, joint.points)
            arrays["divergence_standard_error"] = (dim, joint.points_error)
        arrays["variation"] = (dim, joint.points_variation)
    return xr.Dataset(arrays, coords=coords)
