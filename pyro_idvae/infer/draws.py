# SPDX-License-Identifier: Apache-2.0
"""Draws of any Pyro model and guide with their log densities, per data point."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.batches import Arguments, row_count
from pyro_idvae.infer.parameters import claim_parameters
from pyro_idvae.infer.plates import find_data_plate, subsampled_size
from pyro_idvae.infer.programs import Program, evaluating
from pyro_idvae.infer.sites import check_sites, factor_sites, latent_sites, observed_sites

Draw = dict[str, Tensor]
"""One value for each latent site."""


class Layout:
    """Where the data plate is: reads shapes off one run of the model.

    Args:
        model: the model.
        guide: its guide, or None.
        arguments: the data.
    """

    def __init__(self, model: Program, guide: Program | None, arguments: Arguments) -> None:
        self.model, self.guide, self.arguments = model, guide, arguments
        _, trace, guide_trace = claim_parameters(model, guide, arguments)
        if guide is not None:
            check_sites(trace, guide_trace)
        latents = latent_sites(trace)
        discrete = [name for name, site in latents.items() if site["infer"].get("enumerate")]
        if discrete:
            raise ArgumentError(
                f"the sites {discrete} are to be enumerated: log densities per draw need a model "
                "with its discrete latents marginalised, e.g. dist.MixtureOfDiagNormals as prior"
            )
        if subsampled_size(trace) is not None:
            raise ArgumentError(
                "the model subsamples a plate: its draws would be scored on other rows. Give it a "
                "plate of the size of its data, and pass the data you want"
            )
        self.trace, self.guide_trace = trace, guide_trace
        self.latents = list(latents)
        self.observed = list(observed_sites(trace))
        # Densities besides the prior: what is observed, and factors, which count like it.
        self.scored = self.observed + list(factor_sites(trace))
        self.rows = row_count(arguments)
        self.plate = find_data_plate(model, arguments, trace)
        sites = {*self.latents, *self.observed}
        # xarray has one name space for variables and dimensions.
        self.data_dim = "data" if "data" not in sites else "row"

    def running(self) -> AbstractContextManager[None]:
        """Return the context to draw and score in: model and guide in evaluation mode."""
        return evaluating(self.model, self.guide)

    def frame_dim(self, site: Any) -> int | None:
        """Return the batch dimension (negative) of the data plate at a site, or None."""
        for frame in site["cond_indep_stack"]:
            if frame.name == self.plate:
                return int(frame.dim)
        return None

    def row_place(self, name: str) -> int | None:
        """Return the dimension of a site's value that the data plate is, or None."""
        site = self.trace.nodes[name]
        dim = self.frame_dim(site)
        return None if dim is None else site["value"].dim() + dim - len(site["fn"].event_shape)

    def per_row(self, site: Any) -> Tensor:
        """Return a site's log density, summed over all but the data plate."""
        # Unscaled: weights are for objectives, not for densities.
        log_prob: Tensor = scale_and_mask(site["unscaled_log_prob"], mask=site["mask"])
        dim = self.frame_dim(site)
        if dim is None:
            return log_prob.sum()
        log_prob = log_prob.movedim(dim, -1)
        summed = log_prob.reshape(-1, log_prob.shape[-1]).sum(0)
        return summed.expand(self.rows)

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the names of the dimensions of a site's value."""
        size, place = self.trace.nodes[name]["value"].dim(), self.row_place(name)
        # What is not the plate is numbered from 0, as ArviZ does.
        others = count()
        return tuple(
            self.data_dim if i == place else f"{name}_dim_{next(others)}" for i in range(size)
        )

    def score(self, draw: Draw) -> tuple[Draw, Draw]:
        """Return log p(x|z) by observed site and log p(z) by latent site, both per row."""
        args, kwargs = self.arguments
        conditioned = poutine.condition(self.model, data=draw)
        trace = poutine.trace(conditioned).get_trace(*args, **kwargs)
        trace.compute_log_prob()
        likelihood = {name: self.per_row(trace.nodes[name]) for name in self.scored}
        prior = {name: self.per_row(trace.nodes[name]) for name in self.latents}
        return likelihood, prior

    def predict(self, draw: Draw) -> Draw:
        """Draw new observations given latents."""
        args, kwargs = self.arguments
        free = poutine.condition(poutine.uncondition(self.model), data=draw)
        trace = poutine.trace(free).get_trace(*args, **kwargs)
        return _values(trace, self.observed)

    def draw_prior(self) -> Draw:
        """Draw the latents from the prior, data and all else as they are."""
        args, kwargs = self.arguments
        trace = poutine.trace(self.model).get_trace(*args, **kwargs)
        return _values(trace, self.latents)

    def draw_guide(self) -> tuple[Draw, Tensor]:
        """Draw the latents from the guide, with log q: per row if the guide factorises so."""
        if self.guide is None:
            raise ArgumentError("guide=None: there is no guide to draw from")
        args, kwargs = self.arguments
        trace = poutine.trace(self.guide).get_trace(*args, **kwargs)
        trace.compute_log_prob()
        sites = latent_sites(trace).values()
        in_plate = [self.frame_dim(site) is not None for site in sites]
        log_q = [self.per_row(site) for site in sites]
        if not all(in_plate):
            log_q = [term.sum() for term in log_q]
        return _values(trace, self.latents), torch.stack(log_q).sum(0)


def guide_draws(layout: Layout, num_samples: int) -> Iterator[tuple[Draw, Tensor, Draw, Draw]]:
    """Yield (latents, log q, log p(x|z) by site, log p(z) by site) of draws from the guide."""
    with torch.no_grad(), layout.running(), pyro.validation_enabled(False):
        for _ in range(num_samples):
            draw, log_q = layout.draw_guide()
            likelihood, prior = layout.score(draw)
            yield draw, log_q, likelihood, prior


def stack(draws: list[Draw]) -> Draw:
    """Stack draws along a new first dimension."""
    return {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}


def _values(trace: Any, names: list[str]) -> Draw:
    nodes: Any = trace.nodes
    return {name: nodes[name]["value"] for name in names}
