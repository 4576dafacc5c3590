# SPDX-License-Identifier: Apache-2.0
"""A run of guide and model for an objective: what its formula is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pyro
from pyro import poutine
from pyro.infer.elbo import ELBO
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.infer.objectives.kl import PARTICLES, SiteKL, site_kls
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sites import factor_sites, observed_sites


class Run:
    """One run of the guide, and of the model on its draws.

    Args:
        model: the model.
        guide: its guide.
        arguments: their arguments.
        guide_trace: the run of the guide.
        model_trace: the run of the model on its draws.
        needed_by: what messages call the objective.
    """

    def __init__(  # noqa: PLR0917 - as it is called, in one place
        self,
        model: Program,
        guide: Program,
        arguments: Arguments,
        guide_trace: Any,
        model_trace: Any,
        needed_by: str,
    ) -> None:
        self.model, self.guide, self.arguments = model, guide, arguments
        self.guide_trace, self.model_trace = guide_trace, model_trace
        self.needed_by = needed_by

    @cached_property
    def log_likelihood(self) -> Tensor:
        """The batch's log p(x|z), scaled: observed sites and those of ``pyro.factor``."""
        names = self.scored
        self.model_trace.compute_log_prob(lambda name, site: name in names)
        total: Any = sum(self.model_trace.nodes[name]["log_prob_sum"] for name in names)
        return total  # type: ignore[no-any-return]

    @property
    def scored(self) -> list[str]:
        """Names of the sites that log p(x|z) is made of."""
        return list({**observed_sites(self.model_trace), **factor_sites(self.model_trace)})

    @cached_property
    def _kls(self) -> tuple[list[SiteKL], Any]:
        return site_kls(self.model_trace, self.guide_trace, self.needed_by)

    @property
    def site_kls(self) -> list[SiteKL]:
        """The KL of each latent site."""
        return self._kls[0]

    @property
    def helpers(self) -> Any:
        """The log q of what the guide draws besides the latents and for no one of them, scaled."""
        return self._kls[1]

    @property
    def kl(self) -> Tensor:
        """KL(q ‖ p) of the batch, scaled."""
        total: Any = sum((site.total() for site in self.site_kls), self.helpers)
        return total  # type: ignore[no-any-return]

    @property
    def local_kls(self) -> list[SiteKL]:
        """The KL of the latents in plates; of all if none is in one."""
        return [site for site in self.site_kls if site.local] or self.site_kls

    @property
    def rate(self) -> Tensor:
        """KL(q ‖ p) of the latents in plates, scaled; of all if none is in one."""
        total: Any = sum((site.total() for site in self.local_kls), self.helpers)
        return total  # type: ignore[no-any-return]

    @property
    def distortion(self) -> Tensor:
        """The −ELBO less the rate: −log p(x|z), and the KL of latents outside all plates."""
        return self.kl - self.rate - self.log_likelihood

    @property
    def size(self) -> Tensor:
        """How many data points the batch stands for: elements of the outermost plate of latents."""
        counts: Any = [site.count() for site in self.local_kls]
        return min(counts)  # type: ignore[no-any-return]

    @property
    def negative_elbo(self) -> Tensor:
        """KL − log p(x|z), scaled."""
        return self.kl - self.log_likelihood


def run_guide(guide: Program, arguments: Arguments) -> Any:
    """Run a guide; return the trace."""
    args, kwargs = arguments
    return poutine.trace(guide).get_trace(*args, **kwargs)


def run_model(model: Program, guide_trace: Any, arguments: Arguments) -> Any:
    """Run a model on the draws of a guide, or of any trace; return the trace."""
    args, kwargs = arguments
    replayed = poutine.replay(model, trace=guide_trace)
    return poutine.trace(replayed).get_trace(*args, **kwargs)


def with_values(trace: Any, values: dict[str, Tensor]) -> Any:
    """Return a run in which some sites have other values."""
    return _changed(trace, {name: {"value": value} for name, value in values.items()})


def with_distributions(trace: Any, changed: dict[str, tuple[Any, Tensor]]) -> Any:
    """Return a run in which some sites have other distributions and values."""
    return _changed(trace, {n: {"fn": fn, "value": value} for n, (fn, value) in changed.items()})


def _changed(trace: Any, parts: dict[str, dict[str, Any]]) -> Any:
    copied = trace.copy()
    for name, new in parts.items():
        # Its densities are those of the old value.
        kept = {k: v for k, v in trace.nodes[name].items() if "log_prob" not in k}
        kept.pop("score_parts", None)
        copied.nodes[name] = {**kept, **new}
    return copied


def particles(
    elbo: ELBO, model: Program, guide: Program, arguments: Arguments
) -> Iterator[tuple[Program, Program]]:
    """Yield the pair as often as it is to be run: once, in a plate of particles, if vectorised."""
    if not elbo.vectorize_particles or elbo.num_particles == 1:
        for _ in range(elbo.num_particles):
            yield model, guide
        return
    if elbo.max_plate_nesting == float("inf"):
        _upstream.guess_plate_nesting(elbo, model, guide, *arguments)

    def wrapped(program: Program) -> Program:
        plate = pyro.plate(PARTICLES, elbo.num_particles, dim=-int(elbo.max_plate_nesting))
        many: Callable[..., Any] = plate(program)
        return many

    yield wrapped(model), wrapped(guide)
