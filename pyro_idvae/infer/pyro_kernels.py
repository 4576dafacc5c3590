# SPDX-License-Identifier: Apache-2.0
"""Chains of Pyro's own kernels, one after the other or each in its own process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import pyro
import torch
from pyro import poutine
from pyro.infer import HMC, NUTS
from pyro.infer.autoguide import init_to_value
from torch import Tensor
from tqdm.auto import trange

from pyro_idvae import _upstream
from pyro_idvae.errors import DataError
from pyro_idvae.infer.apart import run_apart
from pyro_idvae.infer.laplace.autoguide import LaplaceStart
from pyro_idvae.infer.ranks import Ranks, shared
from pyro_idvae.infer.rowwise.stream import generator_states, set_generator_states
from pyro_idvae.programs.arguments import Arguments, tensors_of
from pyro_idvae.programs.as_found import as_found
from pyro_idvae.programs.run import Program, dry_run, evaluating, frozen


class Draw(NamedTuple):
    """One draw of a chain."""

    values: dict[str, Tensor]
    """The latents by site."""
    stats: dict[str, Tensor]
    """Statistics of the iteration, each of one number."""


class ChainState(NamedTuple):
    """Where a chain is after some draws, and what it draws with."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    """In JSON: what the kernel knows of itself."""
    random: Mapping[str, Tensor]
    """The states of torch's generators."""
    draws: int


class Watch(Protocol):
    """Somebody who is told of a chain after each draw."""

    def __call__(self, draws: int, state: Callable[[], ChainState]) -> None:
        """Take note of a number of draws, and of the chain's state if that is wanted."""


class _Recording:
    """Keeps the energy at the start of each trajectory, and begins in a given metric."""

    energy = math.nan
    start_covariance: Tensor | None = None

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Set up as Pyro does, then listen to the trajectories and put in the metric."""
        with _finding_a_start():
            super().setup(warmup_steps, *args, **kwargs)  # type: ignore[misc]
        _upstream.on_trajectory(self, self._note)
        if self.start_covariance is not None:
            _upstream.set_metric(self, self.start_covariance)

    def _note(self, energy: float) -> None:
        self.energy = energy


@contextmanager
def _finding_a_start() -> Iterator[None]:
    """Say what Pyro's error means where no prior draw has a finite density."""
    try:
        yield
    except ValueError as error:
        if "valid initial params" not in str(error):
            raise
        raise DataError(
            "no start for the chains: the density, or its gradient, is not finite wherever the "
            "latents were tried. Look at the scale of the data and at the likelihood's parameters"
        ) from error


class _RecordingNUTS(_Recording, NUTS):
    pass


class _RecordingHMC(_Recording, HMC):
    pass


PYRO_KERNELS = {"hmc": HMC, "nuts": NUTS}
KERNELS = {"hmc": _RecordingHMC, "nuts": _RecordingNUTS}


@dataclass(frozen=True)
class ChainTask:
    """What one chain needs."""

    model: Program
    arguments: Arguments
    kernel: str
    num_samples: int
    warmup_steps: int
    progress: bool
    seed: int
    start: LaplaceStart | None = None
    from_prior: tuple[str, ...] = ()
    """Latents that begin at a draw from the prior; the others where Pyro begins."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self,
        keep: Callable[[Draw], None],
        *,
        begun: ChainState | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Run the chain, handing on each draw as it comes.

        Args:
            keep: is given each draw.
            begun: where the chain is already; its warm-up is over.
            watch: told after each draw.
        """
        torch.manual_seed(self.seed)
        options = dict(self.options)
        covariance: Tensor | None = None
        if self.from_prior:
            trace, _ = dry_run(self.model, None, self.arguments)
            values = {name: trace.nodes[name]["value"] for name in self.from_prior}
            options["init_strategy"] = init_to_value(values=values)
        if self.start is not None:
            site, loc, factor = self.start
            value = loc + (factor @ torch.randn_like(loc).unsqueeze(-1)).squeeze(-1)
            options["init_strategy"] = init_to_value(values={site: value})
            covariance = torch.block_diag(*(factor @ factor.mT))
        kernel = KERNELS[self.kernel](self.model, **options)
        kernel.start_covariance = covariance
        args, kwargs = self.arguments
        args = tuple(arg.detach() if isinstance(arg, Tensor) else arg for arg in args)
        first = 0 if begun is None else self.warmup_steps + begun.draws
        last = self.warmup_steps + self.num_samples
        steps = trange(first, last, desc="Warmup", disable=not self.progress)
        # As pyro.infer.MCMC does, which loses the draws of a chain that is interrupted.
        with (
            steps,
            frozen(self.model),
            evaluating(self.model),
            poutine.block(),
            pyro.validation_enabled(False),
        ):
            kernel.setup(self.warmup_steps, *args, **kwargs)
            params, mean = kernel.initial_params, 0.0
            if begun is not None:
                _upstream.set_chain_state(kernel, begun.tensors, begun.numbers)
                params, mean = None, begun.numbers["mean_acceptance"]
                set_generator_states(begun.random)
            for step in steps:
                params = kernel.sample(params)
                steps.set_postfix(kernel.logging(), refresh=False)
                number = step - self.warmup_steps
                if number < 0:
                    continue
                steps.set_description("Sample", refresh=False)
                # The kernel keeps the running mean of the draws' acceptance; its steps give each.
                before, mean = mean, _upstream.mean_acceptance(kernel)
                keep(_draw(kernel, params, number, before + (number + 1) * (mean - before)))
                if watch is not None:
                    watch(number + 1, partial(_state, kernel, number + 1))


def _state(kernel: Any, draws: int) -> ChainState:
    tensors, numbers = _upstream.chain_state(kernel)
    return ChainState(tensors, numbers, generator_states(), draws)


def _draw(kernel: Any, params: Mapping[str, Tensor], number: int, acceptance: float) -> Draw:
    """Return a draw on the model's own scale, with its statistics."""
    values = {
        name: kernel.transforms[name].inv(value) if name in kernel.transforms else value
        for name, value in params.items()
    }
    stats = {
        "diverging": torch.tensor(number in _upstream.divergent_draws(kernel)[-1:]),
        "energy": torch.tensor(float(kernel.energy)),
        "acceptance_rate": torch.tensor(acceptance),
        "step_size": torch.tensor(float(kernel.step_size)),
    }
    return Draw({name: value.detach().clone() for name, value in values.items()}, stats)


def run_chains(task: ChainTask, num_chains: int, *, parallel: bool) -> list[list[Draw]]:
    """Run chains from seeds of their own, in parallel if that is wanted and possible.

    Processes that ``torchrun`` started share them, and all return all of them. An interrupt ends
    the sampling: some chains of a single process are shorter then, or empty.

    Raises:
        KeyboardInterrupt: if there was no draw yet.
    """
    tasks = [replace(task, seed=task.seed + number) for number in range(num_chains)]
    chains: list[list[Draw]] = [[] for _ in tasks]
    try:
        with as_found(task.model):
            if Ranks.here().size > 1:
                return _shared_chains(tasks)
            quiet = [replace(one, progress=False) for one in tasks]
            if not (parallel and num_chains > 1 and run_apart(quiet, chains)):
                for one, chain in zip(tasks, chains, strict=True):
                    one.run(chain.append)
    except KeyboardInterrupt:
        if not any(chains):
            raise
    return chains


def _shared_chains(tasks: Sequence[ChainTask]) -> list[list[Draw]]:
    device = tensors_of(tasks[0].arguments)[0].device

    def moved(draws: Sequence[Draw], place: torch.device) -> list[Draw]:
        return [Draw({n: v.to(place) for n, v in one.values.items()}, one.stats) for one in draws]

    def of(own: Sequence[ChainTask]) -> list[tuple[list[Draw], dict[str, Tensor]]]:
        found = []
        for task in own:
            chain: list[Draw] = []
            replace(task, progress=task.progress and Ranks.here().speaks).run(chain.append)
            found.append((moved(chain, torch.device("cpu")), generator_states()))
        return found

    chains, states = zip(*shared(tasks, of), strict=True)
    # Where one process, which runs all chains, would go on.
    set_generator_states(states[-1])
    return [moved(chain, device) for chain in chains]
