# SPDX-License-Identifier: Apache-2.0
"""What is calibrated: a kernel's draws, or a guide's, given data of any kind."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch

from pyro_idvae.diagnostics.calibration.quantities import Quantities
from pyro_idvae.diagnostics.calibration.ranking import Array, Measured
from pyro_idvae.diagnostics.calibration.simulate import Simulation
from pyro_idvae.diagnostics.weights import weigh
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.draws import Draws, draw_guide, evaluated, shape_of
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.guide_density import check_guide_density


class Drawn(NamedTuple):
    """Draws given one run's data."""

    draws: Draws
    complete: bool
    """Whether these are all that were wanted."""


class Posterior(Protocol):
    """Draws latents given data."""

    def draw(self, bound: BoundModel) -> Drawn:
        """Return draws given the data a model is bound to."""
        ...

    def pareto_k(self, bound: BoundModel, draws: Draws, *, by_row: bool) -> Array | None:
        """Return k of each replication's importance weights; None if there are none."""
        ...


class KernelPosterior:
    """Draws of a kernel."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def silent(self) -> KernelPosterior:
        """Return the same without a progress bar of its own."""
        return KernelPosterior(replace(self.sampling, progress=False))

    def draw(self, bound: BoundModel) -> Drawn:
        """Return draws of the chains; after an interrupt, those so far."""
        values, stats = self.sampling.sample(bound)
        complete = shape_of(values) == self.sampling.shape
        method = self.sampling.kernel
        draws = evaluated(bound, values, stats, independent=False, method=method)
        return Drawn(draws, complete)

    def pareto_k(self, bound: BoundModel, draws: Draws, *, by_row: bool) -> Array | None:
        """Return None: chains have no weights."""
        return None


class GuidePosterior:
    """Independent draws of a guide."""

    def __init__(self, num_draws: int) -> None:
        self.num_draws = num_draws

    def draw(self, bound: BoundModel) -> Drawn:
        """Return draws of the guide."""
        return Drawn(draw_guide(bound, self.num_draws), complete=True)

    def pareto_k(self, bound: BoundModel, draws: Draws, *, by_row: bool) -> Array | None:
        """Return k, NaN where the guide has no density over the latents."""
        terms = [*draws.log_likelihood.values(), *draws.log_prior.values(), -draws.stats["log_q"]]
        unknown = np.full(bound.rows if by_row else 1, np.nan)
        try:
            check_guide_density(bound)
        except ArgumentError:
            return unknown
        if by_row and any(term.dim() < 3 for term in terms):
            return unknown
        arrays = [term[0].reshape(len(term[0]), -1).cpu().numpy() for term in terms]
        return weigh(arrays, joint=not by_row).pareto_k


@torch.no_grad()
def measure(
    bound: BoundModel, posterior: Posterior, simulation: Simulation, *, by_row: bool
) -> tuple[Measured, bool]:
    """Return the quantities of draws given simulated data, and whether these are all.

    Args:
        bound: the model on the simulated data.
        posterior: what draws.
        simulation: the data, and the latents that they were simulated from.
        by_row: whether each row is a replication.
    """
    with torch.enable_grad():
        draws, complete = posterior.draw(bound)
    single = {name: value[None, None] for name, value in simulation.values.items()}
    truth = evaluated(bound, single, {}, independent=True, method="prior")
    quantities = Quantities(bound, by_row=by_row)
    return (
        Measured(
            quantities.names,
            quantities.continuous,
            quantities.measure(draws),
            quantities.measure(truth)[0, 0],
            draws.independent,
            posterior.pareto_k(bound, draws, by_row=by_row),
        ),
        complete,
    )
