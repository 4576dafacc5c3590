# SPDX-License-Identifier: Apache-2.0
"""Particles that go ahead: where the path is steep, and how far a step may go there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.adaptation import shrunk_covariance
from pyro_idvae.infer.rowwise.gradients import RowGradient
from pyro_idvae.infer.rowwise.trajectory import Dynamics, Metric, State, iterate

SHARE = 0.5
"""Conditional effective sample size, of 1, from one stage to the next: a length of 1."""
MOVES, FIRST_MOVES = 4, 8
"""Iterations at each stage, which adapt the step sizes and the metric; at the first one."""
GAIN = 0.7
"""By which the logarithm of a step size follows the acceptance."""
MOST_STAGES = 60
TARGET_ACCEPT_PROB = 0.8
FARTHEST = 40.0
"""Length of a stage at most: beyond it nothing is known of the path."""


@dataclass(frozen=True)
class Stage:
    """What is known of a place on the path, row by row.

    Attributes:
        temperature: t, of shape ``(data,)``.
        length: of the path from the proposal to here, of shape ``(data,)``. From one temperature
            to another at a distance ℓ the conditional effective sample size is 1 / (1 + ℓ²).
        step: step sizes, of shape ``(data,)``.
        covariance: of shape ``(data, K, K)``.
    """

    temperature: Tensor
    length: Tensor
    step: Tensor
    covariance: Tensor


def rise(log_prob: Tensor) -> Tensor:
    """Return log p − log q of each row; −∞ where that is no number."""
    difference = log_prob[1].double() - log_prob[0].double()
    # A row without density has no weight, wherever the proposal had put it.
    return torch.where(difference.isnan(), -torch.inf, difference)


def shares(temperature: Tensor, like: Tensor) -> tuple[Tensor, ...]:
    """Return the shares of both densities at temperatures of shape ``(rows,)``."""
    return (torch.stack([1 - temperature, temperature]).to(like),)


@torch.no_grad()
def explore(
    target: RowGradient,
    dynamics: Dynamics,
    start: Tensor,
    covariance: Tensor,
    *,
    chains: int,
    num_steps: int,
    known: bool,
) -> list[Stage]:
    """Send particles from the proposal to the posterior, adapting on the way.

    What is found is for others to use: weights of particles that a schedule, step sizes or a metric
    were adapted to are biased upwards.

    Args:
        target: both densities of the path.
        dynamics: the parts of a trajectory of such rows.
        start: draws of the proposal, of shape ``(chains * data, K)``.
        covariance: of the proposal, of shape ``(data, K, K)``.
        chains: particles of each data point.
        num_steps: leapfrog steps of a trajectory.
        known: whether the covariance is one of the posterior, too: then it stays.

    Returns:
        Stages from t = 0 to t = 1.
    """
    data, dim = covariance.shape[:2]
    zero = torch.zeros(data, dtype=torch.float64, device=start.device)
    temperature, length = zero, zero
    state = State(start, *target(start))
    log_step = covariance.new_full((data,), -0.25 * math.log(dim))
    stages: list[Stage] = []
    for number in range(MOST_STAGES + 1):
        metric, positions, steps = Metric.of(covariance, chains), [], []
        for _ in range(MOVES if stages else FIRST_MOVES):
            outcome = iterate(
                dynamics,
                state,
                metric,
                log_step.exp().repeat(chains),
                num_steps=num_steps,
                constants=target.constants,
                shares=shares(temperature.repeat(chains), start),
            )
            state = outcome.state
            acceptance = outcome.acceptance.reshape(chains, data).mean(0)
            log_step = log_step + GAIN * (acceptance - TARGET_ACCEPT_PROB)
            steps.append(log_step)
            positions.append(state.u.reshape(chains, data, dim))
        if not known:
            _, covariance = shrunk_covariance(torch.stack(positions), covariance)
        # The path changes from stage to stage: what was learnt long before is of little use.
        step = torch.stack(steps[-MOVES:]).mean(0).exp()
        stages.append(Stage(temperature, length, step, covariance))
        if bool((temperature >= 1).all()):
            break
        rises = rise(state.log_prob).reshape(chains, data)
        temperature, gone = onwards(rises, temperature, last=number == MOST_STAGES - 1)
        length = length + gone
    return stages


def onwards(rises: Tensor, temperature: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
    """Return the next temperatures and how far away they are.

    Args:
        rises: log p − log q, of shape ``(chains, data)``.
        temperature: of shape ``(data,)``.
        last: whether it must be 1.
    """
    low, high = torch.zeros_like(temperature), 1 - temperature
    whole = conditional_size(rises, high)
    if last:
        return torch.ones_like(temperature), distance(whole)
    low_log, high_log = high.clamp_min(1e-12).log() - 40, high.clamp_min(1e-12).log()
    for _ in range(40):
        middle = 0.5 * (low_log + high_log)
        enough = conditional_size(rises, middle.exp()) >= SHARE
        low_log = torch.where(enough, middle, low_log)
        high_log = torch.where(enough, high_log, middle)
    arrives = whole >= SHARE
    step = torch.where(arrives, high, low_log.exp())
    size = torch.where(arrives, whole, conditional_size(rises, step))
    following = torch.where(arrives, torch.ones_like(temperature), temperature + step)
    return following.clamp_max(1.0), torch.where(high > low, distance(size), low)


def conditional_size(rises: Tensor, step: Tensor) -> Tensor:
    """Return (Σw)² / (n Σw²) of the weights w = exp(step · rise), by data point."""
    log_weights = (step * rises).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    size = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0) - math.log(len(rises))
    return size.exp().nan_to_num(nan=0.0)


def distance(size: Tensor) -> Tensor:
    """Return the length ℓ at which a conditional effective sample size is 1 / (1 + ℓ²)."""
    return (1 / size.clamp_min(1e-9) - 1).clamp_min(0.0).sqrt().clamp_max(FARTHEST)
