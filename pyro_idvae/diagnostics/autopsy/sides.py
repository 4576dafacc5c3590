# SPDX-License-Identifier: Apache-2.0
"""The exact posterior of a pair's rows, whole or in blocks, and what the guide loses of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from pyro_idvae.diagnostics.autopsy.case import Case, exact_posterior
from pyro_idvae.diagnostics.autopsy.gap import InferenceGap, inference_gap
from pyro_idvae.diagnostics.collapse import CollapseReport
from pyro_idvae.diagnostics.evidence.elbo import row_elbo
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.rowwise.blocks import blocks_of
from pyro_idvae.infer.rowwise.stream import drawn_seed
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.dependence import guide_dependences, prior_dependences
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.rows_apart import check_rows_apart


def case_of(
    bound: BoundModel,
    options: dict[str, Any],
    limits: dict[str, Any],
    notes: list[str],
    block_size: int | None,
) -> tuple[Case, CollapseReport]:
    """Return a pair with its exact posterior, and the report on that.

    Args:
        bound: the pair on its data.
        options: how to sample.
        limits: arguments of the report.
        notes: what is to be said is added to them.
        block_size: rows that are looked at at once; None for all.

    Raises:
        ArgumentError: for rows that are not apart, with a block size.
    """
    if block_size is not None:
        check_rows_apart(bound, "leave out block_size")
        # Once for all blocks.
        prior_dependences(bound)
        guide_dependences(bound)
    alone = bound.without_guide()
    try:
        check_factorises(alone)
    except ArgumentError as error:
        notes.append(f"one chain state for all rows: {error}")
    bound.factorises = alone.factorises
    own = {"kernel": "vectorized" if alone.factorises else "nuts", **options}
    if own["kernel"] == "vectorized":
        own = {"block_size": block_size, **own}
    exact, report = exact_posterior(alone, Sampling(**own), **limits)
    blocks = None
    if block_size is not None and alone.factorises:
        device = next(iter(bound.values().values())).device
        blocks = blocks_of(bound.rows, block_size, drawn_seed(), device)
    return Case(bound, alone, exact, blocks), report


def gap_of(
    here: Case, free_elbo: RowEstimate | None, number: int, block_size: int | None
) -> InferenceGap | None:
    """Return what the guide loses of log p(x); None where rows share latents.

    Args:
        here: the pair.
        free_elbo: of the best q of the guide's family, if that is known.
        number: draws of the guide.
        block_size: rows that are annealed at once.
    """
    if not here.alone.factorises:
        return None
    found = here.by_blocks(partial(_elbo, number=number))
    elbos = [part for part in found if part is not None]
    elbo = RowEstimate.join(elbos) if len(elbos) == len(found) else None
    return inference_gap(here.alone, elbo, free_elbo, block_size=block_size)


def _elbo(part: Case, *, number: int) -> RowEstimate | None:
    return row_elbo(part.bound, number)
