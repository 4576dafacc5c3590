# SPDX-License-Identifier: Apache-2.0
"""What comes before the first step of a fit: checks, parameters, an optimiser for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.fit.batches import Batches
from pyro_idvae.infer.fit.checkpoints import Checkpoints
from pyro_idvae.infer.fit.exchange import Exchange
from pyro_idvae.infer.fit.optimizers import NamedOptimizer
from pyro_idvae.infer.fit.options import FitOptions
from pyro_idvae.infer.fit.pair import PairTensors
from pyro_idvae.infer.fit.random_state import OtherStates
from pyro_idvae.infer.fit.result import FitResult
from pyro_idvae.infer.ranks import Ranks
from pyro_idvae.programs.arguments import Arguments, row_count
from pyro_idvae.programs.observations import check_observations
from pyro_idvae.programs.parameters import Claim, claim_parameters
from pyro_idvae.programs.plates import check_amortised, check_minibatch, subsampled_size
from pyro_idvae.programs.run import Program, modules_of
from pyro_idvae.programs.sites import check_sites


def check_together(
    options: FitOptions, validation: Any, resume: FitResult | None, checkpoint: Any
) -> None:
    """Raise for arguments that contradict each other."""
    if options.patience is not None and validation is None:
        raise ArgumentError("patience needs validation: pass a share such as validation=0.1")
    if resume is None:
        return
    if not isinstance(resume, FitResult):
        raise ArgumentError(f"resume is a {type(resume).__name__}: expected the result of a fit")
    if resume.state is None:
        raise ArgumentError("resume has done no fit yet: leave it out")
    if options.seed is not None:
        raise ArgumentError(
            f"seed={options.seed} with resume: the fit goes on with the random numbers that it "
            "had; leave out seed"
        )
    if checkpoint is not None:
        raise ArgumentError(
            "checkpoint with resume: a fit in a folder goes on by itself; leave out resume"
        )


def claimed(
    model: Program, guide: Program, train: Batches, held_out: Batches | None, first: Arguments
) -> Claim:
    """Return the pair's parameters and a run on a batch, which says what can be trained how.

    Args:
        model: the model.
        guide: its guide.
        train: the training data.
        held_out: the validation data, or None.
        first: a batch.
    """
    own = [p for m in modules_of(model, guide) for p in m.parameters()]
    held_fixed = [p for p in own if not p.requires_grad]
    claim = claim_parameters(model, guide, first)
    for fixed in held_fixed:
        fixed.requires_grad_(False)  # Pyro's store makes what it holds trainable
    check_sites(claim.model_trace, claim.guide_trace)
    check_observations(claim.model_trace)
    if subsampled_size(claim.model_trace) is None:
        if row_count(first) < train.num_rows:
            check_minibatch(model, guide, first, claim.model_trace, train.num_rows)
        elif held_out is not None:
            check_amortised(model, guide, first)
    return claim


def make_optimizer(
    trained: Mapping[str, Tensor], optimizer: Any, scheduler: Any, resume: FitResult | None
) -> NamedOptimizer:
    """Return the optimiser of a fit: a new one, or that of the result it goes on from.

    Raises:
        ArgumentError: if the result is that of another pair, or has an optimiser already.
    """
    if resume is None:
        return NamedOptimizer(trained, optimizer, scheduler)
    missing = sorted(set(trained) - set(resume.parameters))
    live = resume.optimizer is not None
    if live:
        missing = sorted(n for n, p in trained.items() if resume.parameters.get(n) is not p)
    if missing:
        raise ArgumentError(
            f"resume: its optimiser does not have the parameters {missing}: it is the result of "
            "another pair, or the parameter store was cleared since. Fit without resume"
        )
    if not live:
        return NamedOptimizer(trained, optimizer, scheduler)
    if optimizer is not None or scheduler is not None:
        raise ArgumentError(
            "resume goes on with its own optimiser and schedule: leave out optimizer and scheduler"
        )
    return NamedOptimizer.existing(trained, resume.optimizer, resume.scheduler)


def alike(exchange: Exchange | None, pair: PairTensors) -> None:
    """Give all processes the tensors of the first, means of batches among them."""
    if exchange is not None:
        exchange.same(pair.live())


def together(model_trace: Any, seed: int) -> Exchange | None:
    """Return the processes that train together.

    Args:
        model_trace: a run of the model.
        seed: of the random numbers.

    Returns:
        None for one process.

    Raises:
        ArgumentError: for a model that subsamples a plate itself, whose batches are not shared.
    """
    ranks = Ranks.here()
    if ranks.size == 1:
        return None
    if subsampled_size(model_trace) is not None:
        raise ArgumentError(
            f"the model subsamples its own plate, and {ranks.size} processes would each take all: "
            "pass batch_size and let the model take the rows it is given"
        )
    return Exchange(ranks, seed)


@contextmanager
def at_first(
    exchange: Exchange | None, make: Callable[[], Checkpoints]
) -> Iterator[Checkpoints | None]:
    """Give the folder to write to, to the first of several processes; to the others None."""
    if exchange is not None and exchange.ranks.rank > 0:
        yield None
        return
    with make() as checkpoints:
        yield checkpoints


def newest_of(checkpoints: Checkpoints | None) -> tuple[FitResult | None, bool]:
    """Return the fit in a folder, if any, and whether it was written under the same versions."""
    if checkpoints is None:
        return None, False
    return checkpoints.newest(), checkpoints.is_same_machine


@contextmanager
def others_left_alone(wanted: bool) -> Iterator[None]:
    """Put the states of numpy's and Python's generators back, if that is wanted."""
    before = OtherStates.now()
    try:
        yield
    finally:
        if wanted:
            before.restore()
