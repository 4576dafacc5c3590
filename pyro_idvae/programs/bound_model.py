# SPDX-License-Identifier: Apache-2.0
"""A Pyro model, and perhaps its guide, bound to their data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import Arguments, row_count, take_rows
from pyro_idvae.programs.enumeration import EnumeratedModel, check_shared, check_unlifted, split
from pyro_idvae.programs.likelihood_call import LikelihoodCall, Recorder, find_likelihood
from pyro_idvae.programs.observations import check_observations
from pyro_idvae.programs.parameters import claim_parameters
from pyro_idvae.programs.plates import check_not_subsampled, find_data_plate, frame_dim
from pyro_idvae.programs.run import Program, dry_run, evaluating, undisturbed
from pyro_idvae.programs.sites import (
    check_sites,
    enumerable_sites,
    factor_sites,
    frames_of,
    latent_sites,
    observed_sites,
)

Values = dict[str, Tensor]
"""One tensor for each site."""

RESERVED = ("chain", "draw")
"""Names that ArviZ data have for the dimensions of draws."""


class BoundModel:
    """A model on its data: made once for each public call, and handed on.

    Reads off one run where the data plate is, which sites are latent, observed or summed out, and
    which likelihood is called. Making it leaves the random state alone.

    Args:
        model: the model.
        guide: its guide, or None.
        arguments: the data.
        drawn: names of discrete latents that have draws and are not to be summed out; by default
            those the guide samples.

    Attributes:
        trace: a run of the model, on the guide's draws if there is a guide.
        guide_trace: the run of the guide.
        latents: names of the latent sites that have draws.
        summed: names of the discrete latent sites that are summed out: those in the data plate.
        observed: names of the observed sites.
        scored: those and the sites of ``pyro.factor``: all densities besides the latents' priors.
        rows: data points.
        plate: name of the data plate, or None.
        data_dim: what to call the dimension of data points.
        parameters: the unconstrained parameters, by their names in Pyro's store.
        factorises: whether rows are known to be independent, by :func:`check_factorises`.
        prior_links: which latents' priors depend on which others, once that was asked.
        guide_links: likewise of the guide.
    """

    def __init__(
        self,
        model: Program,
        guide: Program | None,
        arguments: Arguments,
        *,
        drawn: Sequence[str] | None = None,
    ) -> None:
        self.model, self.guide, self.arguments = model, guide, arguments
        with undisturbed(arguments):
            claim = claim_parameters(model, guide, arguments)
            self.parameters, trace, self.guide_trace, self._calls = claim
            check_not_subsampled(trace)
            check_observations(trace)
            self.plate = find_data_plate(model, arguments, trace)
        if guide is not None:
            check_sites(trace, self.guide_trace)
        self.trace = trace
        if drawn is None:
            drawn = list(latent_sites(self.guide_trace)) if guide is not None else []
        listed = [name for name in enumerable_sites(trace) if name not in drawn]
        self.summed = [n for n in listed if self.plate is None or self.row_place(n) is not None]
        if guide is not None:
            check_shared([name for name in listed if name not in self.summed], self.plate)
        self.latents = [name for name in latent_sites(trace) if name not in self.summed]
        self.observed = list(observed_sites(trace))
        self.scored = self.observed + list(factor_sites(trace))
        self.rows = row_count(arguments)
        self._check_names()
        # xarray has one name space for variables and dimensions.
        taken = {*self.latents, *self.observed}
        self.data_dim = next(n for n in ("data", "row", "data_point") if n not in taken)
        self.factorises = False
        self.prior_links: dict[str, frozenset[str]] | None = None
        self.guide_links: dict[str, frozenset[str]] | None = None
        self._depends: dict[str, bool] = {}
        if self.summed:
            check_unlifted(trace, self.latents, self.plate)
            nesting = max(
                (-f.dim for s in trace.nodes.values() for f in frames_of(s) if f.dim is not None),
                default=0,
            )
            self._enumerated = EnumeratedModel(model, self.summed, nesting)
            with undisturbed(arguments), torch.no_grad(), self.running():
                factors = self._enumerated.factors(self.values(), arguments)
            self._depends = {
                name: factors.depends_on(name, self.summed)
                for name in (*self.latents, *self.scored)
            }

    def _check_names(self) -> None:
        if taken := [name for name in (*self.latents, *self.observed) if name in RESERVED]:
            raise ArgumentError(
                f"the model has sites called {taken}: draws have dimensions of these names; call "
                "the sites something else"
            )

    def without_guide(self) -> BoundModel:
        """Return the model alone, its trace a draw from the prior."""
        alone = copy.copy(self)
        alone.guide, alone.guide_trace = None, None
        recorder = Recorder()
        recorder.likelihoods = list({id(c.likelihood): c.likelihood for c in self._calls}.values())
        with undisturbed(self.arguments), recorder.listening():
            alone.trace, _ = dry_run(self.model, None, self.arguments)
        alone._calls = recorder.calls
        return alone

    def on_rows(self, rows: Tensor, *, with_guide: bool = False) -> BoundModel:
        """Return the model, alone or with its guide, bound to some of its data points."""
        guide = self.guide if with_guide else None
        found = BoundModel(self.model, guide, take_rows(self.arguments, rows))
        found.factorises = self.factorises
        found.prior_links, found.guide_links = self.prior_links, self.guide_links
        return found

    def running(self) -> AbstractContextManager[None]:
        """Return the context to draw and evaluate in: model and guide in evaluation mode."""
        return evaluating(self.model, self.guide)

    def values(self) -> Values:
        """Return the latents of the run that all was read off."""
        return _values(self.trace, self.latents)

    def likelihood_call(self) -> LikelihoodCall:
        """Return the likelihood between the one latent and the one observed site.

        Raises:
            NoCertificateError: if there is no such one.
        """
        return find_likelihood(self.trace, self._calls)

    def depends_on_summed(self, name: str) -> bool:
        """Tell whether a site's density varies with the discrete sites that are summed out."""
        return self._depends.get(name, False)

    def frame_dim(self, site: Any) -> int | None:
        """Return the batch dimension (negative) of the data plate at a site, or None."""
        return frame_dim(site, self.plate)

    def row_place(self, name: str) -> int | None:
        """Return the dimension of a site's value that the data plate is, or None."""
        site = self.trace.nodes[name]
        dim = self.frame_dim(site)
        return None if dim is None else site["value"].dim() + dim - len(site["fn"].event_shape)

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the names of the dimensions of a site's value."""
        size, place = self.trace.nodes[name]["value"].dim(), self.row_place(name)
        taken = {*self.latents, *self.observed}
        stem = f"{name}_dim"
        while any(other.startswith(f"{stem}_") for other in taken):
            stem += "_"
        # What is not the plate is numbered from 0, as ArviZ does.
        others = count()
        return tuple(self.data_dim if i == place else f"{stem}_{next(others)}" for i in range(size))

    def per_row(self, site: Any, rows: int) -> Tensor:
        """Return a site's log density, unscaled, summed over all but the data plate."""
        log_prob = _upstream.site_log_prob(site)
        dim = self.frame_dim(site)
        if dim is None:
            return log_prob.sum()
        log_prob = log_prob.movedim(dim, -1)
        summed = log_prob.reshape(-1, log_prob.shape[-1]).sum(0)
        return summed.expand(rows)

    def log_densities(
        self, draw: Values, arguments: Arguments | None = None
    ) -> tuple[Values, Values]:
        """Return log p(x|z) by observed site and log p(z) by latent site.

        Discrete sites are summed out. Each is of shape ``(rows,)``, or ``()`` outside the plate.

        Args:
            draw: the latents.
            arguments: the data, of as many rows as the draw has; those it is bound to if None.
        """
        args, kwargs = arguments = self.arguments if arguments is None else arguments
        rows = row_count(arguments)
        if not self.summed:
            conditioned = poutine.condition(self.model, data=draw)
            trace = poutine.trace(conditioned).get_trace(*args, **kwargs)
            trace.compute_log_prob()
            return self.by_site(trace, rows)
        factors = self._enumerated.factors(draw, arguments)
        free = [n for n in (*self.latents, *self.scored) if not self._depends[n]]
        likelihood, prior = self.by_site(factors.trace, rows, only=free)
        more, more_prior = split(
            factors,
            self.summed,
            latents=[n for n in self.latents if self._depends[n]],
            scored=[n for n in self.scored if self._depends[n]],
            plate=self.plate,
        )
        return {**likelihood, **more}, {**prior, **more_prior}

    def by_site(
        self, trace: Any, rows: int, only: Sequence[str] | None = None
    ) -> tuple[Values, Values]:
        """Return the likelihood and the prior of a run, its log densities computed, by site."""
        kept = {*self.latents, *self.scored} if only is None else set(only)
        likelihood, prior = (
            {name: self.per_row(trace.nodes[name], rows) for name in names if name in kept}
            for names in (self.scored, self.latents)
        )
        return likelihood, prior

    def assignments(self, draw: Values) -> Values:
        """Return p(y | x, z) of each discrete site that is summed out.

        Args:
            draw: the other latents.

        Returns:
            By site, tensors of the shape of its plates + ``(values,)``.
        """
        if not self.summed:
            return {}
        with torch.no_grad(), self.running():
            factors = self._enumerated.factors(draw, self.arguments)
        names = [*self.summed, *(n for n, depends in self._depends.items() if depends)]
        return {name: factors.probabilities(name, names) for name in self.summed}

    def predict(self, draw: Values) -> Values:
        """Draw new observations given latents."""
        args, kwargs = self.arguments
        if self.summed:
            draw = {**draw, **self._enumerated.draw(draw, self.arguments)}
        free = poutine.condition(poutine.uncondition(self.model), data=draw)
        return _values(poutine.trace(free).get_trace(*args, **kwargs), self.observed)

    def run_prior(self, arguments: Arguments | None = None) -> tuple[Values, Any]:
        """Draw the latents from the prior, data and all else as they are; return the run too."""
        args, kwargs = self.arguments if arguments is None else arguments
        trace = poutine.trace(self.model).get_trace(*args, **kwargs)
        return _values(trace, self.latents), trace

    def draw_guide(self, arguments: Arguments | None = None) -> tuple[Values, Tensor]:
        """Draw the latents from the guide, with log q: per row if the guide factorises so.

        Args:
            arguments: the data; those it is bound to if None.
        """
        if self.guide is None:
            raise ArgumentError("guide=None: there is no guide to draw from")
        args, kwargs = arguments = self.arguments if arguments is None else arguments
        trace = poutine.trace(self.guide).get_trace(*args, **kwargs)
        return _values(trace, self.latents), self._log_q(trace, row_count(arguments))

    def guide_density(self, draw: Values, arguments: Arguments | None = None) -> Tensor | None:
        """Return log q of latents, as :meth:`draw_guide` does; None if the guide has helpers."""
        if set(latent_sites(self.guide_trace)) != set(self.latents):
            return None
        args, kwargs = arguments = self.arguments if arguments is None else arguments
        guide: Any = self.guide
        conditioned = poutine.condition(guide, data=draw)
        trace = poutine.trace(conditioned).get_trace(*args, **kwargs)
        return self._log_q(trace, row_count(arguments))

    def _log_q(self, trace: Any, rows: int) -> Tensor:
        trace.compute_log_prob()
        sites = [trace.nodes[name] for name in latent_sites(self.guide_trace)]
        log_q = [self.per_row(site, rows) for site in sites]
        if any(self.frame_dim(site) is None for site in sites):
            log_q = [term.sum() for term in log_q]
        return torch.stack(log_q).sum(0)


def _values(trace: Any, names: list[str]) -> Values:
    return {name: trace.nodes[name]["value"] for name in names}
