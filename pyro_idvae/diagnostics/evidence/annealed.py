# SPDX-License-Identifier: Apache-2.0
"""What particles say of log p(x), all blocks of rows together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_idvae.diagnostics.evidence.estimate import Evidence
from pyro_idvae.diagnostics.evidence.log_means import log_mean
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.infer.interrupts import warn_caller
from pyro_idvae.infer.ranks import Ranks, shared
from pyro_idvae.infer.rowwise.annealing.annealer import Annealed, Annealer
from pyro_idvae.infer.rowwise.blocks import Block
from pyro_idvae.programs.as_found import as_found

Array = np.ndarray[Any, Any]


def anneal(
    annealer: Annealer, elbo: RowEstimate | None, *, began: float, progress: bool = False
) -> Evidence:
    """Run particles of all rows and return what they say.

    Args:
        annealer: how.
        elbo: a guide's ELBO, to set beside it.
        began: processor time when the work began.
        progress: show a progress bar.

    Raises:
        KeyboardInterrupt: at Ctrl-C before the first rows are done; later it ends the work.
    """
    done = shared(annealer.blocks, partial(_annealed, annealer, progress))
    return _joined(annealer, done, elbo, time.process_time() - began)


def _annealed(annealer: Annealer, progress: bool, blocks: Sequence[Block]) -> list[Annealed]:
    """Return what is done of some blocks, when an interrupt comes perhaps not all."""
    done: list[Annealed] = []
    rows = sum(block.kept for block in blocks)
    hidden = not (progress and Ranks.here().speaks)
    with tqdm(total=rows, desc="annealing", unit="row", disable=hidden) as bar:
        try:
            with as_found(annealer.bound.model):
                for found in annealer.run(blocks):
                    # The latents of all rows' particles are not wanted here.
                    done.append(found._replace(ends=None).on_processor())
                    bar.update(found.log_weights.shape[1])
        except KeyboardInterrupt:
            if not done:
                raise
            known = sum(found.log_weights.shape[1] for found in done)
            warn_caller(f"interrupted: {known} of {rows} data points, the others are NaN")
    return done


def _joined(
    annealer: Annealer, done: Sequence[Annealed], elbo: RowEstimate | None, seconds: float
) -> Evidence:
    """Return what all blocks say."""
    rows, chains = annealer.bound.rows, annealer.chains

    def joined(parts: list[Tensor]) -> Array:
        whole = np.full((chains, rows), np.nan)
        known = torch.cat(parts, 1).cpu().numpy()
        whole[:, : known.shape[1]] = known
        return whole

    log_weights = joined([found.log_weights for found in done])
    lower = log_mean(log_weights)
    upper = None
    if annealer.both:
        upper = log_mean(-joined([f.backward for f in done if f.backward is not None]))
    likelihood, error = _weighed(joined([found.log_likelihood for found in done]), log_weights)
    return Evidence(
        lower=lower.value,
        standard_error=lower.error,
        upper=None if upper is None else -upper.value,
        # 1/w has a longer tail than w where the proposal is too wide, and few particles seldom show
        # it; those that went forwards do, as they begin there.
        upper_standard_error=None if upper is None else np.fmax(upper.error, lower.error),
        exact_start=annealer.latents is not None,
        spread=lower.spread,
        effective_size=lower.size,
        log_likelihood=likelihood,
        log_likelihood_standard_error=error,
        elbo=None if elbo is None else elbo.value,
        elbo_standard_error=None if elbo is None else elbo.error,
        num_chains=chains,
        num_temperatures=max(found.number for found in done),
        proposal=annealer.source.words,
        complete=sum(found.log_weights.shape[1] for found in done) == rows,
        cpu_seconds=seconds,
    )


def _weighed(values: Array, log_weights: Array) -> tuple[Array, Array]:
    """Return each row's mean over weighted particles, and its standard error."""
    with np.errstate(invalid="ignore"):
        weights = np.exp(log_weights - log_weights.max(0))
        weights = weights / weights.sum(0)
        mean = (weights * values).sum(0)
        error = np.sqrt((np.square(weights) * np.square(values - mean)).sum(0))
    return mean, error
