# SPDX-License-Identifier: Apache-2.0
"""Latents from the prior, data from the likelihood, put where the model reads its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import constraints

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs.arguments import Arguments, tensors_of, with_tensors
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.observed import WRAPPERS
from pyro_idvae.programs.row_density import is_same
from pyro_idvae.programs.run import FAILURES, describe
from pyro_idvae.programs.sites import factor_sites

Places = Mapping[str, Sequence[int]]
"""By observed site, which of the tensors among the arguments hold its data."""

TRIES = 5
"""Simulated data that a place is looked for with, as some may be the given ones by chance."""
AT_EDGE = 0.01
"""Share of the data from which on their being rounded to the edge of the support matters."""


class Simulation(NamedTuple):
    """Latents and data drawn from a model."""

    values: Values
    """The latents that have draws, by site."""
    arguments: Arguments
    """The model's arguments with the data in their places."""


@torch.no_grad()
def find_places(bound: BoundModel) -> Places:
    """Return which arguments hold what each site observes.

    Each argument of the right size is replaced by simulated data: it is the one if the site then
    observes these. Entries that a mask hides may be anything.

    Raises:
        ArgumentError: for what no data can be simulated of: terms of ``pyro.factor``, a model that
            observes nothing, or data that are not arguments.
    """
    factors = list(factor_sites(bound.trace))
    if factors:
        raise ArgumentError(
            f"the model has the terms {factors} of pyro.factor: nothing can be simulated from "
            "them; write them as sites that observe something"
        )
    if not bound.observed:
        raise ArgumentError("the model observes nothing: there are no data to simulate")
    tensors = tensors_of(bound.arguments)
    found: dict[str, list[int]] = {}
    with bound.running(), pyro.validation_enabled(False):
        for name in bound.observed:
            place = _place_of(bound, name, tensors)
            # Handed over twice, for example once as the data and once for an encoder.
            found[name] = [i for i, other in enumerate(tensors) if other is tensors[place]]
    taken = [place for places in found.values() for place in places]
    if len(set(taken)) < len(taken):
        raise ArgumentError(
            f"the sites {list(found)} observe one argument: data are simulated for each site by "
            "itself; pass each its own argument"
        )
    return found


def _place_of(bound: BoundModel, name: str, tensors: list[Tensor]) -> int:
    for _ in range(TRIES):
        site = _unconditioned(bound).nodes[name]
        for place, tensor in enumerate(tensors):
            if tensor.numel() != site["value"].numel() or tensor.dtype == torch.bool:
                continue
            tried = [*tensors]
            tried[place] = _filled(tensor, site)
            if torch.equal(tried[place], tensor):
                continue  # by chance the given ones
            try:
                args, kwargs = with_tensors(bound.arguments, tuple(tried))
                trace = poutine.trace(bound.model).get_trace(*args, **kwargs)
            except FAILURES:
                continue
            if _observes(trace.nodes.get(name), tried[place], site):
                return place
    shape = tuple(bound.trace.nodes[name]["value"].shape)
    raise ArgumentError(
        f"what the site {name!r} observes, of shape {shape}, is none of the model's arguments "
        f"({describe(bound.arguments)}): simulated data cannot be put in its place; give the model "
        "an argument of its own for it, and observe that"
    )


@torch.no_grad()
def simulate(bound: BoundModel, places: Places) -> Simulation:
    """Draw latents from the prior and data from the likelihood.

    Covariates, and entries that a mask hides, stay as they are.

    Args:
        bound: the model on arguments of the size wanted.
        places: by :func:`find_places`.

    Raises:
        ArgumentError: if the law of latents or data depends on the data themselves.
        DataError: for simulated data that are not finite.
    """
    with bound.running(), pyro.validation_enabled(False):
        trace = _unconditioned(bound)
        trace.compute_log_prob()
        tensors = tensors_of(bound.arguments)
        for name, where in places.items():
            site = trace.nodes[name]
            for place in where:
                tensors[place] = _filled(tensors[place], site)
                if tensors[place].is_floating_point():
                    _check_numbers(name, tensors[place], site)
        arguments = with_tensors(bound.arguments, tuple(tensors))
        _check_law(bound, places, trace, arguments)
    return Simulation({name: trace.nodes[name]["value"] for name in bound.latents}, arguments)


def _unconditioned(bound: BoundModel) -> Any:
    """Return a run in which nothing is observed."""
    args, kwargs = bound.arguments
    return poutine.trace(poutine.uncondition(bound.model)).get_trace(*args, **kwargs)


def _filled(tensor: Tensor, site: Any) -> Tensor:
    """Return an argument with what was simulated for a site, but where a mask hides it."""
    value = site["value"]
    hidden = _hidden(site, tensor.reshape(value.shape).to(value.dtype))
    new = torch.where(hidden, tensor.reshape(value.shape), value.to(tensor.dtype))
    return new.reshape(tensor.shape)


def _hidden(site: Any, other: Tensor) -> Tensor:
    """Return which entries of a site's value a mask takes out of its density.

    A masked density is 0 at the value and at any other; a density that is no mask's is not.
    """
    value, fn = site["value"], site["fn"]
    hidden = torch.zeros_like(value, dtype=torch.bool)
    if site["mask"] is not None:
        mask = torch.as_tensor(site["mask"], device=value.device)
        hidden = hidden | ~mask.reshape(mask.shape + (1,) * fn.event_dim)
    while isinstance(fn, WRAPPERS):
        if isinstance(fn, dist.MaskedDistribution):
            none = (fn.log_prob(value) == 0) & (fn.log_prob(other) == 0)
            hidden = hidden | none.reshape(none.shape + (1,) * fn.event_dim)
        fn = fn.base_dist
    return hidden


def _check_numbers(name: str, tensor: Tensor, site: Any) -> None:
    """Raise for simulated data that are not finite, or rounded to the edge of their support."""
    value = site["value"]
    given = tensor.reshape(value.shape)
    seen = ~_hidden(site, given.to(value.dtype))
    if not bool((given.isfinite() | ~seen).all()):
        raise DataError(
            f"data simulated for the site {name!r} are not finite: the prior reaches where the "
            "likelihood overflows; use a narrower one, or double precision"
        )
    support, finest = site["fn"].support, torch.finfo(given.dtype)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    edge = torch.zeros_like(seen)
    if support in (constraints.unit_interval, constraints.positive):
        edge = (given > 0) & (given <= finest.tiny)
    if support is constraints.unit_interval:
        edge = edge | ((given < 1) & (given >= 1 - finest.eps))
    share = float((edge & seen).sum()) / max(int(seen.sum()), 1)
    if share > AT_EDGE:
        raise DataError(
            f"{100 * share:.0f} % of the data simulated for the site {name!r} lie at the edge of "
            f"what {given.dtype} holds of their support: rounded so, they are not the model's, and "
            "no posterior could be right; use double precision, or a model whose data lie inside"
        )


def _observes(node: Any, wanted: Tensor, site: Any) -> bool:
    """Tell whether a site observes these data, but where a mask hides them."""
    if node is None or node["value"].numel() != wanted.numel():
        return False
    given = node["value"].reshape(site["value"].shape)
    same = given == wanted.reshape(given.shape).to(given.dtype)
    return bool((same | _hidden(site, given)).all())


def _check_law(bound: BoundModel, places: Places, trace: Any, arguments: Arguments) -> None:
    """Raise if latents or data would have another law, were the simulated data the given ones."""
    names = [
        name
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not _upstream.is_subsampling(site)
        and not _upstream.is_deterministic(site)
    ]
    drawn = {name: trace.nodes[name]["value"] for name in names if name not in places}
    args, kwargs = arguments
    again = poutine.trace(poutine.condition(bound.model, data=drawn)).get_trace(*args, **kwargs)
    again.compute_log_prob()
    nodes: Any = again.nodes
    for name in names:
        node, site = nodes.get(name), trace.nodes[name]
        kept = node is not None and node["log_prob"].shape == site["log_prob"].shape
        if not kept or not is_same(node["log_prob"], site["log_prob"]):
            raise ArgumentError(
                f"the law of the site {name!r} depends on the data themselves: with simulated data "
                "it is another one, so that what was simulated is not what would be inferred. "
                "Pass what it depends on as an argument beside the data"
            )
    for name, where in places.items():
        if not _observes(nodes[name], tensors_of(arguments)[where[0]], trace.nodes[name]):
            raise ArgumentError(
                f"the site {name!r} does not observe its argument as it is: observe the argument "
                "itself, and change it before it is passed"
            )
