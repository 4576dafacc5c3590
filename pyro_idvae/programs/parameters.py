# SPDX-License-Identifier: Apache-2.0
"""The parameters of a model/guide pair, whoever else uses the global parameter store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.likelihood_call import Call, Recorder
from pyro_idvae.programs.run import Program, evaluating, explained, modules_of, run_pair


class Claim(NamedTuple):
    """What :func:`claim_parameters` found."""

    parameters: dict[str, Tensor]
    """The unconstrained parameters by their names in Pyro's parameter store."""
    model_trace: Any
    """A run of the model with them."""
    guide_trace: Any
    """The run of the guide that the model's was replayed on; None without a guide."""
    calls: list[Call]
    """The calls of likelihoods in that run of the model."""


def claim_parameters(model: Program, guide: Program | None, arguments: Arguments) -> Claim:
    """Make the names of a pair's parameters its own, and return them with a run of both.

    A module owns its parameters: entries of the global store that another module left under the
    same names would keep this one from ever being trained, so they are removed. Bare ``pyro.param``
    statements own nothing; for them the store's value stands, as in Pyro.
    """
    store = pyro.get_param_store()
    with torch.no_grad(), poutine.block(), evaluating(model, guide):
        recorder = Recorder()
        first = explained(
            "the model" if guide is None else "the pair of model and guide", arguments
        )
        with first, recorder.finding(), store.scope() as fresh, _Owners(model, guide):
            run_pair(model, guide, arguments)
        held = dict(store.named_parameters())
        _remove(
            name
            for name, own in fresh["params"].items()
            if isinstance(own, nn.Parameter) and name in held and held[name] is not own
        )
        with recorder.listening():
            traces = run_pair(model, guide, arguments)
    names = {
        name: None
        for trace in reversed(traces)
        if trace is not None
        for name, node in trace.nodes.items()
        if node["type"] == "param"
    }
    if any(name not in store for name in names):
        raise ArgumentError(
            "parameters are not in Pyro's store: pyro.settings.set(module_local_params=True) is "
            "not supported here; set it to False"
        )
    # A module registered twice has each tensor under two names: the first of them is enough.
    held = dict(store.named_parameters())
    firsts: dict[int, str] = {}
    for name in names:
        firsts.setdefault(id(held[name]), name)
    return Claim({name: held[name] for name in firsts.values()}, *traces, recorder.calls)


def _remove(names: Iterable[str]) -> None:
    """Remove entries of Pyro's store; its own ``del`` fails where one tensor has two names."""
    store, stale = pyro.get_param_store(), set(names)
    if stale:
        state: Any = store.get_state()
        kept: Any = {
            part: {n: v for n, v in of.items() if n not in stale} for part, of in state.items()
        }
        store.clear()
        store.set_state(kept)


class _Owners:
    """Raises if two modules of one pair use the same name: the second would never be trained."""

    def __init__(self, *programs: Program | None) -> None:
        self.handler = _upstream.Handler(post_param=self._note)
        self.owners: dict[str, Tensor] = {}
        self.names: dict[int, list[str]] = {}
        self.modules = modules_of(*programs)
        self.own = [{n: id(p) for n, p in m.named_parameters()} for m in self.modules]

    def _note(self, msg: Any) -> None:
        given = _upstream.given_parameter(msg)
        if isinstance(given, nn.Parameter):
            self.owners.setdefault(msg["name"], given)
            self.names.setdefault(id(given), []).append(msg["name"])

    def __enter__(self) -> None:
        self.handler.__enter__()

    def __exit__(self, *args: Any) -> None:
        self.handler.__exit__(*args)
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
