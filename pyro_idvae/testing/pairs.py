# SPDX-License-Identifier: Apache-2.0
"""Models and guides that objectives are tried on: ours, and plain functions."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_idvae.models import IDVAE


def modules(dtype: torch.dtype = torch.double) -> tuple[Any, Any, tuple[Any, ...]]:
    """Return a model and guide of ours, and their arguments."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    vae = IDVAE(4, 2, "normal", hidden_dims=[6], encoder_hidden_dims=[6]).to(dtype)
    return vae.model, vae.guide, (2.0 * torch.randn(12, 4, dtype=torch.double).to(dtype),)


def functions() -> tuple[Any, Any, tuple[Any, ...]]:
    """Return a model and guide that are plain functions, and their arguments."""
    pyro.clear_param_store()

    def parameter(name: str, *shape: int, start: float, **options: Any) -> Any:
        return pyro.param(name, torch.full(shape, start, dtype=torch.double), **options)

    def model(x: Tensor) -> None:
        weight = parameter("weight", 2, 3, start=0.5)
        noise = parameter("noise", start=2.0, constraint=constraints.positive)
        zeros = torch.zeros(2, dtype=torch.double)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(zeros, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ weight, noise).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        gain = parameter("gain", 3, 2, start=0.1)
        scale = parameter("scale", 2, start=1.0, constraint=constraints.positive)
        with pyro.plate("rows", len(x)):
            loc = x @ gain
            pyro.sample("z", dist.Normal(loc, scale.expand_as(loc)).to_event(1))

    generator = torch.Generator().manual_seed(2)
    z = torch.randn(20, 1, generator=generator, dtype=torch.double)
    x = z * torch.tensor([2.0, 1.0, -1.0], dtype=torch.double)
    return model, guide, (x + 0.3 * torch.randn(20, 3, generator=generator, dtype=torch.double),)
