# SPDX-License-Identifier: Apache-2.0
"""What inference loses of log p(x), and how much of it the guide's family and its encoder do."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pyro_idvae.diagnostics.evidence.annealed import anneal
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.infer.rowwise.annealing.annealer import Annealer
from pyro_idvae.infer.rowwise.annealing.sources import source_of
from pyro_idvae.infer.rowwise.stream import drawn_seed
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.run import gradients

NUM_CHAINS, CONDITIONAL_ESS = 16, 0.97
"""Of an annealing that is to cost little beside the exact posterior."""


@dataclass(frozen=True)
class InferenceGap:
    r"""What the guide loses of log p(x), in nats, by row.

    .. math:: \log p(x) - \mathrm{ELBO}(q) =
        \underbrace{\log p(x) - \mathrm{ELBO}(q^*)}_{\text{family}} +
        \underbrace{\mathrm{ELBO}(q^*) - \mathrm{ELBO}(q)}_{\text{amortisation}}

    with q* of the guide's family, optimised freely for each data point: to within some thousandths
    of a nat, which their errors do not count. What training has not yet reached counts as
    amortisation.

    Attributes:
        evidence: log p(x), by annealing.
        elbo: of the guide.
        free_elbo: of q*; None without one.

    Reference:
        Cremer, Li & Duvenaud, *Inference Suboptimality in Variational Autoencoders*, ICML 2018.
    """

    evidence: RowEstimate
    elbo: RowEstimate
    free_elbo: RowEstimate | None

    @property
    def total(self) -> RowEstimate:
        """KL(q(z|x) ‖ p(z|x))."""
        return self.evidence.minus(self.elbo)

    @property
    def family(self) -> RowEstimate | None:
        """What the best q of the family loses; None without a free q."""
        return None if self.free_elbo is None else self.evidence.minus(self.free_elbo)

    @property
    def amortisation(self) -> RowEstimate | None:
        """What the guide loses beside the best q of its family; None without a free q."""
        return None if self.free_elbo is None else self.free_elbo.minus(self.elbo)

    def __str__(self) -> str:
        words = (
            f"all latents together: log p(x) {_plus(self.evidence)}, ELBO {_plus(self.elbo)}; the "
            f"guide loses {_plus(self.total)} nats"
        )
        if self.family is None or self.amortisation is None:
            return words
        return (
            f"{words}, of these its family {_plus(self.family)} and amortisation "
            f"{_plus(self.amortisation)}"
        )


def _plus(estimate: RowEstimate) -> str:
    return f"{estimate.mean:.2f} ± {estimate.mcse:.2f}"


@gradients()
def inference_gap(
    alone: BoundModel,
    elbo: RowEstimate | None,
    free_elbo: RowEstimate | None,
    *,
    block_size: int | None,
) -> InferenceGap | None:
    """Return what a guide loses; None where rows share latents.

    Args:
        alone: the model.
        elbo: of the guide; None if it is not known row by row.
        free_elbo: ELBO of the best q of the guide's family, if that is known.
        block_size: rows that are annealed at once.
    """
    if not alone.factorises or elbo is None:
        return None
    annealer = Annealer(
        alone,
        source_of(alone, None, "laplace"),
        chains=NUM_CHAINS,
        num_temperatures=None,
        conditional_ess=CONDITIONAL_ESS,
        num_steps=4,
        num_posterior_draws=1,
        both=False,
        block_size=block_size,
        # All processes draw alike here, as one would by itself.
        seed=drawn_seed(),
    )
    found = anneal(annealer, elbo, began=time.process_time())
    return InferenceGap(RowEstimate(found.lower, found.standard_error), elbo, free_elbo)
