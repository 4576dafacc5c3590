# SPDX-License-Identifier: Apache-2.0
"""What is sampled into a store, and what tells it from all else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch

from pyro_idvae.infer.fit.pair import PairTensors
from pyro_idvae.infer.guide_sampling import GuideSampling
from pyro_idvae.infer.names import Names
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.fingerprint import (
    arguments_identity,
    name_of,
    plain,
    tensor_identity,
)
from pyro_idvae.programs.run import undisturbed

PROBE, TOLERANCE = "log density of a draw", 1e-4
"""What else tells a model and a guide from others of the same names."""
UNCHECKED = ("progress", "seed", "block_size", "parallel")
"""Options that do not say what the draws are of, or have a rule of their own."""


@dataclass(frozen=True)
class Order:
    """A call of :func:`mcmc`, or of :func:`from_guide`.

    Attributes:
        bound: the model on its data, with its guide if that is drawn from.
        sampling: how to draw.
        names: what dimensions and labels are called.
        num_prior_samples: draws from the prior.
        num_limit_draws: draws to bound the marginals by; 0 for none, None for what is affordable.
        posterior_predictive: whether to draw new observations.
    """

    bound: BoundModel
    sampling: Sampling | GuideSampling
    names: Names
    num_prior_samples: int
    num_limit_draws: int | None
    posterior_predictive: bool

    def identity(self) -> dict[str, Any]:
        """Return what tells this call from others whose draws are others, in JSON."""
        bound, names = self.bound, self.names
        tensors = PairTensors(bound.model, bound.guide, bound.parameters).live()
        options = {
            **self.sampling.said(),
            "num_prior_samples": self.num_prior_samples,
            "num_limit_draws": self.num_limit_draws,
            "posterior_predictive": self.posterior_predictive,
        }
        programs = {"model": name_of(bound.model)}
        if bound.guide is not None:
            programs["guide"] = name_of(bound.guide)
        return {
            **programs,
            "data": arguments_identity(bound.arguments),
            "parameters": {name: tensor_identity(v) for name, v in sorted(tensors.items())},
            "options": {name: plain(v) for name, v in options.items() if name not in UNCHECKED},
            "dims": {site: list(dims) for site, dims in names.sites.items()},
            "labels": {dim: list(map(str, values)) for dim, values in names.labels.items()},
            # Last: what else differs says better what differs.
            PROBE: self._probe(),
        }

    @torch.no_grad()
    def _probe(self) -> list[float]:
        """Return log p, and log q, of a draw, per row: functions of one name may be others."""
        bound = self.bound
        with undisturbed(bound.arguments), bound.running(), pyro.validation_enabled(False):
            torch.manual_seed(0)
            if bound.guide is None:
                values, log_q = bound.run_prior()[0], torch.zeros(())
            else:
                values, log_q = bound.draw_guide()
            terms = [term for side in bound.log_densities(values) for term in side.values()]
        log_p = sum(float(term.double().sum()) for term in terms)
        return [log_p / bound.rows, float(log_q.double().sum()) / bound.rows]


def is_same_probe(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether two probes are of one model, and guide, up to rounding."""
    if len(one) != len(other):
        return False
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
