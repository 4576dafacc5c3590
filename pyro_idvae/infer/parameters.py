# SPDX-License-Identifier: Apache-2.0
"""The parameters of a model/guide pair, whoever else uses the global parameter store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_idvae.errors import ArgumentError, SiteMismatchError

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
    with torch.no_grad(), poutine.block(), evaluating(model, guide):
        with store.scope() as fresh, _Owners(model, guide):
            run_pair(model, guide, args, kwargs)
        for name, own in fresh["params"].items():
            if isinstance(own, nn.Parameter) and name in store and store._params[name] is not own:
                del store[name]
        with poutine.trace(param_only=True) as capture:
            run_pair(model, guide, args, kwargs)
    names = [name for name, node in capture.trace.nodes.items() if node["type"] == "param"]
    if any(name not in store for name in names):
        raise ArgumentError(
            "parameters are not in Pyro's store: pyro.settings.set(module_local_params=True) is "
            "not supported here; set it to False"
        )
    # A module registered twice has each tensor under two names: one of them is enough.
    tensors = {id(store._params[name]): name for name in reversed(names)}
    return {name: store._params[name] for name in names if tensors[id(store._params[name])] == name}


class _Owners(Messenger):
    """Raises if two modules of one pair use the same name: the second would never be trained."""

    def __init__(self, *programs: Program | None) -> None:
        super().__init__()
        self.owners: dict[str, Tensor] = {}
        self.names: dict[int, list[str]] = {}
        self.modules = [program for program in programs if isinstance(program, nn.Module)]
        self.own = [{n: id(p) for n, p in m.named_parameters()} for m in self.modules]

    def _pyro_post_param(self, msg: Any) -> None:
        given = msg["args"][1] if len(msg["args"]) > 1 else None
        if isinstance(given, nn.Parameter):
            self.owners.setdefault(msg["name"], given)
            self.names.setdefault(id(given), []).append(msg["name"])

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        if args[0] is not None:
            return
        for tensor, names in self.names.items():
            if all(id(self.owners[name]) != tensor for name in names):
                self._refuse(names[0])
        for module, known in zip(self.modules, self.own, strict=True):
            for name, parameter in module.named_parameters():
                # A PyroModule gives up its parameter for one of the same name in the store.
                if known.get(name, id(parameter)) != id(parameter):
                    self._refuse(name)

    @staticmethod
    def _refuse(name: str) -> None:
        raise ArgumentError(
            f"two modules of model and guide use the parameter name {name!r}: Pyro would train one "
            "of them only. Make them attributes of different names of one PyroModule, or register "
            "them by pyro.module with different names"
        )


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
        and not isinstance(site["fn"], dist.Unit)
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
def evaluating(*programs: Any) -> Iterator[None]:
    """Put modules in evaluation mode; each of their parts gets its own mode back."""
    # Pyro's own examples pass methods of a module as model and guide.
    holders = [getattr(program, "__self__", program) for program in programs]
    modules = [holder for holder in holders if isinstance(holder, nn.Module)]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def frozen(program: Program) -> Iterator[None]:
    """Hold a module's parameters constant, for sampling latents."""
    parameters = program.parameters() if isinstance(program, nn.Module) else []
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
