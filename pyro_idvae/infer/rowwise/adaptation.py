# SPDX-License-Identifier: Apache-2.0
"""Warm-up of many rows at once: step sizes, covariances and the length of trajectories."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Largest numbers of leapfrog steps to choose from; each trajectory takes a part of it."""

OVERHEAD = 0.3
"""Cost of an iteration besides its gradients, in gradients."""


GAIN = 0.15
"""Step of dual averaging. It is three times the usual one: several chains average the acceptance,
and the first step size is near, so that there is little to search for."""


class StepSizes:
    """Dual averaging of one step size for each data point (Nesterov; Hoffman & Gelman 2014).

    Args:
        initial: where to begin, of shape ``(data,)``.
        target: the acceptance probability wanted.
    """

    def __init__(self, initial: Tensor, target: float) -> None:
        self.target = target
        self.restart(initial)

    def restart(self, initial: Tensor) -> None:
        """Begin anew at these step sizes."""
        self.centre = (1.5 * initial).log()
        self.log_step = initial.log()
        self.mean_log_step = torch.zeros_like(initial)
        self.error = torch.zeros_like(initial)
        self.count = 0

    def update(self, acceptance: Tensor) -> None:
        """Take in acceptance probabilities, averaged over chains."""
        self.count += 1
        weight = 1 / (self.count + 10)
        self.error = (1 - weight) * self.error + weight * (self.target - acceptance)
        self.log_step = self.centre - self.count**0.5 / GAIN * self.error
        share = self.count**-0.75
        self.mean_log_step = share * self.log_step + (1 - share) * self.mean_log_step

    @property
    def current(self) -> Tensor:
        """The step sizes to explore with."""
        return self.log_step.exp()

    @property
    def final(self) -> Tensor:
        """The averaged step sizes."""
        return self.mean_log_step.exp() if self.count else self.current


def shrunk_covariance(draws: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of each data point's draws, the latter pulled to a guess.

    Args:
        draws: of shape ``(draws, chains, data, K)``.
        guess: covariances, of shape ``(data, K, K)``.
    """
    pooled = draws.flatten(0, 1)
    mean = pooled.mean(0)
    centred = pooled - mean
    covariance = torch.einsum("tni,tnj->nij", centred, centred) / len(pooled)
    # Successive draws are correlated: three of them count as one.
    size, belief = len(pooled) / 3, draws.shape[-1] + 3
    return mean, (size * covariance + belief * guess) / (size + belief)


class Lengths:
    """Search for the trajectory length with the most effective draws for its gradients.

    In the spirit of ChEES (Hoffman, Radul & Sountsov 2021), over numbers of leapfrog steps: each
    length runs for some iterations, and the autocorrelations of the standardised coordinates and
    of their squares, over all rows, give effective draws per gradient. The search goes up as long
    as that gets better.

    Args:
        patience: iterations a length is tried for.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.place = 0
        self.best = (0.0, 2)
        self.worse = 0
        self.positions: list[Tensor] = []
        self.searching = False

    @property
    def current(self) -> int:
        """The length to run with."""
        return LENGTHS[self.place] if self.searching else self.best[1]

    def update(self, positions: Tensor) -> None:
        """Take in one iteration's standardised positions, of shape ``(rows, K)``."""
        if not self.searching:
            return
        self.positions.append(positions)
        if len(self.positions) < self.patience:
            return
        share = effective_share(torch.stack(self.positions))
        merit = share / (0.5 * (self.current + 1) + OVERHEAD)
        self.positions = []
        if merit > self.best[0]:
            self.best, self.worse = (merit, self.current), 0
        else:
            self.worse += 1
        self.place += 1
        self.searching = self.worse < 2 and self.place < len(LENGTHS)


def effective_share(draws: Tensor) -> float:
    """Return effective draws per draw of standardised series: the lesser of x and x².

    Args:
        draws: of shape ``(draws, rows, K)``; their autocorrelations are averaged over rows, up to
            half the number of draws, as long as pairs of them are positive (Geyer).
    """
    shares = []
    for series in (draws, draws.square()):
        centred = series - series.mean((0, 1))
        variance = float(centred.square().mean())
        time = 1.0
        for lag in range(1, len(draws) // 2, 2):
            pair = sum(
                float((centred[:-step] * centred[step:]).mean()) / max(variance, 1e-12)
                for step in (lag, lag + 1)
            )
            time += 2 * pair
            if pair < 0.02:
                break
        shares.append(1 / max(time, 0.5))
    return min(shares)


def jittered(length: int, iteration: int) -> int:
    """Return a number of steps from 1 to ``length``, spread evenly over iterations."""
    # The golden ratio's multiples fill the unit interval more evenly than random numbers.
    return max(1, math.ceil(((iteration + 0.5) * 0.6180339887498949 % 1.0) * length))
