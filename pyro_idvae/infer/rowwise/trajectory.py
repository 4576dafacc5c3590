# SPDX-License-Identifier: Apache-2.0
"""Hamiltonian trajectories of many independent rows at once, each in its own metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.compiled import Compiled
from pyro_idvae.infer.rowwise.gradients import Evaluate

MAX_ENERGY_ERROR = 1000.0
"""A trajectory whose energy rises by more is divergent; Pyro's and Stan's limit."""


class State(NamedTuple):
    """Where each row is; rows are chains times data points."""

    u: Tensor
    """Position, of shape ``(rows, K)``."""
    log_prob: Tensor
    """Of shape ``(rows,)``, or ``(2, rows)`` for a path between two densities."""
    gradient: Tensor
    """Of the shape of log_prob + ``(K,)``."""


class Metric(NamedTuple):
    """A covariance C = LLᵀ for each row: velocities are C times momenta."""

    covariance: Tensor
    factor: Tensor
    """L."""
    inverse_factor: Tensor
    """L⁻ᵀ."""

    @staticmethod
    def of(covariance: Tensor, chains: int) -> Metric:
        """Return the metric of covariances of shape ``(data, K, K)``, for all chains."""
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        # Any metric is right: rows whose covariance rounding has spoilt make do with the unit one.
        broken = ((failed > 0) | ~factor.isfinite().all(-1).all(-1))[:, None, None]
        covariance, factor = (torch.where(broken, eye, part) for part in (covariance, factor))
        inverse = torch.linalg.solve_triangular(factor, eye, upper=False).mT
        return Metric(*(part.repeat(chains, 1, 1) for part in (covariance, factor, inverse)))


class Outcome(NamedTuple):
    """The end of an iteration."""

    state: State
    acceptance: Tensor
    """Metropolis acceptance probability of each row."""
    diverging: Tensor
    energy: Tensor
    """Energy at the start of the trajectory, in nats."""


def product(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return the product of ``(rows, K, K)`` and ``(rows, K)``."""
    if vectors.shape[-1] > 16:
        return (matrices @ vectors.unsqueeze(-1)).squeeze(-1)
    return (matrices * vectors.unsqueeze(-2)).sum(-1)


Tensors = tuple[Tensor, ...]


class Motion(NamedTuple):
    """A trajectory on its way."""

    u: Tensor
    momentum: Tensor
    velocity: Tensor
    gradient: Tensor
    """As a state has it: of the density, or of both of a path."""
    force: Tensor
    """The gradient of what is sampled in the metric: covariance times gradient."""
    log_prob: Tensor


class Start(NamedTuple):
    """What a trajectory begins with."""

    energy: Tensor
    motion: Motion


class Verdict(NamedTuple):
    """Whether the end of a trajectory is taken."""

    state: State
    acceptance: Tensor
    diverging: Tensor


def blend(values: Tensor, shares: Tensors) -> Tensor:
    """Return what is sampled: the density itself, or a path's mixture of two log densities.

    Args:
        values: log densities or gradients, with a first dimension of 2 if there are shares.
        shares: nothing, or one tensor of shape ``(2, rows)``.
    """
    if not shares:
        return values
    share = shares[0].reshape(shares[0].shape + (1,) * (values.dim() - 2))
    return (share * values).sum(0)


def begin(state: State, metric: Metric, noise: Tensor, shares: Tensors) -> Start:
    """Return energy, momentum, velocity and force at the start."""
    u, log_prob, gradient = state
    return Start(
        0.5 * noise.square().sum(-1) - blend(log_prob, shares),
        Motion(
            u,
            product(metric.inverse_factor, noise),
            product(metric.factor, noise),
            gradient,
            product(metric.covariance, blend(gradient, shares)),
            log_prob,
        ),
    )


def end(motion: Motion, state: State, energy: Tensor, uniform: Tensor, shares: Tensors) -> Verdict:
    """Accept the end of a trajectory, or go back to its start.

    Args:
        motion: the end.
        state: the start.
        energy: at the start.
        uniform: random numbers in [0, 1), one a row.
        shares: of the densities of a path; see :func:`blend`.
    """
    kinetic = 0.5 * (motion.momentum * motion.velocity).sum(-1)
    change = kinetic - blend(motion.log_prob, shares) - energy
    change = torch.where(change.isnan(), torch.full_like(change, torch.inf), change)
    acceptance = (-change).exp().clamp_max(1.0)
    taken = uniform < acceptance
    wide = taken.unsqueeze(-1)
    return Verdict(
        State(
            torch.where(wide, motion.u, state.u),
            torch.where(taken, motion.log_prob, state.log_prob),
            torch.where(wide, motion.gradient, state.gradient),
        ),
        acceptance,
        change > MAX_ENERGY_ERROR,
    )


class Dynamics:
    """The three parts of a trajectory: start, leapfrog steps in velocities, acceptance.

    Velocities are the metric times momenta, so that the metric is applied once to each gradient.

    Args:
        evaluate: the density of some rows and its gradient, or both of a path and theirs.
        jit_compile: compile the parts by ``torch.compile``, at their first use.
    """

    def __init__(self, evaluate: Evaluate, *, jit_compile: bool = False) -> None:
        self.evaluate = evaluate
        parts: list[Callable[..., Any]] = [begin, self._leap, end]
        chosen: list[Callable[..., Any]] = [*map(Compiled, parts)] if jit_compile else parts
        self.begin, self.leap, self.end = chosen

    def _leap(
        self,
        motion: Motion,
        half: Tensor,
        covariance: Tensor,
        constants: Tensors,
        shares: Tensors,
    ) -> Motion:
        """Return the motion after a leapfrog step of twice ``half``."""
        momentum = motion.momentum + half * blend(motion.gradient, shares)
        velocity = motion.velocity + half * motion.force
        u = motion.u + 2 * half * velocity
        log_prob, gradient = self.evaluate(u, *constants)
        slope = blend(gradient, shares)
        force = product(covariance, slope)
        return Motion(
            u, momentum + half * slope, velocity + half * force, gradient, force, log_prob
        )


@torch.no_grad()
def iterate(
    dynamics: Dynamics,
    state: State,
    metric: Metric,
    step: Tensor,
    *,
    num_steps: int,
    constants: list[Tensor],
    shares: Tensors = (),
) -> Outcome:
    """Run one trajectory of each row and accept or refuse its end.

    Args:
        dynamics: the parts of a trajectory.
        state: where the rows are.
        metric: their covariances.
        step: step sizes, of shape ``(rows,)``.
        num_steps: leapfrog steps, the same for all.
        constants: what the density takes besides positions.
        shares: of the two densities of a path, of shape ``(2, rows)``; nothing for one density.
    """
    energy, motion = dynamics.begin(state, metric, torch.randn_like(state.u), shares)
    half = 0.5 * step.unsqueeze(-1)
    for _ in range(num_steps):
        motion = dynamics.leap(motion, half, metric.covariance, tuple(constants), shares)
    uniform = torch.rand_like(energy)
    verdict = dynamics.end(motion, state, energy, uniform, shares)
    return Outcome(verdict.state, verdict.acceptance, verdict.diverging, energy)
