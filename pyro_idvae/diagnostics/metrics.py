# SPDX-License-Identifier: Apache-2.0
"""First numbers to look at: KL to the prior by dimension, active units, held-out likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from tqdm.auto import tqdm

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.arviz_io import pareto_k
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.infer.batches import TensorBatches, as_arguments
from pyro_idvae.infer.draws import Layout, guide_draws
from pyro_idvae.infer.parameters import Program, latent_sites, run_pair
from pyro_idvae.infer.plates import check_amortised


def _site_name(layout: Layout, site: str | None) -> str:
    if site is None and len(layout.latents) == 1:
        return layout.latents[0]
    if site not in layout.latents:
        raise ArgumentError(f"site={site!r}: expected one of the latent sites {layout.latents}")
    return site


def _unwrap(distribution: Any) -> Any:
    while isinstance(
        distribution,
        (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution),
    ):
        distribution = distribution.base_dist
    return distribution


def _normal_marginals(trace: Any, name: str) -> tuple[Tensor, Tensor] | None:
    """Return means and standard deviations of a site's coordinates if they are Normal."""
    base = _unwrap(trace.nodes[name]["fn"])
    helper = trace.nodes.get(f"{name}_unconstrained")
    if isinstance(base, dist.Delta) and helper is not None:
        # An AutoNormal guide: Normal on the unconstrained scale, which for real sites is the site.
        base = _unwrap(helper["fn"])
    shape = trace.nodes[name]["value"].shape
    if isinstance(base, dist.Normal):
        return base.loc.expand(shape), base.scale.expand(shape)
    if isinstance(base, dist.MultivariateNormal):
        return base.loc.expand(shape), base.variance.sqrt().expand(shape)
    return None


def _marginals(layout: Layout, name: str) -> tuple[Any, Any, int]:
    """Return Normal marginals of guide and prior (None if not Normal) and the data dimension.

    A site whose parameters move when the other latents are drawn anew has conditionals, no
    marginals.
    """
    args, kwargs = layout.arguments
    found = []
    for _ in range(2):
        with torch.no_grad(), layout.running():
            model_trace, guide_trace = run_pair(layout.model, layout.guide, args, kwargs)
        found.append([_normal_marginals(trace, name) for trace in (guide_trace, model_trace)])
    for first, second in zip(*found, strict=True):
        same = first is None or all(
            torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(first, second, strict=True)
        )
        if not same:
            raise NoCertificateError(
                f"the site {name!r} depends on other latents or on noise such as dropout: its "
                "distribution in guide or model is a conditional one, and its marginal has no "
                "closed form"
            )
    dim = layout.frame_dim(layout.trace.nodes[name])
    if dim is None:
        raise ArgumentError(f"the site {name!r} is not in the data plate: it is one for all rows")
    posterior, prior = found[0]
    return posterior, prior, dim - len(layout.trace.nodes[name]["fn"].event_shape)


def kl_to_prior(model: Program, guide: Program, data: Any, *, site: str | None = None) -> Tensor:
    r"""Return KL(q(z_k|x) ‖ p(z_k)) for each data point and latent dimension, in nats.

    .. math:: \log\frac{s_0}{s} + \frac{s^2 + (m - m_0)^2}{2 s_0^2} - \frac12

    for Normal marginals of guide and prior, a full-covariance guide included. Each is a lower bound
    of the vector's KL; their sum equals it when guide and prior both factorise.

    Args:
        model: the model.
        guide: its guide.
        data: a Tensor, or a tuple or dict of the model's arguments.
        site: name of the latent site, if there are several.

    Returns:
        A tensor of the site's shape, rows first: ``(rows, latent_dim)`` for a VAE.

    Raises:
        NoCertificateError: if the marginals are not Normal, or conditional on other latents.
        ArgumentError: for a latent outside the data plate.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> idvae.kl_to_prior(vae.model, vae.guide, torch.randn(7, 5)).shape
        torch.Size([7, 2])
    """
    layout = Layout(model, guide, as_arguments(data))
    name = _site_name(layout, site)
    posterior, prior, dim = _marginals(layout, name)
    prior_fn = layout.trace.nodes[name]["fn"]
    if posterior is None or prior is None or not _is_real(prior_fn.support):
        raise NoCertificateError(
            f"the KL of the site {name!r} has no closed form: guide and prior must both be Normal, "
            f"and the prior is a {type(_unwrap(prior_fn)).__name__}, the guide "
            f"{'Normal' if posterior is not None else 'not Normal'}"
        )
    (loc, scale), (prior_loc, prior_scale) = posterior, prior
    ratio = (scale.square() + (loc - prior_loc).square()) / (2 * prior_scale.square())
    kl: Tensor = (prior_scale / scale).log() + ratio - 0.5
    return kl.movedim(dim, 0)


def _is_real(support: Any) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.real


def active_units(
    model: Program,
    guide: Program,
    data: Any,
    *,
    threshold: float = 0.01,
    num_samples: int = 100,
    site: str | None = None,
) -> Tensor:
    r"""Tell which latent dimensions move with the data: Var_x(E_q[z_k|x]) > threshold.

    Posterior means are exact for Normal guides; for others the mean of draws stands in, and the
    variance that their noise adds is subtracted.

    Args:
        model: the model.
        guide: its guide.
        data: a Tensor, or a tuple or dict of the model's arguments; at least two rows.
        threshold: smallest variance of an active unit.
        num_samples: draws, for guides that are not Normal.
        site: name of the latent site, if there are several.

    Returns:
        A boolean tensor of shape ``(latent_dim,)``.

    Raises:
        ArgumentError: for fewer than two rows, or a latent outside the data plate.
        NoCertificateError: for a latent conditional on others.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> idvae.active_units(vae.model, vae.guide, torch.randn(7, 5)).shape
        torch.Size([2])

    Reference:
        Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016.
    """
    check_real("threshold", threshold, above=0.0)
    layout = Layout(model, guide, as_arguments(data))
    if layout.rows < 2:
        raise ArgumentError("data has 1 row: active units need the variance over at least two")
    name = _site_name(layout, site)
    check_count("num_samples", num_samples, minimum=2)
    marginals, _, dim = _marginals(layout, name)
    if marginals is not None:
        means: Tensor = marginals[0].movedim(dim, 0)
        return means.var(0) > threshold
    with torch.no_grad(), layout.running():
        draws = torch.stack([layout.draw_guide()[0][name] for _ in range(num_samples)])
    draws = draws.movedim(dim, 1)
    noise = draws.var(0).mean(0) / num_samples
    return draws.mean(0).var(0) - noise > threshold


def _check_density(layout: Layout) -> None:
    """Raise unless the guide has a density over the model's latents and nothing else.

    Autoguides have Delta sites computed from auxiliary ones, whose density they carry.
    """
    args, kwargs = layout.arguments
    with torch.no_grad(), layout.running():
        sites = latent_sites(run_pair(layout.model, layout.guide, args, kwargs)[1])
    helpers = [name for name, site in sites.items() if site["infer"].get("is_auxiliary")]
    points = [n for n in layout.latents if isinstance(_unwrap(sites[n]["fn"]), dist.Delta)]
    if points and not helpers:
        raise ArgumentError(
            f"the guide is a point at the sites {points}: it has no density to weight draws by"
        )
    if helpers and len(points) < len(layout.latents):
        raise ArgumentError(
            f"the guide has the auxiliary sites {helpers}, which the model lacks: their density "
            "would be counted on one side only"
        )


@dataclass(frozen=True)
class ImportanceEstimate:
    """Held-out log-likelihoods by importance sampling, in nats.

    Attributes:
        log_likelihood: estimate of log p(x) for each data point; biased downwards.
        pareto_k: tail index of each data point's weights; above 0.7 its estimate is not reliable.
        num_samples: draws from the guide.
    """

    log_likelihood: np.ndarray[Any, Any]
    pareto_k: np.ndarray[Any, Any]
    num_samples: int

    @property
    def mean(self) -> float:
        """Mean over the data points."""
        return float(self.log_likelihood.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the data points."""
        return float(self.log_likelihood.std(ddof=1) / math.sqrt(len(self.log_likelihood)))


def importance_log_likelihood(
    model: Program,
    guide: Program,
    data: Any,
    *,
    num_samples: int = 1000,
    batch_size: int | None = None,
    progress: bool = False,
) -> ImportanceEstimate:
    r"""Estimate log p(x) for each data point by importance sampling from the guide.

    .. math:: \log\frac1S\sum_{s=1}^S \frac{p(x|z_s)\,p(z_s)}{q(z_s|x)},\qquad z_s \sim q(z|x)

    The average over draws is taken inside the logarithm, data point by data point.

    Args:
        model: the model.
        guide: its guide; it must factorise over the data plate.
        data: a Tensor, or a tuple or dict of the model's arguments.
        num_samples: draws S.
        batch_size: rows at a time, to save memory; None for all. Needs an amortised guide.
        progress: show a progress bar.

    Returns:
        An :class:`ImportanceEstimate`.

    Raises:
        ArgumentError: if the guide's density does not factorise over the data, or is over other
            variables than the model's latents.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(7, 5)
        >>> estimate = idvae.importance_log_likelihood(vae.model, vae.guide, x, num_samples=50)
        >>> estimate.log_likelihood.shape, estimate.pareto_k.shape
        ((7,), (7,))

    Reference:
        Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016; Vehtari et
        al., *Pareto Smoothed Importance Sampling*, JMLR 2024.
    """
    check_count("num_samples", num_samples, minimum=2)
    batches = TensorBatches(as_arguments(data), batch_size)
    if batches.batch_size < batches.num_rows:
        check_amortised(model, guide, batches.arguments)
    values, shapes = [], []
    bar = tqdm(total=batches.num_rows, desc="importance sampling", disable=not progress)
    for arguments in batches.batches(None):
        layout = Layout(model, guide, arguments)
        _check_density(layout)
        weights = []
        for _, log_q, likelihood, prior in guide_draws(layout, num_samples):
            if log_q.dim() == 0 or any(v.dim() == 0 for v in [*likelihood.values()]):
                raise ArgumentError(
                    "the guide's density does not factorise over the data: importance weights per "
                    "data point need every latent inside the data plate, in model and guide"
                )
            weights.append(torch.stack([*likelihood.values(), *prior.values(), -log_q]).sum(0))
        log_weights = torch.stack(weights).double()
        values.append(log_weights.logsumexp(0) - math.log(num_samples))
        shapes.append(pareto_k(log_weights.mT.cpu().numpy()))
        bar.update(layout.rows)
    bar.close()
    return ImportanceEstimate(torch.cat(values).cpu().numpy(), np.concatenate(shapes), num_samples)
