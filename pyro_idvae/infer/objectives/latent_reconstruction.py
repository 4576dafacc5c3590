# SPDX-License-Identifier: Apache-2.0
"""A guide that is to find again the latents that data were made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae._checks import check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.kl import is_local
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run, run_guide
from pyro_idvae.infer.objectives.signals import mean_of
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.sites import latent_sites, observed_sites

SOURCES = ("prior", "guide")


class LatentReconstruction(Objective):
    r"""Latents are to be found again in what the decoder makes of them.

    .. math:: \mathcal L = -\mathrm{ELBO} + \rho\,|h(f(z)) - z|^2

    a data point, with z a draw of the prior (or of the guide), f(z) the mean of x given z and h the
    mean of the guide at f(z): if h ∘ f is the identity, f is injective where z was drawn. h is the
    guide itself, no head of its own, so that what it learns serves inference.

    *Helps* against dead and folded directions, of any decoder. *Does not help* as a promise:
    nothing is certified, and h sees means where the guide is used on data, which have noise. For
    guides that read the data: one without an encoder has no h. A step takes two runs of each
    program.

    Args:
        weight: ρ, nats for a squared distance of 1.
        source: where z is drawn: ``"prior"`` or ``"guide"``.
        **options: arguments of :class:`Objective`.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import LatentReconstruction
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x, options = torch.randn(20, 5), {"num_epochs": 2, "seed": 0, "progress": False}
        >>> fit = idvae.fit(vae.model, vae.guide, x, objective=LatentReconstruction(), **options)
        >>> fit.num_epochs
        2

    Reference:
        Song, Kim & Lee, *Toward Architecture-Agnostic Local Control of Posterior Collapse in VAEs*,
        arXiv 2508.12530, 2025, whose idea this is; the weight and the prior as source are ours.
    """

    exempt: Mapping[str, str] = {
        "optimum": "the weight trades evidence for distances, in no closed form",
    }

    def __init__(self, weight: float = 1.0, *, source: str = "prior", **options: Any) -> None:
        super().__init__(**options)
        if self.vectorize_particles and self.num_particles > 1:
            raise ArgumentError(
                "vectorize_particles=True: LatentReconstruction runs the guide on what the decoder "
                "makes of one draw a row; leave it out"
            )
        if source not in SOURCES:
            raise ArgumentError(f"source={source!r}: expected one of {SOURCES}")
        self.weight = torch.tensor(check_real("weight", weight, at_least=0.0), dtype=torch.double)
        self.source = source

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the loss of a run."""
        if float(self.weight) == 0.0:
            return run.negative_elbo
        return run.negative_elbo + self.weight * self._distance(run)

    def _distance(self, run: Run) -> Tensor:
        """Return the squared distances of all rows, scaled."""
        trace = run.model_trace
        if self.source == "prior":
            args, kwargs = run.arguments
            # The latents of a run of the model alone are draws of the prior.
            trace = poutine.trace(run.model).get_trace(*args, **kwargs)
        again = run_guide(run.guide, decoded(trace, run.arguments))
        total: Any = 0.0
        for name, site in latent_sites(run.guide_trace).items():
            if not is_local(site) or name not in trace.nodes:
                continue
            drawn, found = trace.nodes[name]["value"], again.nodes[name]["fn"]
            if self.source == "prior":
                drawn = drawn.detach()
            dims = len(site["fn"].event_shape)
            squares = (_mean(name, found).expand(drawn.shape) - drawn).square()
            if dims:
                squares = squares.flatten(squares.dim() - dims).sum(-1)
            weights: Any = site["scale"] if site["mask"] is None else site["scale"] * site["mask"]
            total = total + (weights * squares).sum()
        return total  # type: ignore[no-any-return]


def decoded(trace: Any, arguments: Arguments) -> Arguments:
    """Return the arguments with the means of observed sites in the place of the observations.

    Raises:
        ArgumentError: for a site whose observations are no argument.
    """
    args, kwargs = arguments
    known: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    for name, site in observed_sites(trace).items():
        places = [
            key
            for key, value in known.items()
            if isinstance(value, Tensor) and _is_same(value, site["value"])
        ]
        if not places:
            raise ArgumentError(
                f"no argument of the model is what {name!r} observes: LatentReconstruction puts "
                "the decoder's mean in its place; pass the observations as they are observed"
            )
        mean = mean_of(site["fn"]).reshape(known[places[0]].shape)
        known.update(dict.fromkeys(places, mean))
    return tuple(known[i] for i in range(len(args))), {name: known[name] for name in kwargs}


def _is_same(value: Tensor, observed: Tensor) -> bool:
    if value is observed:
        return True
    return value.numel() == observed.numel() and torch.equal(
        value.reshape(-1), observed.reshape(-1).to(value.dtype)
    )


def _mean(name: str, distribution: Any) -> Tensor:
    try:
        mean: Tensor = distribution.mean
    except NotImplementedError as error:
        raise ArgumentError(
            f"the guide draws the site {name!r} from a {type(distribution).__name__}, which has no "
            "mean: LatentReconstruction compares means with draws"
        ) from error
    return mean
