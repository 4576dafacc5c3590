# SPDX-License-Identifier: Apache-2.0
"""Simulation-based calibration of a kernel or a guide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pyro
import torch

from pyro_idvae._checks import check_count, check_further, check_real, check_seed
from pyro_idvae.diagnostics.calibration.posteriors import (
    GuidePosterior,
    KernelPosterior,
    Posterior,
)
from pyro_idvae.diagnostics.calibration.ranking import Ranks, rank
from pyro_idvae.diagnostics.calibration.replications import (
    LEAST,
    Outcome,
    Plan,
    plan,
    run_each,
    run_rows,
)
from pyro_idvae.diagnostics.calibration.report import Calibration
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.interrupts import warn_caller
from pyro_idvae.infer.ranks import draw_alike
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.door import open_model, open_pair
from pyro_idvae.programs.run import Program, gradients

FEW_DRAWS, MANY_DRAWS = 99, 499
"""Draws that each truth stands among; the many of a guide on rows, where they cost next to nothing,
for its k-hat's sake."""
LENGTH = 5
"""Draws of the chains for each that is kept."""
FEW = 0.5
"""Below this share of the draws wanted, it is said that chains were worth fewer."""


@left_as_found
@gradients()
def calibrate(
    model: Program,
    *arguments: Any,
    kernel: str | None = None,
    guide: Program | None = None,
    num_replications: int = 500,
    num_draws: int | None = None,
    level: float = 0.05,
    mcmc_options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Calibration:
    r"""Calibrate a kernel or a guide by simulation: are its posteriors those of the model?

    .. math:: z \sim p(z),\quad x \sim p(x|z),\quad z_1, \dots, z_L \sim q(z|x)
        \quad\Rightarrow\quad \#\{l : t(z_l, x) < t(z, x)\} \sim \mathrm{Uniform}\{0, \dots, L\}

    for every quantity t, if q is the posterior. The quantities are each coordinate of the latents,
    :math:`|z|^2` of each site, :math:`\log p(x|z)`, and products of pairs of coordinates in units
    of the draws' spread. Each has the exact p-value of a simultaneous band around its ranks'
    empirical distribution; by Holm's steps the chance that anything is called miscalibrated, if
    nothing is, is at most ``level``. Not rejecting proves nothing: the report says which errors
    would have been seen.

    **Replications** are rows of one plate where the model factorises over it, so that all of them
    cost one run; a guide must then read each row's data. Else each is a data set of the size of
    that given, with a run of its own: with ``progress`` their number is said beforehand, and after
    the first how long all will take. Ctrl-C then returns what is done, with a warning, once there
    are ten. Where a data set is a replication, latents of its rows are looked at in the first row,
    and by their mean over rows.

    **Draws of chains** are correlated, and their ranks not uniform. Five times as many are drawn as
    are wanted, and of these as many kept as the chains are worth independent ones, for every
    quantity and in three quarters of the replications.

    More than 100 coordinates are looked at in as many evenly spaced ones, and at most 20 pairs.
    Discrete latents that are summed out have no draws, and so no ranks; ties of others are broken
    at random.

    Args:
        model: the model, any callable, at its parameters as they are now.
        *arguments: what it takes, as an example: data are simulated in the place of what it
            observes, covariates are kept, masks too. Or one tuple, or one dict by name.
        kernel: ``"vectorized"``, ``"nuts"`` or ``"hmc"``, for :func:`~pyro_idvae.infer.mcmc`; or
        guide: a guide of the model that reads the data.
        num_replications: how many data sets, or rows.
        num_draws: draws L that each truth stands among, at most; by default 99, and 499 of a guide
            where replications are rows.
        level: of the verdict.
        mcmc_options: further arguments of :func:`~pyro_idvae.infer.mcmc` about the sampler, such as
            ``warmup_steps``; ``num_chains`` is 1, and ``num_samples`` five times ``num_draws``.
        seed: seed of torch's random numbers.
        progress: show a progress bar, and what replications cost.

    Returns:
        A :class:`Calibration`.

    Raises:
        ArgumentError: for an option out of range; a model whose data cannot be simulated, as terms
            of ``pyro.factor`` or data that are none of its arguments cannot; a law that depends on
            the data themselves; a guide that draws the same whatever the data are; rows that are
            not independent for ``"vectorized"``.
        DataError: for data, given or simulated, or draws that are not finite.
        SiteMismatchError: if the guide's sites are not the model's.
        KeyboardInterrupt: at Ctrl-C before there is anything to judge.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_idvae as idvae
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x, scale=0.5**0.5):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("z", dist.Normal(x / 2, scale))
        >>> x = torch.zeros(3)
        >>> idvae.calibrate(model, x, guide=guide, seed=0).verdict
        'no miscalibration seen'
        >>> narrow = lambda x: guide(x, 0.5)
        >>> idvae.calibrate(model, x, guide=narrow, seed=0).table.loc["z", "departure"]
        'too narrow'

    Reference:
        Talts, Betancourt, Simpson, Vehtari & Gelman, *Validating Bayesian Inference Algorithms with
        Simulation-Based Calibration*, 2018; Säilynoja, Bürkner & Vehtari, *Graphical test for
        discrete uniformity and its applications in goodness-of-fit evaluation and multiple sample
        comparison*, Statistics and Computing 32, 2022; Modrák et al., *Simulation-Based Calibration
        Checking for Bayesian Computation: The Choice of Test Quantities Shapes Sensitivity*,
        Bayesian Analysis 20, 2025; Yao, Vehtari, Simpson & Gelman, *Yes, but Did It Work?:
        Evaluating Variational Inference*, ICML 2018 (asymmetric ranks tell the direction of a
        bias).
    """
    if kernel is None and guide is None:
        raise ArgumentError(
            "kernel is None and guide is None: expected a Pyro guide, or a kernel such as "
            "kernel='vectorized'"
        )
    if kernel is not None and guide is not None:
        raise ArgumentError(f"kernel={kernel!r} and a guide: expected one of the two")
    check_count("num_replications", num_replications, minimum=LEAST)
    check_real("level", level, above=0.0, below=1.0)
    if num_draws is not None:
        check_count("num_draws", num_draws, minimum=2)
    if seed is not None:
        check_seed(seed)
    wanted, sampling = num_draws or FEW_DRAWS, None
    if kernel is not None:
        sampling = _sampling(kernel, mcmc_options or {}, wanted, progress)
    elif mcmc_options:
        raise ArgumentError("mcmc_options are for a kernel: a guide has no chains")
    given = as_arguments(arguments[0] if len(arguments) == 1 else arguments)
    store = pyro.get_param_store()
    with store.scope(store.get_state()):
        bound = open_model(model, given) if guide is None else open_pair(model, guide, given)
        draw_alike(seed)
        made = plan(bound, num_replications)
        if kernel == "vectorized" and not made.by_row:
            raise ArgumentError(f"kernel='vectorized': {made.reason}")
        if made.by_row and guide is not None:
            wanted = num_draws or MANY_DRAWS
        posterior = GuidePosterior(wanted) if sampling is None else KernelPosterior(sampling)
        outcome = _run(made, posterior, num_replications, progress)
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        found, k = rank(outcome.measured, wanted, rng), [outcome.measured.pareto_k]
        for more in made.later() if outcome.complete else ():
            # Whatever an interrupt leaves of these has too few draws.
            outcome = run_rows(more, posterior)
            if not outcome.complete:
                break
            found = found.with_more(rank(outcome.measured, wanted, rng, like=found))
            k.append(outcome.measured.pareto_k)
    known = [part for part in k if part is not None]
    if not outcome.complete:
        warn_caller(
            f"interrupted: {len(found.ranks)} of {num_replications} replications, "
            f"{found.num_draws} draws each"
        )
    return Calibration.of(
        found.ranks,
        found.num_draws,
        found.names,
        level=level,
        method=kernel or "guide",
        by_row=made.by_row,
        pareto_k=np.concatenate(known) if known else None,
        complete=outcome.complete,
        cautions=tuple(_cautions(found, wanted, outcome, num_replications)),
    )


def _run(made: Plan, posterior: Posterior, number: int, progress: bool) -> Outcome:
    if made.by_row:
        return run_rows(made, posterior)
    if isinstance(posterior, KernelPosterior):
        # One bar for all of them.
        posterior = posterior.silent()
    return run_each(made, posterior, number, progress=progress)


def _sampling(kernel: str, options: Mapping[str, Any], wanted: int, progress: bool) -> Sampling:
    known = {field.name for field in fields(Sampling)} - {"kernel", "seed", "progress", "start"}
    check_further("mcmc_options", options, known, "{'warmup_steps': 500}")
    chains = options.get("num_chains", 1)
    length = -(-LENGTH * wanted // check_count("num_chains", chains))
    defaults = {"num_samples": length, "num_chains": 1, "progress": progress}
    return Sampling(**{"kernel": kernel, **defaults, **options})


def _cautions(found: Ranks, wanted: int, outcome: Outcome, number: int) -> list[str]:
    said = []
    if not outcome.complete:
        said.append(f"interrupted: {len(found.ranks)} of {number} replications")
    if found.effective < FEW * wanted:
        said.append(
            f"chains were worth {found.effective:.0f} independent draws, {wanted} were wanted: "
            "more num_samples or warmup_steps show smaller errors"
        )
    return said
