# SPDX-License-Identifier: Apache-2.0
"""Annealed importance sampling along a frozen schedule, forwards and backwards."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.annealing.pilot import rise
from pyro_idvae.infer.rowwise.annealing.schedule import Schedule
from pyro_idvae.infer.rowwise.trajectory import State


@torch.no_grad()
def forwards(schedule: Schedule, state: State) -> tuple[State, Tensor]:
    r"""Take particles from the proposal to the posterior; return them with their log weights.

    .. math:: \log w = \sum_k (t_k - t_{k-1})\,
        \bigl(\log p(x, u_{k-1}) - \log q(u_{k-1})\bigr), \qquad \mathbb E\,w = p(x)

    Args:
        schedule: the kernels.
        state: draws of the proposal.

    Returns:
        The particles, weighted draws of the posterior, and log weights of ``(chains * data,)``.
    """
    log_weights = torch.zeros_like(state.log_prob[0], dtype=torch.float64)
    for index in range(1, schedule.number + 1):
        log_weights = log_weights + _gain(schedule, state, index)
        state = schedule.advance(state, index)
    return state, log_weights


@torch.no_grad()
def backwards(schedule: Schedule, state: State) -> Tensor:
    r"""Take particles from the posterior to the proposal; return the same log weights of them.

    .. math:: \mathbb E\,\frac1w = \frac1{p(x)}\quad\text{if they begin at draws of } p(z|x)

    Args:
        schedule: the kernels.
        state: draws of the posterior.
    """
    log_weights = torch.zeros_like(state.log_prob[0], dtype=torch.float64)
    for index in range(schedule.number, 0, -1):
        log_weights = log_weights + _gain(schedule, state, index)
        if index > 1:
            state = schedule.advance(state, index - 1, reverse=True)
    return log_weights


def _gain(schedule: Schedule, state: State, index: int) -> Tensor:
    """Return (t_k − t_{k−1}) (log p − log q) of each row."""
    step = schedule.temperature(index) - schedule.temperature(index - 1)
    return step.repeat(schedule.chains) * rise(state.log_prob)


@torch.no_grad()
def stay(schedule: Schedule, state: State, number: int) -> Iterator[State]:
    """Move particles at the posterior, so many times; yield where they are after each."""
    for _ in range(number):
        state = schedule.advance(state, schedule.number)
        yield state
