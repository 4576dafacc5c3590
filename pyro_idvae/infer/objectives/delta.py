# SPDX-License-Identifier: Apache-2.0
"""Guides whose KL cannot fall below a given number of nats: δ-VAEs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from scipy.optimize import brentq
from torch import Tensor

from pyro_idvae._checks import check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.normals import ReshapedGuide, normal_of, reshaped
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sites import latent_sites

LEAST_SCALE = 1e-8


class Delta(Objective):
    r"""A committed rate: each latent dimension has at least δ nats for every data point.

    The ELBO, of a guide that is held in the set where the KL to N(0, 1) is at least δ:

    .. math:: \mu^2 \ge c(\sigma) = 2\delta + 1 + \log\sigma^2 - \sigma^2, \qquad
        \sigma \le \sigma_{\max}.

    A guide that says m and s gets :math:`\sigma = (s^{-4} + \sigma_{\max}^{-4})^{-1/4}` and
    :math:`\mu = \operatorname{sign}(m)\sqrt{m^2 + \max(0, c(\sigma))}`. By default
    :math:`\sigma_{\max}` is the largest scale with c(σ) = 0, below which the mean is free: the
    independent variant of the paper, with the scale as what commits the rate. A larger
    ``max_scale`` keeps scales wide and pushes means out instead.

    *Helps* where a strong decoder would otherwise start without z. *Does not help* to see whether
    it learned to use z: a guide of the same narrow Normal for all data has the rate, and no
    information. Look at the mutual information and at log p(x), not at the KL. For latents with
    prior N(0, 1) and guides of independent Normals. Evaluate and draw with :meth:`trained_guide`.

    Args:
        nats: δ, a latent dimension and data point.
        max_scale: :math:`\sigma_{\max}`; between the default and the largest scale that has any
            solution, or below the default.
        **options: arguments of :class:`Objective`.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import Delta
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(20, 5)
        >>> guide = Delta(nats=0.5).trained_guide(vae.model, vae.guide)
        >>> bool((idvae.kl_to_prior(vae.model, guide, x) >= 0.5 - 1e-6).all())
        True

    Reference:
        Razavi, van den Oord, Poole & Vinyals, *Preventing Posterior Collapse with delta-VAEs*,
        ICLR 2019.
    """

    exempt: Mapping[str, str] = {}

    def __init__(
        self, nats: float = 0.1, *, max_scale: float | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.nats = check_real("nats", nats, at_least=0.0)
        if max_scale is not None:
            check_real("max_scale", max_scale, above=0.0)
        if max_scale is None and nats > 0:
            max_scale = scale_of_rate(self.nats)
        self.max_scale = math.inf if max_scale is None else float(max_scale)
        self._is_checked = False

    def change(self, name: str, loc: Tensor, scale: Tensor, dims: int) -> tuple[Tensor, Tensor]:
        """Return mean and scale with the rate, of those that the guide says."""
        if math.isfinite(self.max_scale):
            # A smooth minimum of both: where it stays, a slope is left to come back by.
            scale = scale * (1 + (scale / self.max_scale) ** 4) ** -0.25
        if self.nats == 0.0:
            return loc, scale
        narrow = scale.clamp(min=LEAST_SCALE)
        missing = 2 * self.nats + 1 + 2 * narrow.log() - narrow.square()
        # √(m² + c) has no gradient in m at m = c = 0; there the mean is left as it is.
        out = missing > 0
        pushed = (loc.square() + torch.where(out, missing, 1.0)).sqrt()
        signed = torch.where(loc < 0, -pushed, pushed)
        return torch.where(out, signed, loc), scale

    def runs(
        self, model: Program, guide: Program, arguments: Arguments, *, training: bool
    ) -> Iterator[Run]:
        """Yield runs of the guide with the rate."""
        committed = reshaped(guide, self.change, type(self).__name__)
        for run in super().runs(model, committed, arguments, training=training):
            if not self._is_checked:
                _check_standard(run)
                self._is_checked = True
            yield run

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the −ELBO."""
        return run.negative_elbo

    def trained_guide(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Program:
        """Return the guide with the rate."""
        return ReshapedGuide(guide, self.change, type(self).__name__)


def scale_of_rate(nats: float) -> float:
    r"""Return the largest σ < 1 with :math:`\mathrm{KL}(N(0, \sigma^2)\,\|\,N(0, 1))` = ``nats``.

    Example:
        >>> from pyro_idvae.infer.objectives.delta import scale_of_rate
        >>> round(scale_of_rate(0.1), 4)
        0.7023
    """

    def excess(log: float) -> float:
        return 0.5 * (math.exp(2 * log) - 1 - 2 * log) - nats

    return math.exp(brentq(excess, -nats - 1.0, 0.0, xtol=1e-15, rtol=1e-14))


def _check_standard(run: Run) -> None:
    """Raise for latents whose prior is known not to be N(0, 1)."""
    for name, site in latent_sites(run.model_trace).items():
        loc, scale, _ = normal_of(name, site["fn"], "Delta")
        if bool((loc != 0).any() or (scale != 1).any()):
            raise ArgumentError(
                f"the prior of {name!r} is not N(0, 1), for which Delta has its rate: write the "
                "latent as a shift and a stretch of one that is"
            )
