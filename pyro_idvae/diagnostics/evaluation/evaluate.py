# SPDX-License-Identifier: Apache-2.0
"""All metrics of one model at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch

from pyro_idvae._checks import check_count, check_list, check_real, check_seed
from pyro_idvae.diagnostics.certificate import certify
from pyro_idvae.diagnostics.evaluation.annealed import annealed, check_evidence_options
from pyro_idvae.diagnostics.evaluation.evaluation import Evaluation
from pyro_idvae.diagnostics.evaluation.guide_pass import GuidePass, guide_pass
from pyro_idvae.diagnostics.evaluation.mutual_information import mutual_information
from pyro_idvae.diagnostics.evaluation.parts import Parts
from pyro_idvae.diagnostics.evaluation.single_latents import (
    kl_by_latent,
    labels_of,
    which_active,
)
from pyro_idvae.diagnostics.evidence import Evidence
from pyro_idvae.diagnostics.metrics import active_units, kl_to_prior
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.errors import ArgumentError, ConvergenceError, NoCertificateError
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.door import open_pair
from pyro_idvae.programs.run import Program

Array = np.ndarray[Any, Any]

OPTIONAL = ("certificate", "evidence", "information")
CLOSE = 0.9
"""From this share of its cap on, a mutual information says little."""
LOOSE, FEW = 2.0, 0.05
"""Log weights that spread by more nats make a loose bound; said above this share of the rows."""


@left_as_found
def evaluate(
    model: Program,
    guide: Program,
    data: Any,
    *,
    num_samples: int = 1000,
    num_information_samples: int = 10,
    threshold: float = 0.01,
    evidence_options: Mapping[str, Any] | None = None,
    leave_out: Sequence[str] = (),
    seed: int | None = None,
    progress: bool = False,
) -> Evaluation:
    r"""Compute what a row of a paper's table needs, side by side, each number once.

    All are in nats, and means over the rows of the data; S is ``num_samples``, N the rows.

    - *evidence*: log p(x) by :func:`log_evidence`, below it in expectation;
    - *importance-weighted bound*:
      :math:`\log\frac1S\sum_s p(x, z_s)/q(z_s|x)`, with the share of rows in which Pareto's k is
      above 0.7 and the bound not reliable;
    - *ELBO*, :math:`\mathbb E_q[\log p(x, z) - \log q(z|x)]`;
    - *KL* of the guide, :math:`\mathrm{KL}(q(z|x)\,\|\,p(z))`, and *posterior KL* of the exact
      posterior, :math:`\mathrm{KL}(p(z|x)\,\|\,p(z))`, of all latents together;
    - *inference gap*, :math:`\log p(x) - \mathrm{ELBO} = \mathrm{KL}(q(z|x)\,\|\,p(z|x))`;
    - *active units*: the latents with :math:`\mathrm{Var}_x(\mathbb E_q[z_k|x])` above
      ``threshold``;
    - *least nats of a latent*, :math:`\min_k \mathbb E_x\mathrm{KL}(q(z_k|x)\,\|\,p(z_k))`;
    - *mutual information* on the mixture of all rows,
      :math:`\mathbb E_x\mathbb E_q[\log q(z|x) - \log\frac1N\sum_jq(z|x_j)]`, at most log N;
    - *certificate* of :func:`certify`: a certified window, an estimate that is none, or nothing;
    - processor time.

    ELBO, KL and the bound are of the same draws. Every mean has two errors: the Monte-Carlo error
    of these rows, and the standard error over rows like these.

    What cannot be had is NaN, and a note says why: no certificate, a guide without a density in
    each row, latents that rows share, marginals without a closed form. Discrete latents that the
    guide does not draw are summed out; what is said of latents is then said of the others.
    Ctrl-C ends the annealing with the rows that are done, and the rest goes on.

    Args:
        model: the model, any callable, at its parameters as they are now.
        guide: its guide, any callable.
        data: a Tensor, or a tuple or dict of the model's arguments: held-out rows, for a paper.
        num_samples: draws of the guide in each row.
        num_information_samples: draws for the mutual information, each held against all rows; a
            guide that is not Normal is run on all rows so many times for each row.
        threshold: least variance of an active unit.
        evidence_options: further arguments of :func:`log_evidence`, such as ``num_chains`` or
            ``bounds``.
        leave_out: parts to leave out: ``"certificate"``, ``"evidence"``, ``"information"``. The
            annealing takes longest.
        seed: seed of torch's random numbers.
        progress: show progress bars.

    Returns:
        An :class:`Evaluation`; for several models, see :func:`evaluation_table`.

    Raises:
        ArgumentError: for an argument or an option out of range.
        DataError: for data that are empty or not finite.
        SiteMismatchError: if the guide's sites are not the model's.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = vae.likelihood.condition(torch.randn(20, 2)).sample()
        >>> found = idvae.evaluate(vae.model, vae.guide, x, num_samples=100, seed=0)
        >>> found.elbo.mean < found.evidence.mean
        True
        >>> found.row["certificate"], found.table.shape[0]
        ('certified window', 1)

    Reference:
        Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016; Cremer, Li &
        Duvenaud, *Inference Suboptimality in Variational Autoencoders*, ICML 2018; Hoffman &
        Johnson, *ELBO surgery*, NIPS workshop on approximate inference, 2016.
    """
    check_count("num_samples", num_samples, minimum=2)
    check_count("num_information_samples", num_information_samples, minimum=2)
    check_real("threshold", threshold, above=0.0)
    options = check_evidence_options(evidence_options)
    parts = Parts(_check_left_out(leave_out))
    if seed is not None:
        check_seed(seed)
    arguments, given = as_arguments(data), (model, guide, data)
    store = pyro.get_param_store()
    with store.scope(store.get_state()):
        with parts.timed("checks"):
            bound = open_pair(model, guide, arguments)
        if seed is not None:
            torch.manual_seed(seed)
        evidence = parts.tried(
            "evidence",
            lambda: annealed(bound, data, options, progress=progress),
            # What else is wrong is wrong with the options.
            (NoCertificateError, ConvergenceError),
        )
        drawn = parts.tried("guide", lambda: guide_pass(bound, num_samples, progress=progress))
        information = parts.tried(
            "information",
            lambda: mutual_information(bound, num_information_samples, progress=progress),
        )
        active = parts.tried(
            "units", lambda: which_active(bound, partial(active_units, *given, threshold=threshold))
        )
        latent_kl = parts.tried(
            "latents", lambda: kl_by_latent(bound, partial(kl_to_prior, *given))
        )
        certificate = parts.tried("certificate", lambda: certify(model, data))
    parts.notes += _cautions(bound, evidence, information)
    return Evaluation(
        **_measures(bound.rows, evidence, drawn),
        active=active,
        latent_kl=latent_kl,
        latents=labels_of(bound),
        mutual_information=information or RowEstimate.unknown(bound.rows),
        certificate=certificate,
        num_samples=num_samples,
        threshold=threshold,
        observed=_observed(bound),
        cpu_seconds=parts.seconds,
        notes=tuple(parts.notes),
    )


def _check_left_out(leave_out: Any) -> tuple[str, ...]:
    listed = check_list("leave_out", leave_out, f"some of {list(OPTIONAL)}")
    unknown = [name for name in listed if name not in OPTIONAL]
    if unknown:
        raise ArgumentError(f"leave_out has {unknown}: expected some of {list(OPTIONAL)}")
    return tuple(listed)


def _measures(rows: int, evidence: Evidence | None, drawn: GuidePass | None) -> dict[str, Any]:
    """Return what annealing and the guide's draws say of each row, and their difference."""
    unknown = RowEstimate.unknown(rows)
    lower = upper = posterior_kl = unknown
    if drawn is None:
        drawn = GuidePass(unknown, unknown, unknown, np.full(rows, np.nan))
    elif evidence is not None:
        elbo = drawn.elbo
        evidence = replace(evidence, elbo=elbo.value, elbo_standard_error=elbo.error)
    if evidence is not None:
        lower = RowEstimate(evidence.lower, evidence.standard_error)
        posterior_kl = RowEstimate(evidence.posterior_kl, evidence.posterior_kl_standard_error)
        if evidence.upper is not None and evidence.upper_standard_error is not None:
            upper = RowEstimate(evidence.upper, evidence.upper_standard_error)
    return {
        "evidence": lower,
        "evidence_upper": upper,
        "posterior_kl": posterior_kl,
        "inference_gap": lower.minus(drawn.elbo),
        "annealing": evidence,
        **drawn._asdict(),
    }


def _cautions(
    bound: BoundModel, evidence: Evidence | None, information: RowEstimate | None
) -> list[str]:
    said = []
    if bound.summed:
        said.append(f"the discrete sites {bound.summed} are summed out: latents are the others")
    counted = [n for n in bound.latents if bound.trace.nodes[n]["fn"].support.is_discrete]
    if counted and evidence is not None:
        said.append(
            f"the KL of the guide counts the discrete sites {counted}, which it draws; in the "
            "posterior KL they are summed out"
        )
    if evidence is not None and not evidence.complete:
        done = int(np.isfinite(evidence.lower).sum())
        said.append(
            f"interrupted: the evidence, the posterior KL and the inference gap are of {done} of "
            f"{bound.rows} rows"
        )
    loose = 0.0 if evidence is None else float((evidence.spread > LOOSE).mean())
    if loose > FEW:
        said.append(
            f"annealed log weights spread by more than {LOOSE:g} nats in {loose:.0%} of the rows: "
            "the evidence is a loose bound there; pass evidence_options with a conditional_ess "
            "closer to 1, or more num_chains"
        )
    cap = float(np.log(bound.rows))
    if information is not None and information.mean > CLOSE * cap > 0:
        said.append(
            f"the mutual information is close to its cap, log {bound.rows} = {cap:.3f}: it says "
            "that rows are told apart, not how well; more rows would show more"
        )
    return said


def _observed(bound: BoundModel) -> Array:
    """Return the sum of what is observed in each row."""
    total = np.zeros(bound.rows)
    for name in bound.observed:
        value, place = bound.trace.nodes[name]["value"].double(), bound.row_place(name)
        rows = (
            value.sum()
            if place is None
            else value.movedim(place, 0).reshape(bound.rows, -1).sum(-1)
        )
        total = total + rows.cpu().numpy()
    return total
