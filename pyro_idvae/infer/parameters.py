# SPDX-License-Identifier: Apache-2.0
"""The parameters of a model/guide pair, whoever else uses the global parameter store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_idvae.errors import SiteMismatchError

Program = Callable[..., Any]
"""A Pyro model or guide: any callable."""


def run_pair(
    model: Program, guide: Program | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Run the guide, then the model on the guide's draws; return both traces."""
    if guide is None:
        return poutine.trace(model).get_trace(*args, **kwargs), None
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    replayed = poutine.replay(model, trace=guide_trace)
    return poutine.trace(replayed).get_trace(*args, **kwargs), guide_trace


def claim_parameters(
    model: Program, guide: Program | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the unconstrained parameters of the pair by their names in the parameter store.

    A module owns its parameters: entries of the global store that another module left under the
    same names would keep this one from ever being trained, so they are removed. Bare ``pyro.param``
    statements own nothing; for them the store's value stands, as in Pyro.
    """
    store = pyro.get_param_store()
    with torch.no_grad(), poutine.block():
        with store.scope() as fresh:
            run_pair(model, guide, args, kwargs)
        for name, own in fresh["params"].items():
            if isinstance(own, nn.Parameter) and name in store and store._params[name] is not own:
                del store[name]
        with poutine.trace(param_only=True) as capture:
            run_pair(model, guide, args, kwargs)
    names = [name for name, node in capture.trace.nodes.items() if node["type"] == "param"]
    return {name: store._params[name] for name in names}


def latent_sites(trace: Any) -> dict[str, Any]:
    """Return the unobserved sample sites of a trace, subsampling left out."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and not is_subsampling(site)
    }


def observed_sites(trace: Any) -> dict[str, Any]:
    """Return the observed sample sites of a trace; deterministic and factor sites left out."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and site["is_observed"]
        and not is_subsampling(site)
        and not site["infer"].get("_deterministic", False)
    }


def is_subsampling(site: Mapping[str, Any]) -> bool:
    """Tell whether a site is the index of a subsampled plate."""
    return type(site["fn"]).__name__ == "_Subsample"


def check_sites(model_trace: Any, guide_trace: Any) -> None:
    """Raise unless the guide has exactly the model's latent sites.

    Discrete sites that are to be enumerated need none, and auxiliary guide sites are free.
    """
    wanted = {
        name
        for name, site in latent_sites(model_trace).items()
        if not site["infer"].get("enumerate")
    }
    enumerated = set(latent_sites(model_trace)) - wanted
    found = {
        name
        for name, site in latent_sites(guide_trace).items()
        if not site["infer"].get("is_auxiliary")
    }
    missing, extra = sorted(wanted - found), sorted(found - wanted - enumerated)
    if missing or extra:
        raise SiteMismatchError(
            f"the guide has the latent sites {sorted(found)} but the model has {sorted(wanted)}: "
            + (f"the guide lacks {missing}" if missing else "")
            + (" and " if missing and extra else "")
            + (f"the model lacks {extra}" if extra else "")
            + "; give both the same names, or mark helpers with infer={'is_auxiliary': True}"
        )


@contextmanager
def frozen(program: Program) -> Iterator[None]:
    """Hold a module's parameters constant and put it in evaluation mode, for sampling latents."""
    if not isinstance(program, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in program.modules()]
    wanted = [parameter for parameter in program.parameters() if parameter.requires_grad]
    try:
        program.eval()
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode
