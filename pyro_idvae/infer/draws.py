# SPDX-License-Identifier: Apache-2.0
"""Draws of latents with their log densities: what every sampler and guide returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pyro_idvae._chains import balanced
from pyro_idvae.infer.chain_mass import MOST_ANNEALED, ChainMass, chain_mass
from pyro_idvae.infer.limits import (
    Limits,
    Replacing,
    add_directions,
    coordinate_limits,
    find_directions,
    guide_limits,
    limit_sums,
    replacing_of,
)
from pyro_idvae.infer.normal_scores import normal_scores
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.side_by_side import (
    PriorDraws,
    densities_of,
    guide_draws,
    nth,
    prior_draws,
    stack,
)


@dataclass(frozen=True)
class Draws:
    """Draws from a posterior, in tensors; log densities are in nats.

    Attributes:
        values: latents by site, of shape ``(chain, draw) + site shape``.
        log_likelihood: log p(x|z) by observed site, of shape ``(chain, draw, rows)``, or
            ``(chain, draw)`` outside the data plate.
        log_prior: log p(z) by latent site, likewise.
        stats: statistics of the sampler, or ``log_q``, of the same shapes.
        normal_scores: the latents on the scale on which their prior is N(0, 1), by site, where that
            scale is known; of the values' shapes.
        independent: whether the draws are independent, as a guide's are, or come from chains.
        method: how they were made, e.g. ``"svi"`` or ``"nuts"``.
        prior: draws from the prior; None if there are none.
        mass: what share of each row's posterior its chains stand for; None if unknown.
        limits: bounds on what the marginals know; None if not computed.
        complete: whether these are all the draws that were wanted; an interrupt may have ended the
            sampling.
    """

    values: Values
    log_likelihood: Values
    log_prior: Values
    stats: Values
    normal_scores: Values
    independent: bool
    method: str
    prior: PriorDraws | None = field(default=None, repr=False)
    mass: ChainMass | None = field(default=None, repr=False)
    limits: Limits | None = field(default=None, repr=False)
    complete: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of chains and of draws in each."""
        return shape_of(self.values)

    def with_prior(self, bound: BoundModel, count: int) -> Draws:
        """Return these draws with as many from the prior."""
        return replace(self, prior=prior_draws(bound, count))

    def with_limits(self, bound: BoundModel, num_draws: int | None = None) -> Draws:
        """Return these draws with bounds on what each latent's marginal knows.

        Args:
            bound: the model on its data, with the guide if the draws are a guide's.
            num_draws: draws to find them from; None for what costs a fifth of sampling.
        """
        found = self.with_coordinate_limits(bound, num_draws)
        replacing = None if self.independent else found.replacing(bound, num_draws)
        if found.limits is None or replacing is None:
            return found
        sums = [limit_sums(bound, found.limits.means)]
        candidates = find_directions(bound, sums, lambda step: [step(replacing)])
        return replace(found, limits=add_directions(found.limits, replacing, candidates))

    def with_coordinate_limits(
        self, bound: BoundModel, num_draws: int | None = None, *, share: float = 1.0
    ) -> Draws:
        """Return these draws with the masses of chains and the bounds of single coordinates.

        Args:
            bound: the model on its data, with the guide if the draws are a guide's.
            num_draws: draws to find them from.
            share: of these rows among all.
        """
        if self.independent:
            return replace(self, limits=guide_limits(bound, self.values))
        whole = replace(self, mass=chain_mass(bound, self.values, math.ceil(share * MOST_ANNEALED)))
        return replace(whole, limits=coordinate_limits(whole.replacing(bound, num_draws)))

    def replacing(self, bound: BoundModel, num_draws: int | None) -> Replacing | None:
        """Return the draws in which latents are replaced; None if none can be bounded."""
        return replacing_of(bound, self.values, self.mass, num_draws)

    def weighed(self, bound: BoundModel) -> Values:
        """Return the latents with the chains of each row in the shares of their modes' masses."""
        if self.mass is None:
            return self.values
        mass, found = self.mass.mass.cpu().double().numpy(), {}
        for name, value in self.values.items():
            place = 2 + (bound.row_place(name) or 0)
            moved = balanced(value.movedim(place, 2).cpu().numpy(), mass)
            found[name] = torch.as_tensor(moved).to(value).movedim(2, place)
        return found


def shape_of(values: Values) -> tuple[int, int]:
    """Return the numbers of chains and of draws in each."""
    chains, draws = next(iter(values.values())).shape[:2]
    return chains, draws


def flat(values: Values) -> Values:
    """Return draws of all chains along one dimension."""
    return {name: value.flatten(0, 1) for name, value in values.items()}


def evaluated(
    bound: BoundModel,
    values: Values,
    stats: Mapping[str, Tensor],
    *,
    independent: bool,
    method: str,
) -> Draws:
    """Return draws with all that the model says of them.

    Args:
        bound: the model on its data.
        values: latents, of shape ``(chain, draw) + site shape``.
        stats: statistics, of shape ``(chain, draw)`` or ``(chain, draw, rows)``.
        independent: whether they are independent.
        method: how they were made.
    """
    shape = shape_of(values)
    likelihood, prior = (
        {name: value.unflatten(0, shape) for name, value in side.items()}
        for side in densities_of(bound, flat(values))
    )
    return Draws(
        values=values,
        log_likelihood=likelihood,
        log_prior=prior,
        stats=dict(stats),
        normal_scores=normal_scores(bound, values),
        independent=independent,
        method=method,
    )


def draw_guide(bound: BoundModel, num_samples: int) -> Draws:
    """Draw from a guide; one chain of independent draws."""
    values, log_q = guide_draws(bound, num_samples)
    drawn = {name: value.unsqueeze(0) for name, value in values.items()}
    stats = {"log_q": log_q.unsqueeze(0)}
    return evaluated(bound, drawn, stats, independent=True, method="svi")


@torch.no_grad()
def predictive(bound: BoundModel, values: Values) -> Values:
    """Return new observations for each draw, of shape ``(chain, draw) + site shape``."""
    shape, one = shape_of(values), flat(values)
    with bound.running():
        new = [bound.predict(nth(one, i)) for i in range(shape[0] * shape[1])]
    return {name: value.unflatten(0, shape) for name, value in stack(new).items()}


@torch.no_grad()
def assignments(bound: BoundModel, draws: Draws) -> Values:
    """Return p(y | x) of each discrete site that is summed out: a mean over posterior draws.

    Args:
        bound: the model on its data.
        draws: draws of its other latents.

    Returns:
        By site, tensors of the shape of its plates + ``(values,)``.
    """
    one, count = flat(draws.values), draws.shape[0] * draws.shape[1]
    each = [bound.assignments(nth(one, i)) for i in range(count)]
    return {name: value.mean(0) for name, value in stack(each).items()}
