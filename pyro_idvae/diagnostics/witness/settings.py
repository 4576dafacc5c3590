# SPDX-License-Identifier: Apache-2.0
"""All continuous latents of a model as one vector, in units of their prior."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.sites import factor_sites

LOW, HIGH = 0.158655, 0.841345
"""Half of what lies between is the standard deviation of a Normal; a Cauchy has it too."""


class Settings:
    """The settings of a model's latents, as points s = (u − median) / spread.

    u are the unconstrained latents of all sites and rows; median and spread, half the width of the
    central 68 %, are those of prior draws: s has prior standard deviation 1 where the prior is
    Normal. Coordinates that the prior leaves no room are left out.

    Args:
        bound: the model on its data.
        count: prior draws.

    Attributes:
        draws: the prior draws, of shape ``(count, dim)``.
        lowest: the least log density of a prior draw, on the unconstrained scale: a point below it
            is not in the prior's bulk.
    """

    def __init__(self, bound: BoundModel, count: int) -> None:
        check_sites(bound)
        self.bound, self.names = bound, bound.latents
        sites: Any = bound.trace.nodes
        self.transforms = {name: biject_to(sites[name]["fn"].support) for name in self.names}
        self.types = {name: sites[name]["value"].dtype for name in self.names}
        first = self._free(bound.values())
        self.shapes = {name: u.shape for name, u in first.items()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        drawn, densities = [], []
        for _ in range(count):
            values, trace = bound.run_prior()
            self._check_supports(trace)
            free = self._free(values)
            drawn.append(_flat(free))
            densities.append(self._log_prior(trace, free))
        u, log_prior = torch.stack(drawn), torch.stack(densities)
        if not bool(log_prior.isfinite().any()):
            raise DataError("the log prior of its own draws is not finite: check the parameters")
        self.lowest = log_prior[log_prior.isfinite()].min()
        low, self.median, high = u.quantile(u.new_tensor([LOW, 0.5, HIGH]), dim=0)
        self.spread = (high - low) / 2
        self.live = (self.spread > 0).nonzero().squeeze(-1)
        if not len(self.live):
            raise ArgumentError("the prior leaves every latent at one value: there is no other")
        # Where to find each coordinate in a point with a 0 behind it.
        self.index = torch.full_like(self.median, len(self.live), dtype=torch.long)
        self.index[self.live] = torch.arange(len(self.live), device=u.device)
        self.draws = torch.stack([self._standardised(draw) for draw in u])

    def _check_supports(self, trace: Any) -> None:
        for name, transform in self.transforms.items():
            site = trace.nodes[name]
            there = biject_to(site["fn"].support)
            if not torch.allclose(
                transform(there.inv(site["value"])), site["value"], rtol=1e-4, atol=1e-5
            ):
                raise ArgumentError(
                    f"the support of the site {name!r} depends on other latents: sample it on a "
                    "fixed support and transform it in the model"
                )

    def _free(self, values: Values) -> Values:
        return {name: self.transforms[name].inv(values[name]) for name in self.names}

    def _standardised(self, u: Tensor) -> Tensor:
        scores: Tensor = (u - self.median)[self.live] / self.spread[self.live]
        return scores

    def _log_prior(self, trace: Any, u: Values) -> Tensor:
        """Return the log density of the latents of a run, on the unconstrained scale."""
        trace.compute_log_prob(site_filter=lambda name, _: name in self.names)
        terms = []
        for name, value in u.items():
            site, transform = trace.nodes[name], self.transforms[name]
            terms.append(_upstream.site_log_prob(site).sum())
            terms.append(transform.log_abs_det_jacobian(value, site["value"]).sum())
        total: Tensor = torch.stack([term.double() for term in terms]).sum()
        return total

    def point(self, values: Values) -> Tensor:
        """Return the point of some latents."""
        return self._standardised(_flat(self._free(values)))

    def by_site(self, vector: Tensor) -> Values:
        """Return a vector of the points' space in pieces, coordinates left out being 0."""
        padded = torch.cat([vector, vector.new_zeros(1)])[self.index]
        return dict(zip(self.names, padded.split(self.sizes), strict=True))

    def unconstrained(self, point: Tensor) -> Values:
        """Return u by site."""
        moves = self.by_site(point).values()
        places = self.median.split(self.sizes), self.spread.split(self.sizes)
        return {
            name: (median + spread * move).reshape(self.shapes[name]).to(self.types[name])
            for name, move, median, spread in zip(self.names, moves, *places, strict=True)
        }

    def values(self, point: Tensor) -> Values:
        """Return the latents of a point, by site."""
        return {name: self.transforms[name](u) for name, u in self.unconstrained(point).items()}

    def run(self, point: Tensor) -> tuple[Any, Tensor]:
        """Return a run of the model with a point's latents, and its log prior."""
        args, kwargs = self.bound.arguments
        u = self.unconstrained(point)
        values = {name: self.transforms[name](value) for name, value in u.items()}
        conditioned = poutine.condition(self.bound.model, data=values)
        trace = poutine.trace(conditioned).get_trace(*args, **kwargs)
        return trace, self._log_prior(trace, u)


def _flat(u: Values) -> Tensor:
    return torch.cat([value.double().reshape(-1) for value in u.values()])


def check_sites(bound: BoundModel) -> None:
    """Raise unless a model has continuous latents alone, and observations."""
    discrete = [n for n in bound.latents if bound.trace.nodes[n]["fn"].support.is_discrete]
    if bound.summed or discrete:
        raise ArgumentError(
            f"the latent sites {bound.summed + discrete} are discrete: given their values, data "
            "say something else than without. Sum them out in the model, e.g. by "
            "dist.MixtureSameFamily for observations"
        )
    if not bound.latents:
        raise ArgumentError("the model has no latent sites: there is nothing to move")
    if not bound.observed:
        raise ArgumentError(
            f"the model has no observed site, only the latents {bound.latents}: pass x where it "
            "says obs=, so that there are distributions to compare"
        )
    factors = list(factor_sites(bound.trace))
    if factors:
        raise ArgumentError(
            f"the sites {factors} of pyro.factor are densities of nothing observed: there are no "
            "data to compare. Write them as observed sites, or hide them by poutine.block"
        )
