# SPDX-License-Identifier: Apache-2.0
"""What makes a fit the fit it is: its model, data and options, in JSON."""

from __future__ import annotations

from typing import Any

from pyro_idvae.infer.fit.batches import Batches, LoaderBatches
from pyro_idvae.infer.fit.pair import PairTensors
from pyro_idvae.programs.fingerprint import arguments_identity, name_of
from pyro_idvae.programs.parameters import Claim
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sites import latent_sites, observed_sites, unwrap_masks


def model_identity(pair: PairTensors, claim: Claim, model: Program, guide: Program) -> Any:
    """Return the programs' names, their tensors' shapes and their sites' distributions."""
    traces = claim.model_trace, claim.guide_trace
    sites = {
        role: {
            name: f"{type(unwrap_masks(site['fn'])).__name__} {tuple(site['fn'].event_shape)}"
            for name, site in (latent_sites(trace) | observed_sites(trace)).items()
        }
        for role, trace in zip(("model", "guide"), traces, strict=True)
    }
    return {
        "model": name_of(model),
        "guide": name_of(guide),
        "tensors": {n: f"{tuple(v.shape)} {v.dtype}" for n, v in sorted(pair.live().items())},
        "sites": sites,
    }


def data_identity(batches: Batches | None) -> Any:
    """Return what tells data from other data."""
    if batches is None:
        return None
    if isinstance(batches, LoaderBatches):
        loader: Any = batches.loader
        return {
            "dataset": type(loader.dataset).__name__,
            "rows": batches.num_rows,
            "batch_size": loader.batch_size,
            "drop_last": loader.drop_last,
            "sampler": type(loader.sampler).__name__,
        }
    return arguments_identity(batches.arguments)
