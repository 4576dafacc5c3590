# SPDX-License-Identifier: Apache-2.0
"""Which latent sites' priors depend on the values of other latent sites."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to

from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.row_density import is_same
from pyro_idvae.programs.run import undisturbed
from pyro_idvae.programs.sites import latent_sites

NUM_MOVES = 6
"""Prior draws; each is also moved far out, to both sides."""
FAR = (3.0, -3.0, 10.0, -10.0)
"""Factors on the unconstrained scale: a switch may sit beyond where prior draws fall."""


@torch.no_grad()
def prior_dependences(bound: BoundModel) -> dict[str, frozenset[str]]:
    """Return, for each latent site, the other latent sites that its prior depends on.

    A site keeps its value while the others move, near and far: its log density must not notice.
    What only several others together can bring about counts as a dependence on all of them. What
    was found is noted in ``bound.prior_links``.

    Args:
        bound: the model on its data.

    Returns:
        An entry for each latent site, empty if its prior is the same whatever the others.
    """
    if bound.prior_links is not None:
        return bound.prior_links
    found: dict[str, set[str]] = {name: set() for name in bound.latents}
    if len(found) > 1:
        with undisturbed(bound.arguments), bound.running(), pyro.validation_enabled(False):
            base = bound.values()
            before = bound.log_densities(base)[1]
            moves = moved_values(bound)
            for name in bound.latents:
                if any(_changed(bound, before, {**m, name: base[name]}, name) for m in moves):
                    found[name] = {
                        other
                        for other in bound.latents
                        if other != name
                        and any(
                            _changed(bound, before, {**base, other: m[other]}, name) for m in moves
                        )
                    } or (set(bound.latents) - {name})
    bound.prior_links = {name: frozenset(others) for name, others in found.items()}
    return bound.prior_links


def moved_values(bound: BoundModel) -> list[Values]:
    """Return settings of all latents, near and far: prior draws, and those moved far out."""
    moves = []
    for _ in range(NUM_MOVES):
        draw = bound.run_prior()[0]
        moves.append(draw)
        moves += [_scaled(bound, draw, factor) for factor in FAR]
    return moves


def _scaled(bound: BoundModel, draw: Values, factor: float) -> Values:
    """Return a draw moved out on the unconstrained scale; what is discrete stays."""
    moved = dict(draw)
    for name, value in draw.items():
        support = bound.trace.nodes[name]["fn"].support
        if support.is_discrete:
            continue
        try:
            transform = biject_to(support)
        except NotImplementedError:  # a mixture's support, or one of the user's own
            continue
        far = transform(factor * transform.inv(value))
        moved[name] = torch.where(far.isfinite(), far, value)
    return moved


def _changed(bound: BoundModel, before: Values, values: Values, name: str) -> bool:
    """Tell whether a site's log prior, at the value it had, is another one."""
    return not is_same(before[name], bound.log_densities(values)[1][name])


@torch.no_grad()
def guide_dependences(bound: BoundModel) -> dict[str, frozenset[str]]:
    """Return, for each latent site, the others that the guide's distribution of it depends on.

    All the others move together, so that the answer is none of them or all. It is noted in
    ``bound.guide_links``.

    Args:
        bound: model and guide on their data.
    """
    if bound.guide_links is not None:
        return bound.guide_links
    found: dict[str, frozenset[str]] = {name: frozenset() for name in bound.latents}
    if len(found) < 2 or bound.guide is None:
        return found
    args, kwargs = bound.arguments
    with undisturbed(bound.arguments), bound.running(), pyro.validation_enabled(False):
        base = bound.values()
        moves = moved_values(bound)
        # An autoguide's helpers stay: what they make of them moves else.
        drawn = latent_sites(bound.guide_trace)
        helpers = {n: site["value"] for n, site in drawn.items() if n not in base}
        for name in bound.latents:
            others = frozenset(bound.latents) - {name}
            seen: Tensor | None = None
            for values in [base, *moves]:
                given = helpers | {other: values[other] for other in others}
                conditioned = poutine.condition(bound.guide, data=given)
                site: Any = poutine.trace(conditioned).get_trace(*args, **kwargs).nodes[name]
                density = site["fn"].log_prob(base[name])
                if seen is not None and not is_same(seen, density):
                    found[name] = others
                    break
                seen = density if seen is None else seen
    bound.guide_links = found
    return found
