# SPDX-License-Identifier: Apache-2.0
"""Annealing of all rows of a model, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_idvae.infer.ranks import agreed_seed
from pyro_idvae.infer.rowwise.annealing.passes import backwards, forwards, stay
from pyro_idvae.infer.rowwise.annealing.path import Path
from pyro_idvae.infer.rowwise.annealing.pilot import explore
from pyro_idvae.infer.rowwise.annealing.schedule import Schedule, temperatures_for
from pyro_idvae.infer.rowwise.annealing.sources import Source
from pyro_idvae.infer.rowwise.blocks import Block, split_rows
from pyro_idvae.infer.rowwise.capture import CapturedFunction
from pyro_idvae.infer.rowwise.gradients import RowGradient, recorded
from pyro_idvae.infer.rowwise.trajectory import Dynamics, State
from pyro_idvae.programs.arguments import take_rows
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import silent, undisturbed

LEAST_SETTLING = 20
"""Iterations from resampled particles to the start of a pass backwards, at least."""


class Annealed(NamedTuple):
    """What annealing says of some data points; log densities in nats."""

    log_weights: Tensor
    """log w of particles that went forwards, of shape ``(chains, data)``: E w = p(x)."""
    backward: Tensor | None
    """log w of particles that went backwards, likewise: E 1/w = 1/p(x)."""
    log_likelihood: Tensor
    """Mean of log p(x|z) over each particle's draws at the posterior, of ``(chains, data)``."""
    ends: Tensor | None
    """Unconstrained latents of the particles that went forwards, of ``(chains, data, K)``."""
    number: int
    """Temperatures."""

    def first(self, kept: int) -> Annealed:
        """Return what is said of the first data points."""
        return self._replace(
            log_weights=self.log_weights[:, :kept],
            backward=None if self.backward is None else self.backward[:, :kept],
            log_likelihood=self.log_likelihood[:, :kept],
            ends=None if self.ends is None else self.ends[:, :kept],
        )

    def on_processor(self) -> Annealed:
        """Return the same, its tensors on the processor."""
        return self._replace(
            log_weights=self.log_weights.cpu(),
            backward=None if self.backward is None else self.backward.cpu(),
            log_likelihood=self.log_likelihood.cpu(),
            ends=None if self.ends is None else self.ends.cpu(),
        )


class Annealer:
    """Annealed importance sampling for every row of a model's data plate.

    Args:
        bound: the model on its data.
        source: of the proposals.
        chains: particles of each data point.
        num_temperatures: how many; None to find that from ``conditional_ess``.
        conditional_ess: conditional effective sample size, of 1, from one temperature to the next.
        num_steps: leapfrog steps of a trajectory.
        num_posterior_draws: iterations at the posterior.
        both: whether to go backwards, too.
        latents: draws of the posterior to go backwards from; None to resample particles.
        block_size: data points evaluated at once.
        jit_compile: compile the trajectories by ``torch.compile``.
        seed: of the blocks; drawn from torch's generator if None, the same on all processes.
    """

    def __init__(
        self,
        bound: BoundModel,
        source: Source,
        *,
        chains: int,
        num_temperatures: int | None,
        conditional_ess: float,
        num_steps: int,
        num_posterior_draws: int,
        both: bool,
        latents: Values | None = None,
        block_size: int | None = None,
        jit_compile: bool = False,
        seed: int | None = None,
    ) -> None:
        check_factorises(bound)
        self.bound, self.source, self.chains = bound, source, chains
        self.num_temperatures, self.conditional_ess = num_temperatures, conditional_ess
        self.num_steps, self.num_posterior_draws = num_steps, num_posterior_draws
        self.both, self.latents, self.jit_compile = both, latents, jit_compile
        self.blocks = split_rows(bound, chains, block_size, agreed_seed(seed))
        self.recorded: dict[Any, CapturedFunction | None] = {}
        self.dynamics: dict[Any, Dynamics] = {}

    def run(self, blocks: Sequence[Block] | None = None) -> Iterator[Annealed]:
        """Yield what is found of each block of data points.

        Args:
            blocks: which ones; all if None.
        """
        with silent(self.bound.model):
            whole = RowDensity(self.bound)
            exact = None if self.latents is None else whole.flatten(self.latents)
            for block in self.blocks if blocks is None else blocks:
                with block.stream.drawing():
                    found = self._of_rows(block.rows, None if exact is None else exact[block.rows])
                yield found.first(block.kept)

    def _target(self, path: Path) -> tuple[RowGradient, Dynamics]:
        """Return the densities of a block, by what was recorded of one of the same shapes."""
        shapes = tuple(tensor.shape for tensor in path.tensors())
        if shapes not in self.recorded:
            with undisturbed(self.bound.arguments):
                self.recorded[shapes] = recorded(path)
        target = RowGradient(path, self.recorded[shapes])
        if not target.captured:
            return target, Dynamics(target.evaluate)
        if shapes not in self.dynamics:
            self.dynamics[shapes] = Dynamics(target.evaluate, jit_compile=self.jit_compile)
        return target, self.dynamics[shapes]

    def _of_rows(self, index: Tensor, exact: Tensor | None) -> Annealed:
        chains = self.chains
        arguments = take_rows(self.bound.arguments, index.repeat(chains))
        density = RowDensity(self.bound, arguments)
        begin = self.source.on(density, index, chains)
        path = Path(density, begin.proposal)
        target, dynamics = self._target(path)
        stages = explore(
            target,
            dynamics,
            path.sample(),
            begin.covariance,
            chains=chains,
            num_steps=self.num_steps,
            known=begin.known,
        )
        number = self.num_temperatures or temperatures_for(stages, self.conditional_ess)
        schedule = Schedule(
            stages,
            number,
            chains=chains,
            num_steps=self.num_steps,
            target=target,
            dynamics=dynamics,
            propose=path.sample,
        )
        start = path.sample()
        state, log_weights = forwards(schedule, State(start, *target(start)))
        likelihood = torch.zeros_like(log_weights)
        for moved in stay(schedule, state, self.num_posterior_draws):
            state = moved
            likelihood += self._log_likelihood(density, state.u) / self.num_posterior_draws
        log_weights = log_weights.reshape(chains, -1)
        ends, backward = state.u.unflatten(0, (chains, -1)), None
        if self.both:
            u = self._resampled(state.u, log_weights) if exact is None else exact.repeat(chains, 1)
            state = State(u, *target(u))
            settling = self.num_posterior_draws
            if exact is None:
                settling = max(LEAST_SETTLING, settling)
            for moved in stay(schedule, state, settling):
                state = moved
            backward = backwards(schedule, state).reshape(chains, -1)
        return Annealed(log_weights, backward, likelihood.reshape(chains, -1), ends, number)

    @torch.no_grad()
    def _log_likelihood(self, density: RowDensity, u: Tensor) -> Tensor:
        draw, _ = density.constrain(u)
        likelihood, _ = self.bound.log_densities(draw, density.arguments)
        inside = [term for term in likelihood.values() if term.dim()]
        return torch.stack(inside).sum(0).double() if inside else u.new_zeros(len(u)).double()

    def _resampled(self, u: Tensor, log_weights: Tensor) -> Tensor:
        """Return particles of each data point drawn again by their weights."""
        weights = (log_weights - log_weights.amax(0)).exp().nan_to_num(nan=1.0)
        chosen = torch.multinomial(weights.mT, self.chains, replacement=True).mT
        wide = u.unflatten(0, (self.chains, -1))
        found: Tensor = wide.gather(0, chosen.unsqueeze(-1).expand_as(wide)).flatten(0, 1)
        return found
