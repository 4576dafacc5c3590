# SPDX-License-Identifier: Apache-2.0
"""Chains of Pyro's own kernels, one after the other or each in its own process."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Any

import pyro
import torch
from pyro.infer import HMC, MCMC, NUTS
from pyro.infer.autoguide import init_to_value
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.infer.laplace.autoguide import LaplaceStart
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program, dry_run, evaluating, frozen

Chain = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Draws and statistics of one chain."""


class _Recording:
    """Keeps the energy at the start of each trajectory, and begins in a given metric."""

    energy = math.nan
    start_covariance: Tensor | None = None

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Set up as Pyro does, then listen to the trajectories and put in the metric."""
        super().setup(warmup_steps, *args, **kwargs)  # type: ignore[misc]
        _upstream.on_trajectory(self, self._note)
        if self.start_covariance is not None:
            _upstream.set_metric(self, self.start_covariance)

    def _note(self, energy: float) -> None:
        self.energy = energy


class _RecordingNUTS(_Recording, NUTS):
    pass


class _RecordingHMC(_Recording, HMC):
    pass


PYRO_KERNELS = {"hmc": HMC, "nuts": NUTS}
KERNELS = {"hmc": _RecordingHMC, "nuts": _RecordingNUTS}


class _Stats:
    """Statistics of one chain's draws, through MCMC's hook."""

    def __init__(self) -> None:
        self.energy: list[float] = []
        self.acceptance: list[float] = []
        self.step_size: list[float] = []
        self.mean = 0.0

    def __call__(self, kernel: Any, samples: Any, stage: str, i: int) -> None:
        if not stage.lower().startswith("sample"):
            return
        # The kernel keeps the running mean of the draws' acceptance; its steps give each one's.
        count = len(self.acceptance) + 1
        mean = _upstream.mean_acceptance(kernel)
        self.acceptance.append(self.mean + count * (mean - self.mean))
        self.mean = mean
        self.energy.append(float(kernel.energy))
        self.step_size.append(float(kernel.step_size))


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

    def run(self) -> Chain:
        """Run the chain."""
        pyro.set_rng_seed(self.seed)
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
        recorded = _Stats()
        sampler = MCMC(
            kernel,
            num_samples=self.num_samples,
            warmup_steps=self.warmup_steps,
            hook_fn=recorded,
            disable_progbar=not self.progress,
        )
        args, kwargs = self.arguments
        with frozen(self.model), evaluating(self.model):
            sampler.run(*args, **kwargs)
        diverging = torch.zeros(self.num_samples, dtype=torch.bool)
        diverging[_upstream.divergent_draws(kernel)] = True
        return sampler.get_samples(), {
            "diverging": diverging,
            "energy": torch.tensor(recorded.energy),
            "acceptance_rate": torch.tensor(recorded.acceptance),
            "step_size": torch.tensor(recorded.step_size),
        }


def _run_elsewhere(content: bytes) -> bytes:
    """Run a chain in a process of its own, with the parent's parameters."""
    task, store, validate = pickle.loads(content)
    torch.set_num_threads(1)
    pyro.enable_validation(validate)
    pyro.get_param_store().set_state(store)
    return pickle.dumps(task.run())


def run_chains(task: ChainTask, num_chains: int, *, parallel: bool) -> list[Chain]:
    """Run chains from seeds of their own, in parallel if that is wanted and possible."""
    tasks = [replace(task, seed=task.seed + number) for number in range(num_chains)]
    if parallel and num_chains > 1:
        found = _in_parallel(tasks)
        if found is not None:
            return found
    return [task.run() for task in tasks]


def _in_parallel(tasks: list[ChainTask]) -> list[Chain] | None:
    """Return all chains, or None, with one warning, if they cannot run so."""
    state = pyro.get_param_store().get_state()
    validate = _upstream.validates(torch.distributions.Distribution)
    try:
        contents = [pickle.dumps((replace(t, progress=False), state, validate)) for t in tasks]
        context = multiprocessing.get_context("spawn")
        workers = min(len(tasks), os.cpu_count() or 1)
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            return [pickle.loads(result) for result in pool.map(_run_elsewhere, contents)]
    except (pickle.PicklingError, AttributeError, TypeError, BrokenProcessPool) as error:
        warnings.warn(
            f"the chains run one after the other: the model cannot be sent to other processes "
            f"({str(error).splitlines()[0]}). Models of an importable module can",
            UserWarning,
            stacklevel=6,
        )
        return None
