# SPDX-License-Identifier: Apache-2.0
"""A frozen schedule: temperatures, step sizes and metrics, found by a pilot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.annealing.pilot import Stage, rise, shares
from pyro_idvae.infer.rowwise.gradients import RowGradient
from pyro_idvae.infer.rowwise.trajectory import Dynamics, Metric, State, iterate

JITTER = (0.5, 1.2)
"""Factors of step sizes: trajectories of one length would come back to where they began."""


class Schedule:
    """Kernels along a path, the same for whatever particles go along it.

    Temperatures are spaced evenly in the length of each row's path; step sizes and covariances are
    those of the pilot's stages, and in between their means.

    Args:
        stages: of the pilot, from t = 0 to t = 1.
        number: temperatures above 0; the last one is 1.
        chains: particles of each data point.
        num_steps: leapfrog steps of a trajectory.
        target: both densities of the path.
        dynamics: the parts of a trajectory of such rows.
        propose: returns a draw of the proposal for each row.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        number: int,
        *,
        chains: int,
        num_steps: int,
        target: RowGradient,
        dynamics: Dynamics,
        propose: Callable[[], Tensor],
    ) -> None:
        self.propose = propose
        self.chains, self.num_steps, self.number = chains, num_steps, number
        self.target, self.dynamics = target, dynamics
        self.temperatures = torch.stack([stage.temperature for stage in stages])
        self.lengths = torch.stack([stage.length for stage in stages])
        self.log_steps = torch.stack([stage.step for stage in stages]).log()
        self.covariances = torch.stack([stage.covariance for stage in stages])
        self.end = Metric.of(stages[-1].covariance, chains)

    def place(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the stage below the temperature of this index, and how far it is to the next."""
        wanted = self.lengths[-1] * (index / self.number)
        below = (self.lengths[1:] <= wanted).sum(0).clamp_max(len(self.lengths) - 2)
        low, high = (_pick(self.lengths, below + k) for k in (0, 1))
        part = ((wanted - low) / (high - low).clamp_min(1e-12)).clamp(0.0, 1.0)
        return below, part

    def temperature(self, index: int) -> Tensor:
        """Return t of each data point, of shape ``(data,)``; 0 for 0 and 1 for the last."""
        if index == self.number:
            return torch.ones_like(self.temperatures[0])
        if index == 0:
            return torch.zeros_like(self.temperatures[0])
        return self._between(self.temperatures, *self.place(index))

    def advance(self, state: State, index: int, *, reverse: bool = False) -> State:
        """Move particles by the kernel of one temperature, which leaves its density invariant.

        A trajectory, and a jump to a draw of the proposal, accepted by Metropolis's rule: where the
        proposal is good, it takes particles from mode to mode, and frees those that are stuck.

        Args:
            state: where they are.
            index: of the temperature.
            reverse: whether to jump first, which is the kernel backwards.
        """
        temperature = self.temperature(index).repeat(self.chains)
        if reverse:
            return self._trajectory(self._jump(state, temperature), index, temperature)
        return self._jump(self._trajectory(state, index, temperature), temperature)

    def _trajectory(self, state: State, index: int, temperature: Tensor) -> State:
        if index == self.number:
            log_step, metric = self.log_steps[-1], self.end
        else:
            below, part = self.place(index)
            log_step = self._between(self.log_steps, below, part)
            metric = Metric.of(self._between(self.covariances, below, part), self.chains)
        low, high = JITTER
        factor = low + (high - low) * torch.rand_like(log_step)
        return iterate(
            self.dynamics,
            state,
            metric,
            (factor * log_step.exp()).repeat(self.chains),
            num_steps=self.num_steps,
            constants=self.target.constants,
            shares=shares(temperature, state.u),
        ).state

    def _jump(self, state: State, temperature: Tensor) -> State:
        u = self.propose()
        other = State(u, *self.target(u))
        gain = temperature * (rise(other.log_prob) - rise(state.log_prob))
        taken = torch.rand_like(gain).log() < gain
        wide = taken.unsqueeze(-1)
        return State(
            torch.where(wide, u, state.u),
            torch.where(taken, other.log_prob, state.log_prob),
            torch.where(wide, other.gradient, state.gradient),
        )

    @staticmethod
    def _between(values: Tensor, below: Tensor, part: Tensor) -> Tensor:
        low, high = _pick(values, below), _pick(values, below + 1)
        share = part.reshape(part.shape + (1,) * (low.dim() - 1)).to(low)
        return low + share * (high - low)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Return ``values[index[i], i]`` for each i."""
    return values[index, torch.arange(len(index), device=index.device)]


def temperatures_for(stages: Sequence[Stage], conditional_ess: float) -> int:
    """Return how many temperatures give this conditional effective sample size in every row."""
    longest = float(stages[-1].length.max())
    return max(2, math.ceil(longest / math.sqrt(1 / conditional_ess - 1)))
