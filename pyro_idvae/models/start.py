# SPDX-License-Identifier: Apache-2.0
"""Where the training of an injection in noise units begins: at what a linear map would find."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_idvae._checks import inverse_softplus
from pyro_idvae.distributions import CategoricalFamily, Family, in_noise_units
from pyro_idvae.distributions.base_rates import NUM_DRAWS, at_prior, prior_draws, prior_spread
from pyro_idvae.distributions.base_scores import base_centre, base_scores
from pyro_idvae.errors import ArgumentError
from pyro_idvae.potentials import PartiallyConvexPotential, RidgePotential
from pyro_idvae.potentials.learnable import LearnablePotential
from pyro_idvae.transforms import BrenierInjection, ConditionalInjection, Injection
from pyro_idvae.transforms.linear import InjectiveLinear

EXCESS = 0.2
"""Above each floor, as a share of it."""
RIDGES = 0.4
"""How much of their usual weight ridges begin with."""
NEAR = 1.0
"""Least spread of the arguments of ridges in data space."""
MOST_NUMBERS = 2**24
"""Of the observations whose directions are sought."""
SPARE_DIRECTIONS, POWER_ITERATIONS = 10, 4
SLOPE_DRAWS = 16
WITHIN = 0.05
"""Least distance from a floor and a ceiling, as a share of what lies between them."""


@torch.no_grad()
def begin_at_base(injection: BrenierInjection, family: Family, base: Tensor) -> None:
    r"""Bring an injection near the linear map that the data ask for, in place.

    The mean of f over the prior is at the base rates, its directions are the principal ones
    of the observations' scores there, and its slope in a direction of eigenvalue λ is
    :math:`\sqrt{\lambda-1}`, as in probabilistic PCA, or a little more than the floor where that is
    larger. Log rates begin at the floors: steeper, rare features would go anywhere.

    Args:
        injection: as it was made.
        family: of the observations, not in noise units.
        base: observations, of shape ``(rows,) + event_shape``.
    """
    beta, last = injection.beta, injection.g2.potential
    if not isinstance(last, LearnablePotential):
        raise ArgumentError(f"g2 has a {type(last).__name__}, which has nothing to shift")
    lower(beta, injection.g1.potential, last)
    width = injection.data_dim
    at_base = in_noise_units(family, base, width, spread=prior_spread(injection))
    x = base.reshape(-1, *family.event_shape(width))
    if family.needs_total_count:
        x = x[x.sum(-1) > 0]  # the others say nothing
    x = _some(x, width)
    directions, slopes = _principal(base_scores(at_base, x, width), injection.latent_dim)
    _point(beta, injection, directions, None if family.of_log_rates else slopes)
    if isinstance(last, RidgePotential):
        _bring_near(last, beta(injection.g1(prior_draws(injection, NUM_DRAWS))))
    # Floors of rates depend on the spread of f, which is another one now.
    at_base = in_noise_units(family, base, width, spread=prior_spread(injection))
    last.shift.add_(base_centre(at_base, x, width).to(last.shift) - at_prior(injection).mean(0))


@torch.no_grad()
def begin_at_tokens(injection: ConditionalInjection, tokens: Tensor, counted: Tensor) -> None:
    r"""Bring a conditional injection near the linear map that sequences ask for, in place.

    With a history that says nothing yet, a sequence is a bag of n words: the directions of f are
    the principal ones of their scores, of variance 1 under noise alone, and the slope in a
    direction of eigenvalue λ is :math:`\sqrt{(\lambda-1)/n}`, or a little more than the floor where
    that is larger. The mean of f over the prior is 0.

    Args:
        injection: as it was made, for V − 1 parameters.
        tokens: sequences, of shape ``(rows, T)``.
        counted: which of the tokens count, likewise.
    """
    beta, width = injection.beta, injection.data_dim
    last = None if injection.g2 is None else injection.g2.potential
    lower(beta, injection.g1.potential, last)
    at = injection.condition(beta.raw_basis.new_zeros(injection.context_dim))
    scores, number = _scores_of_words(tokens, counted, width)
    directions, slopes = _principal(scores, injection.latent_dim)
    _point(beta, at, directions, slopes / math.sqrt(number))
    if isinstance(last, RidgePotential):
        z = prior_draws(at, NUM_DRAWS).to(beta.raw_basis)
        g1 = injection.g1.condition(at.context)
        _bring_near(last, beta(g1(z)))
    if isinstance(last, LearnablePotential):
        last.shift.sub_(at_prior(at).mean(0))


def _scores_of_words(tokens: Tensor, counted: Tensor, width: int) -> tuple[Tensor, float]:
    """Return the scores of bags of words, of variance 1 under noise, and the words of a bag."""
    seen = counted.any(-1)
    tokens, counted = _some(tokens[seen], width), _some(counted[seen], width).bool()
    number = counted.sum(-1, keepdim=True)
    basis: Any = in_noise_units(CategoricalFamily(), tokens[counted], width).basis
    shares = basis.probs.new_zeros(len(tokens), width + 1)
    shares.scatter_add_(-1, tokens, counted.to(shares) / number)
    scores = number.sqrt() * basis.units((shares - basis.probs) / basis.probs)
    return scores, float(number.double().mean())


def _point(
    beta: InjectiveLinear, injection: Injection, directions: Tensor, slopes: Tensor | None
) -> None:
    """Turn the first columns of β into directions, and give f slopes along them; None as it is."""
    number = directions.shape[1]
    # As long as the columns they replace: steps of the optimiser turn them as fast.
    beta.raw_basis[:, :number] = directions.to(beta.raw_basis) * math.sqrt(beta.data_dim)
    if slopes is not None:
        own = _slopes(injection) / beta.singular_values()
        wanted = beta.singular_values().clone()
        wanted[:number] = torch.maximum(wanted[:number], slopes.to(own) / own[:number])
        _set_singular_values(beta, wanted)


@torch.no_grad()
def lower(beta: InjectiveLinear, *potentials: Any) -> None:
    """Bring the parts of an injection near their floors, in place.

    Args:
        beta: its linear map.
        *potentials: of its Brenier maps; those without floors stay.
    """
    _set_singular_values(beta, torch.full((beta.latent_dim,), (1 + EXCESS) * beta.floor))
    for potential in potentials:
        learned = isinstance(potential, LearnablePotential | PartiallyConvexPotential)
        if learned and potential.ceiling is None:
            potential.raw_excess.fill_(inverse_softplus(torch.tensor(EXCESS * potential.floor)))
        if isinstance(potential, RidgePotential | PartiallyConvexPotential):
            out = softplus(potential.raw_out)
            potential.raw_out.copy_(inverse_softplus(RIDGES * out))


def _bring_near(potential: RidgePotential, x: Tensor) -> None:
    """Stretch ridges until arguments of size 1 tell the points apart, and weigh them less for it.

    Random ridges of length 1 in D dimensions hardly bend over points that lie in K of these, and
    their large weights make steps of the optimiser large.
    """
    spread = (x - x.mean(0)).matmul(potential.weight.mT).square().mean().sqrt()
    stretch = (NEAR / spread).clamp_min(1.0)
    potential.weight.mul_(stretch)
    potential.raw_out.copy_(inverse_softplus(softplus(potential.raw_out) / stretch.square()))


def _some(x: Tensor, width: int) -> Tensor:
    """Return rows spread evenly over all, so many as their directions are sought in."""
    step = math.ceil(len(x) * width / MOST_NUMBERS)
    found = x[:: max(step, 1)]
    return found if found.is_floating_point() else found.long()


def _principal(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return principal directions, of shape ``(D, K)`` or fewer, and the slopes of PPCA."""
    number = min(number, *scores.shape)
    sought = min(number + SPARE_DIRECTIONS, *scores.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same directions for the same data
        _, values, directions = torch.pca_lowrank(scores, sought, niter=POWER_ITERATIONS)
    eigenvalues = values[:number].square() / len(scores)
    return directions[:, :number], (eigenvalues - 1).clamp_min(0.0).sqrt()


def _slopes(injection: Injection) -> Tensor:
    """Return how far f moves with each latent at draws of the prior, of shape ``(K,)``."""
    return injection.jacobian(prior_draws(injection, SLOPE_DRAWS)).square().sum(-2).mean(0).sqrt()


def _set_singular_values(beta: InjectiveLinear, values: Tensor) -> None:
    """Set the diagonal of Λ, as near as its window allows."""
    if beta.ceiling == beta.floor:
        return
    like = beta.raw_singular
    if beta.ceiling is None:
        like.copy_(inverse_softplus(values.to(like) - beta.floor))
        return
    share = (values.to(like) - beta.floor) / (beta.ceiling - beta.floor)
    like.copy_(share.clamp(WITHIN, 1 - WITHIN).logit())
