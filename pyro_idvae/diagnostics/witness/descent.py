# SPDX-License-Identifier: Apache-2.0
"""The search itself: Adam from many pairs of settings, then L-BFGS from the most promising."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from pyro_idvae.diagnostics.witness.distances import Distances
from pyro_idvae.errors import DataError

INDISTINCT = 1e-6
"""Nats that nobody tells from 0: of two pairs below, the one further apart is better."""
PROMISING = 1.0
"""Nats: of two pairs below, the one further apart is polished."""
NUM_POLISHED, POLISHING_STEPS = 5, 60
"""Pairs that are, and the steps of each at most."""
SEARCH_DRAWS, POLISHING_DRAWS = 8, 64
"""Draws of data for sites without a closed form."""
REDRAWN = 20
"""Adam steps after which data are drawn anew."""
LAST_RATE = 1e-4
"""What the learning rate falls to, in its own units, over the second half of the steps."""
ROUNDING = 1e-9
"""Of lengths."""


class Descent:
    """Brings the second of each pair to where √J per unit of separation is least.

    The first stays where it is: moved too, it would find the few places where data say little of
    anything, such as loadings of 0.

    Args:
        distances: what is to be made small.
        reach: radius of the ball that the second stays in.
        apart: least separation.
    """

    def __init__(self, distances: Distances, *, reach: float, apart: float) -> None:
        self.distances, self.reach, self.apart = distances, reach, apart
        self.lowest = distances.settings.lowest

    def inside(self, points: Tensor) -> Tensor:
        """Pull points into the ball."""
        length = points.norm(dim=-1, keepdim=True).clamp_min(ROUNDING)
        pulled: Tensor = points * (self.reach / length).clamp_max(1.0)
        return pulled

    def placed(self, first: Tensor, moving: Tensor) -> Tensor:
        """Return where the second point stands: inside the ball, and away from the first."""
        gap = self.inside(moving) - first
        short = self.apart / gap.norm(dim=-1, keepdim=True).clamp_min(ROUNDING)
        pushed: Tensor = first + gap * short.clamp_min(1.0)
        return pushed

    def below(self, log_prior: Tensor) -> Tensor:
        """Return by how many nats points are less probable than any prior draw."""
        return (self.lowest - log_prior).clamp_min(0.0)

    @torch.no_grad()
    def score(self, distance: Tensor, points: Tensor, log_prior: Tensor, least: float) -> Tensor:
        """Return √(J + least) / separation by pair; infinity for what is no candidate."""
        gap = (points[1] - points[0]).norm(dim=-1)
        score = ((distance + least).sqrt() / gap).nan_to_num(nan=math.inf, posinf=math.inf)
        outside = points[1].norm(dim=-1) > self.reach * (1 + ROUNDING)
        refused = outside | (self.below(log_prior).sum(0) > 0)
        return torch.where(refused, math.inf, score)

    def by_adam(self, pairs: Tensor, num_steps: int, learning_rate: float) -> list[Tensor]:
        """Return the best pair met, then those of the last step that promise most."""
        first, moving = pairs[0].detach(), pairs[1].detach().requires_grad_()
        optimizer = torch.optim.Adam([moving], lr=learning_rate)
        best, least = pairs[:, 0].detach(), math.inf
        drawn: dict[str, Tensor] = {}
        for step in range(num_steps + 1):
            points = torch.stack([first, self.placed(first, moving)])
            if step % REDRAWN == 0:
                drawn = self.distances.draw(points.detach(), SEARCH_DRAWS)
            distance, log_prior = self.distances(points, drawn)
            score = self.score(distance, points, log_prior, INDISTINCT)
            if score.min() < least:
                best, least = points[:, score.argmin()].detach(), score.min().item()
            if step == num_steps:
                break
            gap = (points[1] - points[0]).norm(dim=-1)
            penalty = self.below(log_prior).sum(0)
            loss = (distance + INDISTINCT).log() - 2 * gap.log() + penalty
            (gradient,) = torch.autograd.grad(loss.sum(), moving)
            moving.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * LAST_RATE ** max(0.0, 2 * step / num_steps - 1)
            optimizer.step()
        promising = self.score(distance, points, log_prior, PROMISING)
        order = promising.argsort()[:NUM_POLISHED]
        return [best, *points.detach()[:, order].unbind(1)]

    def polished(self, pair: Tensor) -> Tensor:
        """Return a pair at the minimum of J / separation² that L-BFGS leads to."""
        first = pair[0]
        drawn = {
            name: draws[0]
            for name, draws in self.distances.draw(pair.unsqueeze(1), POLISHING_DRAWS).items()
        }

        def objective(array: Any) -> tuple[float, Any]:
            moving = torch.as_tensor(array).to(first).requires_grad_()
            other = self.placed(first, moving)
            distance, log_prior = self.distances.of_pair(torch.stack([first, other]), drawn)
            loss = distance / (other - first).square().sum() + self.below(log_prior).sum()
            (gradient,) = torch.autograd.grad(loss, moving)
            return loss.item(), gradient.cpu().numpy()

        start = pair[1].cpu().numpy()
        options = {"maxiter": POLISHING_STEPS, "ftol": 0.0, "gtol": INDISTINCT**1.5}
        with np.errstate(all="ignore"):
            found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        return torch.stack([first, self.placed(first, torch.as_tensor(found.x).to(first))])


def best_pair(
    distances: Distances,
    pairs: Tensor,
    *,
    reach: float,
    apart: float,
    num_steps: int,
    learning_rate: float,
) -> Tensor:
    """Return the pair of least √J per unit of separation that the search meets.

    Args:
        distances: J and log priors of pairs.
        pairs: where to start, of shape ``(2, pairs, dim)``.
        reach: radius of the ball.
        apart: least separation.
        num_steps: Adam steps.
        learning_rate: of Adam.

    Raises:
        DataError: if no pair that is allowed has a finite distance.
    """
    descent = Descent(distances, reach=reach, apart=apart)
    pairs = torch.stack([descent.inside(pairs[0]), pairs[1]])
    met = descent.by_adam(pairs, num_steps, learning_rate)
    found = torch.stack([*met, *map(descent.polished, met)], 1)
    with torch.no_grad():
        distance, log_prior = distances(found, distances.draw(found, POLISHING_DRAWS))
    score = descent.score(distance, found, log_prior, INDISTINCT)
    if not bool(score.isfinite().any()):
        raise DataError(
            "no two settings in the bulk of the prior have a finite distance: check the data and "
            "the parameters, or pass a larger num_starts"
        )
    return found[:, score.argmin()]
