# SPDX-License-Identifier: Apache-2.0
"""p(component | x), by the guide and by the evidence of each component."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from scipy.special import logsumexp, softmax
from torch import Tensor

from pyro_idvae._checks import check_count, check_options, check_real, check_seed
from pyro_idvae.diagnostics.assignments.report import Assignments
from pyro_idvae.diagnostics.evidence import Evidence, log_evidence
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.door import open_model, open_pair
from pyro_idvae.programs.fixed import fix_site, log_probabilities
from pyro_idvae.programs.run import Program, gradients
from pyro_idvae.programs.side_by_side import guide_draws, nth

TAKEN = ("model", "guide", "data", "latents", "bounds", "seed", "progress")
"""Arguments of :func:`log_evidence` that are set here."""


@left_as_found
@gradients()
def assignments(
    model: Program,
    guide: Program | None,
    data: Any,
    *,
    site: str | None = None,
    num_guide_draws: int = 100,
    epsilon: float = 0.05,
    confidence: float = 0.95,
    seed: int | None = None,
    progress: bool = False,
    **evidence: Any,
) -> Assignments:
    r"""Return the probability of each value of a discrete latent, row by row.

    .. math:: p(y \mid x) = \frac{p(x, y)}{\sum_{y'} p(x, y')}, \qquad
        p(x, y) = \int p(x, z, y)\,dz

    with each p(x, y) by annealed importance sampling, see :func:`log_evidence`, so that a guide
    which has lost y does not hide that the model knows it, nor the other way round. The guide's is
    q(y|x) if it draws y, else :math:`\mathbb E_{q(z|x)}\,p(y \mid z, x)`.

    A component may be told apart by z and yet not by x: two that differ in z have one p(x) where
    noise on a few values hides the difference, as with a single binary x of equal mean rate. So
    I(x; y) is measured, whatever the likelihood.

    Args:
        model: a model with one discrete latent in its data plate.
        guide: its guide, or None.
        data: a Tensor, or a tuple or dict of the model's arguments.
        site: name of the discrete latent; needed where there are several.
        num_guide_draws: draws of a guide that does not draw y.
        epsilon: nats below which y counts as collapsed.
        confidence: of the one-sided limits.
        seed: seed of torch's random numbers.
        progress: show a progress bar for each component.
        **evidence: further arguments of :func:`log_evidence`, e.g. ``num_chains=32``.

    Returns:
        An :class:`Assignments`.

    Raises:
        ArgumentError: for a model without such a latent, or with one whose prior depends on other
            latents; for an argument out of range.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDMVAE(2, 2, 3, hidden_dims=[16], encoder_hidden_dims=[16])
        >>> found = idvae.assignments(vae.model, vae.guide, torch.randn(10, 2), seed=0)
        >>> found.exact.shape, found.guide.shape
        ((10, 3), (10, 3))
    """
    check_count("num_guide_draws", num_guide_draws)
    check_real("epsilon", epsilon, above=0.0)
    check_real("confidence", confidence, above=0.5, below=1.0)
    bad = sorted(set(evidence) & set(TAKEN))
    if bad:
        raise ArgumentError(f"assignments sets {bad} of log_evidence itself: leave them out")
    check_options(log_evidence, evidence)
    if seed is not None:
        torch.manual_seed(check_seed(seed))
    arguments = as_arguments(data)
    store = pyro.get_param_store()
    with store.scope(store.get_state()):
        bound = open_model(model, arguments)
        name = _site_of(bound, site)
        log_prior = _log_prior(bound, name)
        pair = None if guide is None else open_pair(model, guide, arguments)
        own = None if pair is None else _by_guide(pair, name, num_guide_draws)
        found = [
            log_evidence(fix_site(model, name, value), None, data, progress=progress, **evidence)
            for value in range(log_prior.shape[-1])
        ]
    return _report(name, found, own, log_prior, epsilon=epsilon, confidence=confidence)


def _site_of(bound: BoundModel, site: str | None) -> str:
    """Return the name of the one discrete latent, or raise."""
    names = bound.summed
    if site is None and len(names) == 1:
        return names[0]
    if site is not None and site in names:
        if len(names) == 1:
            return site
        others = [name for name in names if name != site]
        raise ArgumentError(
            f"site={site!r}: the sites {others} are discrete too, and are summed out in each p(x, "
            "y); models with several are not supported, fix the others by pyro.poutine.condition"
        )
    raise ArgumentError(
        f"site={site!r}: expected the one discrete latent in the data plate; the model has "
        f"{names or 'none'}"
    )


def _log_prior(bound: BoundModel, name: str) -> Tensor:
    """Return log p(y) of each row, of shape ``(rows, values)``."""
    found = []
    args, kwargs = bound.arguments
    with torch.no_grad(), bound.running():
        for _ in range(2):
            node = poutine.trace(bound.model).get_trace(*args, **kwargs).nodes[name]
            found.append(log_probabilities(node))
    first, second = found
    if first.shape[:-1] != (bound.rows,):
        raise ArgumentError(
            f"site={name!r} has plates besides that of the rows: one value a row is supported"
        )
    if not torch.equal(first, second):
        raise ArgumentError(
            f"site={name!r}: its prior depends on other latents, so p(y) has no closed form"
        )
    return first.double()


def _by_guide(pair: BoundModel, name: str, num_draws: int) -> Tensor:
    """Return q(y|x), of shape ``(rows, values)``."""
    args, kwargs = pair.arguments
    with torch.no_grad(), pair.running():
        if name in pair.latents:
            trace = poutine.trace(pair.guide).get_trace(*args, **kwargs)
            return log_probabilities(trace.nodes[name]).exp().double()
        values, _ = guide_draws(pair, num_draws)
        total = [pair.assignments(nth(values, i))[name].double() for i in range(num_draws)]
    return torch.stack(total).mean(0)


def _report(
    name: str,
    found: list[Evidence],
    own: Tensor | None,
    log_prior: Tensor,
    *,
    epsilon: float,
    confidence: float,
) -> Assignments:
    log_joint = np.stack([one.lower for one in found], -1)
    error = np.stack([one.standard_error for one in found], -1)
    p = softmax(log_joint, axis=-1)
    variance = np.square(error)
    # d p_c / d log p(x, j) = p_c (δ_cj − p_j).
    spread = np.square(p) * ((1 - 2 * p) * variance + (np.square(p) * variance).sum(-1)[:, None])
    total = RowEstimate(logsumexp(log_joint, axis=-1), np.sqrt((np.square(p) * variance).sum(-1)))
    return Assignments(
        site=name,
        exact=p,
        exact_standard_error=np.sqrt(spread),
        guide=None if own is None else own.cpu().numpy(),
        prior=log_prior.exp().cpu().numpy(),
        evidence=total,
        log_joint_standard_error=error,
        epsilon=epsilon,
        confidence=confidence,
    )
