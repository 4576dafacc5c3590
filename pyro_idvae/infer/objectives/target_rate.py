# SPDX-License-Identifier: Apache-2.0
"""A KL that is driven to a given number of nats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run

METHODS = ("penalty", "lagrangian")
LARGEST_LOG = 12.0
"""Beyond this, up or down, the logarithm of the multiplier does not go."""


class TargetRate(Objective):
    r"""The KL of the latents is driven to C nats a data point.

    With the distortion :math:`D = -\mathbb E_q[\log p(x|z)]` and the rate
    :math:`R = \mathrm{KL}(q(z|x)\,\|\,p(z))`, both means over the batch,

    .. math:: \mathcal L = D + \gamma\,|R - C| \qquad\text{or}\qquad \mathcal L = D + \beta(R - C),
        \quad \log\beta \leftarrow \log\beta + \eta\,\frac{R - C}{\max(C, 1)},

    the penalty of the first paper, and a Lagrangian whose multiplier finds the β of the β-VAE that
    has this rate. At the optimum R = C; the penalty needs γ above that β. KLs of latents outside
    all plates are counted as they are, and are no part of the rate.

    *Helps* to compare models at one rate, and to say how much a code is to hold. *Does not help*
    to find out how much the data hold: C is a wish, and above what the data need it is filled with
    noise. Which latents carry it is left open. The loss is no −ELBO.

    By evaluation, as in validation, it is :math:`D + |R - C|` for the Lagrangian: one loss for all
    epochs.

    Args:
        nats: C, of all latents of a data point together.
        method: ``"penalty"`` or ``"lagrangian"``.
        penalty: γ.
        rise: steps over which C rises from 0 in a line, as in the paper; 0 for none.
        step_size: η, of the multiplier.
        **options: arguments of :class:`Objective`.

    Attributes:
        multiplier: β, a tensor; 1 at the start.
        count: steps done.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import TargetRate
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> rate = TargetRate(nats=30.0, method="lagrangian", step_size=0.1)
        >>> options = {"num_epochs": 3, "seed": 0, "progress": False}
        >>> _ = idvae.fit(vae.model, vae.guide, torch.randn(20, 5), objective=rate, **options)
        >>> rate.multiplier.item() < 1  # the rate is below 30 nats: it is to cost less
        True

    Reference:
        Burgess et al., *Understanding disentangling in β-VAE*, arXiv 1804.03599, 2018; Alemi et
        al., *Fixing a Broken ELBO*, ICML 2018; Rezende & Viola, *Taming VAEs*, arXiv 1810.00597,
        2018.
    """

    exempt: Mapping[str, str] = {
        "minibatch": "the distance of a batch's rate from C is above that of all data's; the "
        "Lagrangian is linear in the rate and obeys",
    }

    def __init__(
        self,
        nats: float = 5.0,
        *,
        method: str = "penalty",
        penalty: float = 10.0,
        rise: int = 0,
        step_size: float = 0.01,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if method not in METHODS:
            raise ArgumentError(f"method={method!r}: expected one of {METHODS}")
        self.method = method
        if method == "lagrangian":
            self.exempt = {}
        self.nats = torch.tensor(check_real("nats", nats, at_least=0.0), dtype=torch.double)
        self.penalty = torch.tensor(check_real("penalty", penalty, above=0.0), dtype=torch.double)
        self.rise = check_count("rise", rise, minimum=0)
        self.step_size = check_real("step_size", step_size, at_least=0.0)
        self.restart()

    def restart(self) -> None:
        """Forget all steps."""
        self.count = 0
        self.multiplier = torch.ones((), dtype=torch.double)

    @property
    def target(self) -> Tensor:
        """C of the step to be taken."""
        return self.nats * min(1.0, (self.count + 1) / self.rise) if self.rise else self.nats

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the loss of a run."""
        excess = run.rate - (self.target if training else self.nats) * run.size
        if self.method == "penalty":
            return run.distortion + self.penalty * excess.abs()
        if training:
            return run.distortion + self.multiplier * excess
        return run.distortion + excess.abs()

    def advance(self, runs: Sequence[Run]) -> None:
        """Count the step, and move the multiplier on."""
        if self.method == "lagrangian" and self.step_size > 0:
            rate = torch.stack([run.rate.detach() / run.size for run in runs]).mean().double()
            move = self.step_size * (rate.cpu() - self.target) / self.nats.clamp(min=1.0)
            log = (self.multiplier.log() + move).clamp(-LARGEST_LOG, LARGEST_LOG)
            # A new tensor: the old one may be part of a graph.
            self.multiplier = log.exp()
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the multiplier and the number of steps."""
        return {"count": self.count, "multiplier": self.multiplier}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state_dict` returned."""
        self.count = int(state["count"])
        self.multiplier = state["multiplier"].detach().clone()
