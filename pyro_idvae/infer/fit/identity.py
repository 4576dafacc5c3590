# SPDX-License-Identifier: Apache-2.0
"""What makes a fit the fit it is: its model, data and options, in JSON."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from pyro_idvae.infer.fit.batches import Batches, LoaderBatches
from pyro_idvae.infer.fit.pair import PairTensors
from pyro_idvae.programs.arguments import named_arguments
from pyro_idvae.programs.parameters import Claim
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sites import latent_sites, observed_sites, unwrap_masks

HASHED_BYTES = 2**26
"""Larger tensors are known by rows at equal distances that come to as many bytes."""


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
        "model": _name(model),
        "guide": _name(guide),
        "tensors": {n: f"{tuple(v.shape)} {v.dtype}" for n, v in sorted(pair.live().items())},
        "sites": sites,
    }


def _name(program: Program) -> str:
    kind = program if hasattr(program, "__qualname__") else type(program)
    return str(kind.__qualname__)


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
    return {
        name: _content(value) if isinstance(value, Tensor) else _plain(value)
        for name, value in named_arguments(batches.arguments).items()
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON has; of others the type, as their words may hold addresses."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else _name(value)


def _content(tensor: Tensor) -> str:
    size = tensor.numel() * tensor.element_size()
    rows = tensor.detach()
    if size > HASHED_BYTES and len(rows) > 1:
        rows = rows[:: max(1, size // HASHED_BYTES)]
    if rows.layout != torch.strided:
        rows = rows.to_dense()
    dense = rows.cpu().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(dense.numpy().data).hexdigest()[:16]
    return f"{tuple(tensor.shape)} {tensor.dtype} {digest}"
