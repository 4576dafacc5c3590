# SPDX-License-Identifier: Apache-2.0
"""Discrete latent sites summed out, row by row, and their probabilities given all else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro import poutine
from pyro.infer import infer_discrete
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.plates import frame_dim
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sites import observed_sites


def check_shared(names: Sequence[str], plate: str | None) -> None:
    """Raise for discrete sites that rows share and that have no draws.

    Args:
        names: the sites.
        plate: the data plate.
    """
    if names:
        raise ArgumentError(
            f"the discrete sites {list(names)} are outside the data plate {plate!r}: rows that "
            "share them have no log densities of their own. Move them into the plate, give the "
            "guide such sites, or fix their value by pyro.poutine.condition"
        )


def check_unlifted(trace: Any, names: Sequence[str], plate: str | None) -> None:
    """Raise for sites that stand in the data plate and have one value for all of it.

    ``poutine.lift`` makes such ones of parameters; Pyro's sums would count them once for each row.

    Args:
        trace: a run of the model.
        names: its latent sites.
        plate: the data plate.
    """
    for name in names:
        frames = trace.nodes[name]["cond_indep_stack"]
        if any(f.name == plate for f in frames) and frame_dim(trace.nodes[name], plate) is None:
            raise ArgumentError(
                f"the site {name!r} is in the plate {plate!r} but has one value for all of it, "
                "beside discrete sites to sum out: read the parameter that it was made of before "
                "the plate begins"
            )


class EnumeratedModel:
    """A model whose discrete latents stand for all their values at once.

    Args:
        model: the model.
        names: the sites to enumerate.
        nesting: how many batch dimensions its plates take.
    """

    def __init__(self, model: Program, names: Sequence[str], nesting: int) -> None:
        self.model, self.names = model, list(names)
        self.first_dim = -1 - nesting

    def _marked(self, model: Program) -> Program:
        def mark(site: Any) -> Any:
            return {"enumerate": "parallel"} if site["name"] in self.names else {}

        marked: Program = poutine.infer_config(model, mark)
        return marked

    def factors(self, draw: dict[str, Tensor], arguments: Arguments) -> _upstream.Factors:
        """Return all log densities where the other latents have these values."""
        args, kwargs = arguments
        conditioned = poutine.condition(self._marked(self.model), data=draw)
        enumerated = poutine.enum(conditioned, first_available_dim=self.first_dim)
        trace = poutine.trace(enumerated).get_trace(*args, **kwargs)
        trace.compute_log_prob()
        return _upstream.Factors(trace)

    def draw(self, draw: dict[str, Tensor], arguments: Arguments) -> dict[str, Tensor]:
        """Return values of the discrete sites, drawn given the other latents but not the data."""
        args, kwargs = arguments
        conditioned = poutine.condition(poutine.uncondition(self._marked(self.model)), data=draw)
        trace = poutine.trace(self.model).get_trace(*args, **kwargs)
        blind = poutine.block(conditioned, hide=list(observed_sites(trace)))
        sampled = infer_discrete(blind, first_available_dim=self.first_dim)
        drawn = poutine.trace(sampled).get_trace(*args, **kwargs)
        return {name: drawn.nodes[name]["value"] for name in self.names}


def split(
    factors: _upstream.Factors,
    summed: Sequence[str],
    *,
    latents: Sequence[str],
    scored: Sequence[str],
    plate: str | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    r"""Return log p(x|z) by observed site and log p(z) by latent site, discrete sites summed out.

    Sums are taken over

    .. math:: \log p(z_1,\dots,z_k) = \log\sum_y p(y\mid z)\prod_{j\le k}p(z_j\mid y,\dots)

    for k = 1, 2, …, then with the observations added one by one. Each site gets what it adds: its
    log density given the sites before it.

    Args:
        factors: the log densities.
        summed: the enumerated sites.
        latents: latent sites that depend on them, in the model's order.
        scored: observed sites and factors that do.
        plate: the plate to keep.

    Returns:
        Likelihood and prior: tensors of shape ``(rows,)``, or ``()`` without a plate.
    """
    likelihood: dict[str, Tensor] = {}
    prior: dict[str, Tensor] = {}
    done = list(summed)
    total = factors.total(done, plate)
    for target, names in ((prior, latents), (likelihood, scored)):
        for name in names:
            done.append(name)
            new = factors.total(done, plate)
            target[name], total = new - total, new
    return likelihood, prior
