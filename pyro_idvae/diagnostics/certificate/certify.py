# SPDX-License-Identifier: Apache-2.0
"""State the information that a model, or a likelihood by itself, is sure to carry."""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_idvae._checks import check_count
from pyro_idvae.diagnostics.certificate.ceiling import ceiling_bound
from pyro_idvae.diagnostics.certificate.estimate import bhattacharyya_bound
from pyro_idvae.diagnostics.certificate.prior import Prior, prior_of, standard_prior
from pyro_idvae.diagnostics.certificate.record import Certificate
from pyro_idvae.diagnostics.certificate.sequences import sequence_certificate
from pyro_idvae.diagnostics.certificate.setting import Setting
from pyro_idvae.distributions import (
    InjectiveLikelihood,
    Likelihood,
    NormalFamily,
    SequenceLikelihood,
)
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.door import check_program, open_model
from pyro_idvae.programs.observed import RowCounts
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sole_likelihood import SoleLikelihood, check_weights, find_sole_likelihood
from pyro_idvae.programs.unchanged import unchanged

FROM_MODEL = "x is drawn from the model: the average is over the model's own p(x), not over data"
EXACT = "the posterior is the exact one: a guide may lose what it likes"


@left_as_found
@unchanged()
def certify(
    model: Program | Likelihood | SequenceLikelihood, x: Any = None, *, num_samples: int = 1000
) -> Certificate:
    r"""State how much information about z a likelihood guarantees, in nats.

    For a Normal likelihood of an injection with bounds (L, M), in units of the noise, the prior
    N(0, I) and n rows of data for one z (n = 1 where z is local to the rows)

    .. math:: \tfrac K2\log(1+nL^2) \le \mathbb E_{p(x)}\mathrm{KL}(p(z|x)\,\|\,p(z))
        \le \tfrac K2\log(1+nM^2)

    Priors of independent coordinates with entropies :math:`h_k` and variances :math:`v_k` have
    :math:`\sum_k\tfrac12\log(1+nL^2e^{2h_k}/2\pi e)` and :math:`\sum_k\tfrac12\log(1+nM^2v_k)`
    instead, a multivariate Normal :math:`\sum_k\tfrac12\log(1+nL^2\lambda_k)` with the eigenvalues
    of its covariance, and likewise with M. Under a mask, n counts the wholly observed rows below
    and the rows with anything observed above: with none of the former the upper limit stands alone.
    Covariates, which shift f, change nothing.

    For other families :math:`I \ge -\mathbb E_z\log\mathbb E_{z'}e^{-nD_B(z,z')}` with the
    Bhattacharyya distance D_B is estimated from draws (Kolchinsky & Tracey 2017); it is a lower
    bound in expectation, at most the logarithm of the number of draws, and an estimate all the
    same. With a ceiling M the parameters of z ~ N(0, I) are bounded, and Bernoulli, binomial,
    Poisson and categorical likelihoods get a proven lower limit beside it, ``guaranteed``: far
    below the estimate, and next to nothing unless M is small. Nothing is cached: the numbers are
    those of the parameters now.

    Sequences are drawn from the likelihood instead, given the lengths of x, for
    :math:`\frac1m\sum_i\log p(x_i|z_i)/\frac1S\sum_jp(x_i|z_j)` (Poole et al. 2019): a lower bound
    in expectation likewise, and at most log S.

    Given a model, it is run on x with z moved near and far, and the certificate is refused unless
    the likelihood is fed with the latent site's value itself and scores an observed site, and
    nothing else depends on z: no factor, no other observation, no covariates, mask, scale or
    number of trials. Data are moved too: mask, covariates and prior must not be made of them.
    Given a likelihood, N(0, I) is assumed, one row, and nothing missing.

    Args:
        model: a Pyro model, or an injective likelihood.
        x: the model's data: a Tensor, or a tuple or dict of its arguments.
        num_samples: draws of z for the estimate.

    Returns:
        A :class:`Certificate`.

    Raises:
        NoCertificateError: if there is none, saying why; also for weights that are not finite.

    Example:
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(8, 2, "normal", rate_window=(1.0, 5.0))
        >>> certificate = idvae.certify(vae.likelihood)
        >>> round(certificate.low, 3), round(certificate.high, 3)
        (1.0, 5.0)
    """
    check_count("num_samples", num_samples, minimum=2)
    if isinstance(model, Likelihood | SequenceLikelihood):
        if x is not None:
            raise ArgumentError("x was given with a likelihood: pass the model with data")
        prior = standard_prior(model.latent_dim)
        alone = Setting(prior, RowCounts(1, 1, False), (f"the prior is {prior.text}",))
        return _certificate(model, alone, num_samples)
    check_program("model", model)
    if x is None:
        raise ArgumentError("x=None: certify a model on its data, or pass its likelihood alone")
    # What weights that are not finite do to distributions is said below, in other words.
    with pyro.validation_enabled(False):
        found = find_sole_likelihood(open_model(model, as_arguments(x, "x"), scored=False))
    prior = prior_of(found.latent)
    setting = Setting(prior, found.rows, _assumptions(found, prior), found.latent, found.options)
    return _certificate(found.likelihood, setting, num_samples)


def _assumptions(found: SoleLikelihood, prior: Prior) -> tuple[str, ...]:
    """Return what a certificate of a model rests on beyond the model's own p(x)."""
    rows = found.rows
    lines = [
        f"the prior is {prior.text}, which was checked",
        f"nothing else depends on z, which {found.num_moves} moves of z near and far did not "
        "contradict",
    ]
    if rows.seen > 1:
        lines.append("x are all rows of data that share one z, independent given z")
    if isinstance(found.likelihood, SequenceLikelihood):
        return tuple(lines)
    if found.likelihood.family.needs_total_count:
        lines.append("the library sizes are given: those of these rows, of which this is the mean")
    if rows.masked:
        lines.append("which entries are missing has nothing to do with z or x")
    if found.likelihood.covariates is not None:
        lines.append("the covariates are given, the same for all z and x")
    return tuple(lines)


def _certificate(likelihood: Any, setting: Setting, num_samples: int) -> Certificate:
    if not likelihood.identifiable:
        raise NoCertificateError(
            f"a {type(likelihood).__name__} is not identifiable: nothing keeps its network from "
            "ignoring z, so nothing is guaranteed; use an injective likelihood"
        )
    bounds = _checked_bounds(likelihood)
    setting = setting._replace(assumptions=(*setting.assumptions, FROM_MODEL, EXACT))
    if isinstance(likelihood, SequenceLikelihood):
        return sequence_certificate(likelihood, setting, bounds, num_samples)
    return _one_observation(likelihood, setting, bounds, num_samples)


def _one_observation(
    likelihood: InjectiveLikelihood,
    setting: Setting,
    bounds: tuple[float, float],
    num_samples: int,
) -> Certificate:
    rows, prior = setting.rows, setting.prior
    high: float | None = None
    per_coordinate: float | None = None
    error, samples, sure, tight = 0.0, 0, None, None
    # By type: a subclass may have another noise.
    certified = type(likelihood.family) is NormalFamily
    if certified:
        factors = math.sqrt(rows.whole) * bounds[0], math.sqrt(rows.seen) * bounds[1]
        low, high, least = prior.nats(factors)
        per_coordinate = least if rows.whole else None
    else:
        _check_estimable(likelihood, setting)
        samples = check_count("num_samples", num_samples, minimum=2)
        like = next(likelihood.injection.parameters(), torch.empty(0))
        z = setting.draws(samples, likelihood.latent_dim, like)
        counts = _total_counts(likelihood, setting)
        one_z = rows.whole if counts is None else 1
        low, error = bhattacharyya_bound(likelihood, z, one_z, counts)
        if prior.standard:
            least = one_z if counts is None else int(counts.min())
            sure = ceiling_bound(likelihood, bounds, least)
            tight = ceiling_bound(likelihood, (bounds[0], bounds[0]), least)
    capped = likelihood.family.capped_rates()
    return Certificate(
        kind="certificate" if certified else "estimate",
        family=likelihood.family.name,
        latent_dim=likelihood.latent_dim,
        lipschitz_bounds=bounds,
        low=low,
        high=high,
        low_per_coordinate=per_coordinate,
        standard_error=error,
        num_samples=samples,
        assumptions=setting.assumptions,
        rows=(rows.whole, rows.seen),
        guaranteed=None if sure is None else sure.nats,
        guaranteed_at_most=None if tight is None else tight.nats,
        capped_share=None if capped is None else float(capped.float().mean()),
    )


def _checked_bounds(likelihood: Any) -> tuple[float, float]:
    check_weights(likelihood)
    low, high = likelihood.lipschitz_bounds()
    # Maps of contexts may be without a ceiling, and the estimate asks for none.
    unbounded = isinstance(likelihood, SequenceLikelihood) and high == math.inf
    if not (0 < low <= high < math.inf or unbounded):
        raise NoCertificateError(
            f"(L, M) = ({low:g}, {high:g}): the likelihood's weights are finite but what is made "
            "of them is beyond floating point; use smaller ones, or double precision"
        )
    return low, high


def _check_estimable(likelihood: InjectiveLikelihood, setting: Setting) -> None:
    """Raise unless the Bhattacharyya bound of one row, times their number, is that of the model."""
    name = likelihood.family.name
    if likelihood.covariates is not None:
        raise NoCertificateError(
            f"a {name} likelihood with covariates carries another amount at each value of them: "
            "certify it without"
        )
    if setting.rows.whole == 0:
        raise NoCertificateError(
            f"entries are missing, and a {name} likelihood has no upper limit that would stand "
            "alone: certify it on rows with nothing missing"
        )
    if not setting.prior.same_for_all:
        raise NoCertificateError(
            f"the prior differs from row to row, and so does what a {name} likelihood carries: "
            "certify it on rows of one prior"
        )


def _total_counts(likelihood: InjectiveLikelihood, setting: Setting) -> Tensor | None:
    """Return how many draws the data of each z are; None where the likelihood knows it itself."""
    family, total = likelihood.family, setting.options.get("total_count")
    if not family.needs_total_count:
        own: Any = getattr(family, "total_count", None)
        if total is not None and (own is None or bool((torch.as_tensor(total) != own).any())):
            raise NoCertificateError(
                f"total_count is given with the call, and is not the {own} of the likelihood: what "
                "it carries differs with it; give it to the likelihood's constructor"
            )
        return None
    if total is None:
        raise NoCertificateError(
            f"what a {family.name} likelihood carries grows with the library size, which it has "
            "not alone: certify a model on its data"
        )
    rows = setting.latent["value"].shape[:-1].numel()
    sizes = torch.as_tensor(total).detach().reshape(-1)
    if len(sizes) == 1:
        sizes = sizes.expand(rows * setting.rows.whole)
    if rows == 1:
        return sizes.sum().reshape(1)
    if len(sizes) != rows:
        raise NoCertificateError(
            f"{rows} latents and {len(sizes)} library sizes: which rows share a z is not known "
            "here; certify the model on the rows of one z"
        )
    return sizes
