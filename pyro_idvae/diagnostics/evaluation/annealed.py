# SPDX-License-Identifier: Apache-2.0
"""The evidence in an evaluation: annealing where the model allows it, else why it does not."""

from __future__ import annotations

import inspect
from typing import Any

from pyro_idvae._checks import check_further
from pyro_idvae.diagnostics.evidence import Evidence, log_evidence
from pyro_idvae.errors import ArgumentError, DataError, NoCertificateError
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.guide_density import check_spread

OWN = ("num_elbo_samples", "progress", "seed")
"""Arguments of the annealing that an evaluation has itself."""


def check_evidence_options(options: Any) -> dict[str, Any]:
    """Return further arguments of :func:`log_evidence`, their names checked."""
    if options is None:
        return {}
    parameters = inspect.signature(log_evidence).parameters.values()
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - set(OWN)
    return check_further("evidence_options", options, known, "{'num_chains': 32}")


def annealed(bound: BoundModel, data: Any, options: dict[str, Any], *, progress: bool) -> Evidence:
    """Return the evidence of a model, without an ELBO of its guide.

    Args:
        bound: model and guide on their data.
        data: these.
        options: further arguments of :func:`log_evidence`.
        progress: show a progress bar.

    Raises:
        NoCertificateError: for a model that cannot be annealed, saying why.
        ArgumentError: for an option out of range.
        DataError: for latents, among the options, that are no numbers.
    """
    begins_there = options.get("proposal") == "guide"
    try:
        return log_evidence(
            bound.model,
            # Its ELBO comes from the draws of all else.
            bound.guide if begins_there else None,
            data,
            num_elbo_samples=2,
            progress=progress,
            **options,
        )
    except (ArgumentError, DataError) as error:
        # An option out of range is a mistake, a model that has no evidence of this kind is none.
        reason = _reason(bound, begins_there)
        if reason is None:
            raise
        raise NoCertificateError(reason) from error


def _reason(bound: BoundModel, begins_there: bool) -> str | None:
    """Return why a model cannot be annealed; None if it can."""
    alone = BoundModel(bound.model, None, bound.arguments)
    try:
        if not alone.latents:
            return "the model has no latent site that is not summed out"
        check_factorises(alone)
        if begins_there:
            check_spread(bound)
    except (ArgumentError, DataError) as error:
        return str(error)
    return None
