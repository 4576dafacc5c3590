# SPDX-License-Identifier: Apache-2.0
"""Held-out log-likelihoods by importance sampling from a guide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_idvae._checks import check_count
from pyro_idvae.diagnostics.weights import RunningWeights, sum_terms
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.infer.ranks import Ranks, agreed_seed, shared
from pyro_idvae.infer.rowwise.blocks import Block, blocks_of
from pyro_idvae.programs.arguments import as_arguments, row_count, take_rows, tensors_of
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.determinism import check_deterministic
from pyro_idvae.programs.door import check_pair, where_weights_are
from pyro_idvae.programs.guide_density import check_guide_density
from pyro_idvae.programs.plates import check_amortised
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.side_by_side import densities_of, group_size, guide_draws

Array = np.ndarray[Any, Any]

FEW_ROWS = 5
"""Rows that a message names."""
RUNS_AT_ONCE = 16
"""Runs of the model whose draws are weighed together: few, to save memory; enough that the draws
which are also run alone, to check the others, cost little."""


@dataclass(frozen=True)
class ImportanceEstimate:
    """Held-out log-likelihoods by importance sampling, in nats.

    Attributes:
        log_likelihood: estimate of log p(x) for each data point; biased downwards. −inf where every
            weight is 0, so that no draw could have made the data.
        pareto_k: tail index of each data point's weights; above 0.7 its estimate is not reliable. 0
            where the largest are equal up to rounding, as an exact guide's are. NaN, unknown, for
            fewer than 30 draws and where every weight is 0.
        num_samples: draws from the guide.
    """

    log_likelihood: Array
    pareto_k: Array
    num_samples: int

    @property
    def mean(self) -> float:
        """Mean over the data points."""
        return float(self.log_likelihood.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the data points; NaN for one, or an infinite one."""
        values = self.log_likelihood
        if len(values) < 2 or not np.isfinite(values).all():
            return math.nan
        return float(values.std(ddof=1) / math.sqrt(len(values)))


@left_as_found
def importance_log_likelihood(
    model: Program,
    guide: Program,
    data: Any,
    *,
    num_samples: int = 1000,
    block_size: int | None = None,
    progress: bool = False,
) -> ImportanceEstimate:
    r"""Estimate log p(x) for each data point by importance sampling from the guide.

    .. math:: \log\frac1S\sum_{s=1}^S \frac{p(x|z_s)\,p(z_s)}{q(z_s|x)},\qquad z_s \sim q(z|x)

    The average over draws is taken inside the logarithm, data point by data point. A draw whose
    density under the model is 0 has weight 0 and counts among the S.

    Args:
        model: the model.
        guide: its guide; it must factorise over the data plate.
        data: a Tensor, or a tuple or dict of the model's arguments.
        num_samples: draws S.
        block_size: rows at a time, to save memory; None for all. Needs an amortised guide. Blocks
            have random numbers of their own; processes that ``torchrun`` started share them.
        progress: show a progress bar.

    Returns:
        An :class:`ImportanceEstimate`.

    Raises:
        ArgumentError: if the guide's density does not factorise over the data, or is over other
            variables than the model's latents.
        DataError: for log weights that are NaN or +inf, naming rows and sites.

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
    if block_size is not None:
        check_count("block_size", block_size)
    arguments = where_weights_are(as_arguments(data), model, guide)
    check_pair(model, guide, arguments)
    rows = row_count(arguments)
    if block_size is not None and block_size < rows:
        check_amortised(model, guide, arguments)
    size = min(block_size or rows, rows)
    device = tensors_of(arguments)[0].device

    def bound_to(index: Tensor) -> BoundModel:
        part = arguments if size == rows else take_rows(arguments, index.to(device))
        bound = BoundModel(model, guide, part)
        check_deterministic(bound)
        check_guide_density(bound)
        return bound

    # Before anything is drawn: what is refused leaves the generator as it was.
    first = bound_to(torch.arange(size))
    blocks = blocks_of(rows, size, agreed_seed(None), device)

    def of(own: Sequence[Block]) -> list[tuple[Array, Array]]:
        found = []
        total = sum(block.kept for block in own) * num_samples
        hidden = not (progress and Ranks.here().speaks)
        with tqdm(total=total, desc="importance sampling", disable=hidden) as bar:
            for block in own:
                index = block.rows[: block.kept]
                bound = first if block is blocks[0] else bound_to(index)
                with block.stream.drawing():
                    found.append(_of_rows(bound, num_samples, int(index[0]), bar))
        return found

    values, shapes = zip(*shared(blocks, of), strict=True)
    return ImportanceEstimate(np.concatenate(values), np.concatenate(shapes), num_samples)


def _of_rows(bound: BoundModel, num_samples: int, first: int, bar: Any) -> tuple[Array, Array]:
    """Return estimates and tail indices of the rows that a pair is bound to, from a first one."""
    running = RunningWeights(bound.rows, num_samples)
    for terms in weight_blocks(bound, num_samples):
        weights = sum_terms(list(terms.values()))
        check_log_weights(weights.values, terms, first=first)
        running.add(weights)
        bar.update(weights.values.size)
    return running.log_mean(), running.pareto_k()


def weight_blocks(bound: BoundModel, num_samples: int) -> Iterator[dict[str, Array]]:
    """Yield the terms of log weights by site, some draws at a time, of shape ``(draws, rows)``.

    Those of the model go by their sites, that of the guide is ``log_q``, with its sign turned.

    Raises:
        ArgumentError: if a density does not factorise over the data.
    """
    step = RUNS_AT_ONCE * group_size(bound)
    for first in range(0, num_samples, step):
        values, log_q = guide_draws(bound, min(step, num_samples - first))
        found = densities_of(bound, values)
        terms = {**found.likelihood, **found.prior, "log_q": -log_q}
        if any(term.dim() < 2 for term in terms.values()):
            raise ArgumentError(
                "the guide's density does not factorise over the data: importance weights per "
                "data point need every latent inside the data plate, in model and guide"
            )
        yield {name: term.cpu().numpy() for name, term in terms.items()}


def check_log_weights(log_weights: Array, terms: Mapping[str, Array], first: int) -> None:
    """Raise for weights that are no numbers; −inf, a weight of 0, is one."""
    bad = (np.isnan(log_weights) | (log_weights == np.inf)).any(-1).nonzero()[0]
    if len(bad):
        sites = [name for name, t in terms.items() if (np.isnan(t) | (t == np.inf)).any()]
        named = ", ".join(str(first + row) for row in bad[:FEW_ROWS])
        raise DataError(
            f"the importance weights of {len(bad)} data points are not finite (rows {named}"
            f"{', …' if len(bad) > FEW_ROWS else ''}): the log densities of {sites} are NaN or "
            "+inf; check the data, and the parameters of model and guide"
        )
