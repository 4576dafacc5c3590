# SPDX-License-Identifier: Apache-2.0
"""The KL at a weight that rises: annealing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pyro_idvae._checks import check_count
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.schedules import Cyclical, Linear
from pyro_idvae.infer.objectives.weighted import Weighted

UNITS = ("steps", "epochs")


class Annealed(Weighted):
    r"""KL annealing: the weight of the KL rises from almost nothing to 1, once or in cycles.

    .. math:: \mathcal L_t = -\mathbb E_q[\log p(x|z)] + w_t\,\mathrm{KL}(q(z|x)\,\|\,p(z))

    *Helps* where the encoder is slow and the decoder would learn to do without it: the optimum is
    that of the ELBO, and another way leads there. *Does not help* where the collapse is the optimum
    or the likelihood does not depend on z: what is kept while the weight is small is lost later.

    It counts its steps itself. Evaluations, such as validation in :func:`fit`, have weight 1:
    they are −ELBOs.

    Args:
        schedule: ``"linear"``, ``"cyclical"``, or a function of the number of steps (or epochs)
            done that returns the weight.
        length: steps (or epochs) after which the weight stays 1; not for a function.
        cycles: of the cyclical schedule.
        rise: share of a cycle in which the weight rises.
        unit: ``"steps"``, or ``"epochs"`` in :func:`fit`; elsewhere epochs must be told by
            :meth:`begin_epoch`.
        elbo: a Pyro ELBO; ``Trace_ELBO()`` by default.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import Annealed
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> annealed = Annealed("cyclical", length=4, cycles=2)
        >>> options = {"num_epochs": 3, "seed": 0, "progress": False}
        >>> _ = idvae.fit(vae.model, vae.guide, torch.randn(20, 5), objective=annealed, **options)
        >>> annealed.count, annealed.training_weight()
        (3, 1.0)

    Reference:
        Bowman et al., *Generating Sentences from a Continuous Space*, CoNLL 2016; Fu et al.,
        *Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing*, NAACL 2019.
    """

    exempt: Mapping[str, str] = {}

    def __init__(
        self,
        schedule: str | Callable[[int], float] = "linear",
        *,
        length: int = 1000,
        cycles: int = 4,
        rise: float = 0.5,
        unit: str = "steps",
        elbo: Any = None,
    ) -> None:
        if unit not in UNITS:
            raise ArgumentError(f"unit={unit!r}: expected one of {UNITS}")
        self.unit = unit
        self.schedule = _schedule(schedule, length, cycles, rise)
        self.count = 0
        super().__init__(elbo)

    def training_weight(self) -> float:
        """Return the weight of the step to be taken."""
        weight = self.schedule(self.count)
        if isinstance(weight, complex) or not math.isfinite(weight) or weight < 0:
            raise ArgumentError(
                f"schedule({self.count}) returned {weight!r}: expected a weight of 0 or more"
            )
        return float(weight)

    def evaluation_weight(self) -> float:
        """Return 1."""
        return 1.0

    def advance(self) -> None:
        """Count a step."""
        self.count += self.unit == "steps"

    def begin_epoch(self, epoch: int) -> None:
        """Take note of an epoch that begins, counted from 0."""
        super().begin_epoch(epoch)
        if self.unit == "epochs":
            self.count = check_count("epoch", epoch, minimum=0)

    def restart(self) -> None:
        """Forget all steps."""
        super().restart()
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps, and the state of the ELBO that is weighted."""
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self.count = int(state["count"])


def _schedule(
    schedule: str | Callable[[int], float], length: int, cycles: int, rise: float
) -> Callable[[int], float]:
    if schedule == "linear":
        return Linear(length)
    if schedule == "cyclical":
        return Cyclical(length, cycles, rise)
    if isinstance(schedule, type) or not callable(schedule):
        raise ArgumentError(
            f"schedule={schedule!r}: expected 'linear', 'cyclical', or a function of the number of "
            "steps that returns a weight"
        )
    return schedule
