# SPDX-License-Identifier: Apache-2.0
"""Hamiltonian trajectories of many independent rows at once, each in its own metric."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_idvae.infer.rowwise.gradients import Evaluate

MAX_ENERGY_ERROR = 1000.0
"""A trajectory whose energy rises by more is divergent; Pyro's and Stan's limit."""


class State(NamedTuple):
    """Where each row is; rows are chains times data points."""

    u: Tensor
    """Position, of shape ``(rows, K)``."""
    log_prob: Tensor
    gradient: Tensor


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
Part = Callable[..., Tensors]


class Dynamics:
    """The three parts of a trajectory: start, leapfrog steps in velocities, acceptance.

    Velocities are the metric times momenta, so that the metric is applied once to each gradient.

    Args:
        evaluate: the density of some rows and its gradient.
        jit_compile: compile the parts by ``torch.compile``, at their first use.
    """

    def __init__(self, evaluate: Evaluate, *, jit_compile: bool = False) -> None:
        self.evaluate = evaluate
        parts: list[Part] = [_begin, self._leap, _end]
        self.begin, self.leap, self.end = map(_compiled, parts) if jit_compile else parts

    def _leap(
        self,
        u: Tensor,
        momentum: Tensor,
        velocity: Tensor,
        gradient: Tensor,
        force: Tensor,
        *others: Tensor,
    ) -> Tensors:
        half, covariance, *constants = others
        momentum = momentum + half * gradient
        velocity = velocity + half * force
        u = u + 2 * half * velocity
        log_prob, gradient = self.evaluate(u, *constants)
        force = product(covariance, gradient)
        momentum, velocity = momentum + half * gradient, velocity + half * force
        return u, momentum, velocity, gradient, force, log_prob


KEPT = 64
"""Compiled parts kept for the next sampler of the same operations."""

_compiled_parts: OrderedDict[str, Part] = OrderedDict()


def _compiled(part: Part) -> Part:
    compiled: list[Part] = []

    def run(*tensors: Tensor) -> Tensors:
        if not compiled:
            compiled.append(_compile(part, tensors))
        return compiled[0](*tensors)

    return run


def _compile(part: Part, tensors: Tensors) -> Part:
    """Compile a recording of a part; the same operations on the same shapes only once.

    A recording, as torch.compile gives up on one function compiled for many models.
    """
    graph = make_fx(part)(*tensors)
    kinds = [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]
    key = f"{graph.code}{kinds}"
    closed = all(node.op != "get_attr" for node in graph.graph.nodes)
    if closed and key in _compiled_parts:
        return _compiled_parts[key]
    compiled: Part = torch.compile(graph, dynamic=False)
    if closed:
        _compiled_parts[key] = compiled
        while len(_compiled_parts) > KEPT:
            _compiled_parts.popitem(last=False)
    return compiled


def _begin(noise: Tensor, log_prob: Tensor, gradient: Tensor, *metric: Tensor) -> Tensors:
    """Return energy, momentum, velocity and force at the start."""
    covariance, factor, inverse_factor = metric
    return (
        0.5 * noise.square().sum(-1) - log_prob,
        product(inverse_factor, noise),
        product(factor, noise),
        product(covariance, gradient),
    )


def _end(energy: Tensor, uniform: Tensor, *others: Tensor) -> Tensors:
    """Return the new state's parts, the acceptance probability and who diverged."""
    u, momentum, velocity, gradient, log_prob, old_u, old_log_prob, old_gradient = others
    change = 0.5 * (momentum * velocity).sum(-1) - log_prob - energy
    change = torch.where(change.isnan(), torch.full_like(change, torch.inf), change)
    acceptance = (-change).exp().clamp_max(1.0)
    taken = uniform < acceptance
    wide = taken.unsqueeze(-1)
    return (
        torch.where(wide, u, old_u),
        torch.where(taken, log_prob, old_log_prob),
        torch.where(wide, gradient, old_gradient),
        acceptance,
        change > MAX_ENERGY_ERROR,
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
) -> Outcome:
    """Run one trajectory of each row and accept or refuse its end.

    Args:
        dynamics: the parts of a trajectory.
        state: where the rows are.
        metric: their covariances.
        step: step sizes, of shape ``(rows,)``.
        num_steps: leapfrog steps, the same for all.
        constants: what the density takes besides positions.
    """
    noise = torch.randn_like(state.u)
    energy, *rest = dynamics.begin(noise, state.log_prob, state.gradient, *metric)
    momentum, velocity, force = rest
    u, log_prob, gradient = state
    half = 0.5 * step.unsqueeze(-1)
    for _ in range(num_steps):
        u, momentum, velocity, gradient, force, log_prob = dynamics.leap(
            u, momentum, velocity, gradient, force, half, metric.covariance, *constants
        )
    uniform = torch.rand_like(log_prob)
    old = (state.u, state.log_prob, state.gradient)
    u, log_prob, gradient, acceptance, diverging = dynamics.end(
        energy, uniform, u, momentum, velocity, gradient, log_prob, *old
    )
    return Outcome(State(u, log_prob, gradient), acceptance, diverging, energy)
