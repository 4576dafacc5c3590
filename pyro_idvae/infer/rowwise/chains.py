# SPDX-License-Identifier: Apache-2.0
"""Chains of a block of data points side by side, with their warm-up."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.adaptation import Lengths, StepSizes, jittered, shrunk_covariance
from pyro_idvae.infer.rowwise.gradients import RowGradient
from pyro_idvae.infer.rowwise.trajectory import Dynamics, Metric, Outcome, State, iterate

WINDOWS = ((0.15, 0.35), (0.35, 0.65))
"""Shares of warm-up whose draws make a new covariance."""
TUNING = (0.7, 0.95)
"""Share of warm-up in which the trajectory length is chosen."""


class Chains:
    """Some data points, each with several chains, and their adaptation.

    Rows are chains times data points, chain by chain.

    Args:
        target: the log density of the rows.
        chains: chains of each data point.
        start: positions, of shape ``(chains * data, K)``.
        covariance: a first guess for each data point, of shape ``(data, K, K)``.
        warmup_steps: iterations that adapt.
        target_accept_prob: acceptance the step sizes are adapted to.
        dynamics: the parts of a trajectory of such rows.
    """

    def __init__(
        self,
        target: RowGradient,
        chains: int,
        start: Tensor,
        covariance: Tensor,
        *,
        warmup_steps: int,
        target_accept_prob: float,
        dynamics: Dynamics,
    ) -> None:
        self.target, self.chains, self.warmup_steps = target, chains, warmup_steps
        self.dynamics = dynamics
        self.state = State(start, *target(start))
        self.data, dim = len(covariance), start.shape[-1]
        self.covariance = covariance
        self.metric = Metric.of(covariance, chains)
        initial = covariance.new_full((self.data,), dim**-0.25)
        self.steps = StepSizes(initial, target_accept_prob)
        self.step = initial
        self.centre = self._by_data(start).mean(0)
        tuning = round((TUNING[1] - TUNING[0]) * warmup_steps)
        self.lengths = Lengths(max(8, tuning // 8))
        self.window: list[Tensor] = []
        self.iteration = 0

    def _by_data(self, rows: Tensor) -> Tensor:
        """Return rows as ``(chains, data, ...)``."""
        return rows.reshape(self.chains, self.data, *rows.shape[1:])

    def _place(self, share: float) -> int:
        return round(share * self.warmup_steps)

    @property
    def current_step(self) -> Tensor:
        """Step sizes of the data points."""
        return self.steps.current if self.iteration < self.warmup_steps else self.step

    def advance(self) -> Outcome:
        """Run one iteration, adapting while warm-up lasts."""
        warming = self.iteration < self.warmup_steps
        length = jittered(self.lengths.current, self.iteration)
        step = self.current_step
        outcome = iterate(
            self.dynamics,
            self.state,
            self.metric,
            step.repeat(self.chains),
            num_steps=length,
            constants=self.target.constants,
        )
        self.state = outcome.state
        self.iteration += 1
        if warming:
            self._adapt(outcome)
        return outcome

    def _adapt(self, outcome: Outcome) -> None:
        self.steps.update(self._by_data(outcome.acceptance).mean(0))
        done = self.iteration
        for start, end in WINDOWS:
            if self._place(start) < done <= self._place(end):
                self.window.append(self._by_data(outcome.state.u))
                if done == self._place(end):
                    self._new_metric()
        if self.lengths.searching:
            self.lengths.update(self._standard(outcome.state.u))
        if done == self._place(TUNING[0]):
            self.lengths.searching = True
        if done == self._place(TUNING[1]):
            self.lengths.searching = False
        if done == self.warmup_steps:
            self.step = self.steps.final

    def _new_metric(self) -> None:
        self.centre, self.covariance = shrunk_covariance(torch.stack(self.window), self.covariance)
        self.metric = Metric.of(self.covariance, self.chains)
        self.window = []
        self.steps.restart(self.steps.final)

    def _standard(self, u: Tensor) -> Tensor:
        """Return positions with their data point's mean and standard deviation taken out."""
        scale = self.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        return ((self._by_data(u) - self.centre) / scale).flatten(0, 1)
