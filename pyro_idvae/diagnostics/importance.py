# SPDX-License-Identifier: Apache-2.0
"""Held-out log-likelihoods by importance sampling from a guide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from tqdm.auto import tqdm

from pyro_idvae import _upstream
from pyro_idvae._checks import check_count
from pyro_idvae.arviz_io import pareto_k
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.draws import draw_guide
from pyro_idvae.infer.fit.batches import TensorBatches
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.plates import check_amortised
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sites import latent_sites, unwrap_masks


def _check_density(bound: BoundModel) -> None:
    """Raise unless the guide has a density over the model's latents and nothing else.

    Autoguides have Delta sites computed from auxiliary ones, whose density they carry.
    """
    sites = latent_sites(bound.guide_trace)
    helpers = [name for name, site in sites.items() if _upstream.is_auxiliary(site)]
    points = [n for n in bound.latents if isinstance(unwrap_masks(sites[n]["fn"]), dist.Delta)]
    if points and not helpers:
        raise ArgumentError(
            f"the guide is a point at the sites {points}: it has no density to weight draws by"
        )
    if helpers and len(points) < len(bound.latents):
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
            NaN, unknown, for fewer than 30 draws.
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
        bound = BoundModel(model, guide, arguments)
        _check_density(bound)
        draws = draw_guide(bound, num_samples)
        terms = [*draws.log_likelihood.values(), *draws.log_prior.values(), -draws.stats["log_q"]]
        if any(term.dim() < 3 for term in terms):
            raise ArgumentError(
                "the guide's density does not factorise over the data: importance weights per "
                "data point need every latent inside the data plate, in model and guide"
            )
        log_weights = torch.stack(terms).sum(0).squeeze(0).double()
        values.append(log_weights.logsumexp(0) - math.log(num_samples))
        shapes.append(pareto_k(log_weights.mT.cpu().numpy()))
        bar.update(bound.rows)
    bar.close()
    return ImportanceEstimate(torch.cat(values).cpu().numpy(), np.concatenate(shapes), num_samples)
