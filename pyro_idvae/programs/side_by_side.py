# SPDX-License-Identifier: Apache-2.0
"""Many draws in one run of a model: as repeated rows, wherever that gives what one draw gives."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import pyro
import torch
from torch import Tensor

from pyro_idvae.programs.arguments import repeat_rows, tensors_of
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.row_density import is_same

NUMBERS_AT_ONCE = 2**17
"""How many numbers, data and latents together, go into one run: they stay in the cache."""
FEW = 4
"""Up to this many draws are run one by one: checking would cost as many runs."""
NUM_CHECKED = 3
"""How many draws are also run alone, to see that none depends on its neighbours."""


class Densities(NamedTuple):
    """Log densities of draws, in nats, of shape ``(draws, rows)`` or ``(draws,)``."""

    likelihood: Values
    """log p(x|z), by observed site."""
    prior: Values
    """log p(z), by latent site."""


class PriorDraws(NamedTuple):
    """Draws from the prior."""

    values: Values
    """Latents, of shape ``(draws,) + site shape``."""
    likelihood: Values
    """log p(x|z) of each, by observed site."""


def stack(draws: list[Values]) -> Values:
    """Stack draws along a new first dimension."""
    return {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}


def count_of(draws: Values) -> int:
    """Return the length of the first dimension."""
    return len(next(iter(draws.values())))


def nth(draws: Values, index: int) -> Values:
    """Return one draw of many."""
    return {name: value[index] for name, value in draws.items()}


@torch.no_grad()
def densities_of(bound: BoundModel, draws: Values) -> Densities:
    """Return the log densities of draws, of shape ``(draws,) + site shape``.

    Draws stand side by side as repeated rows if the model allows it, else they go one by one.
    """
    with bound.running(), pyro.validation_enabled(False):
        found = _at_once(bound, draws)
        if found is None:
            each = [bound.log_densities(nth(draws, i)) for i in range(count_of(draws))]
            found = Densities(*(stack(list(part)) for part in zip(*each, strict=True)))
    return found


@torch.no_grad()
def prior_draws(bound: BoundModel, count: int) -> PriorDraws:
    """Draw from the prior, with the log-likelihoods, side by side if the model allows it."""
    with bound.running(), pyro.validation_enabled(False):
        found = _prior_at_once(bound, count)
        if found is not None:
            return found
        each = [_prior_run(bound, 1) for _ in range(count)]
    values, likelihood = zip(*((value, found.likelihood) for value, found in each), strict=True)
    return PriorDraws(_joined(values), _joined(likelihood))


@torch.no_grad()
def guide_draws(bound: BoundModel, count: int) -> tuple[Values, Tensor]:
    """Draw from a guide, side by side if it allows it.

    Returns:
        Latents of shape ``(draws,) + site shape``, and log q, of shape ``(draws, rows)`` or
        ``(draws,)``.
    """
    with bound.running(), pyro.validation_enabled(False):
        found = _guide_at_once(bound, count)
        if found is None:
            values, log_q = zip(*(bound.draw_guide() for _ in range(count)), strict=True)
            found = stack(list(values)), torch.stack(log_q)
    return found


def group_size(bound: BoundModel) -> int:
    """Return how many draws go into one run."""
    one = sum(t.numel() for t in [*tensors_of(bound.arguments), *bound.values().values()])
    return max(1, NUMBERS_AT_ONCE // max(one, 1))


def _may_repeat(bound: BoundModel, count: int) -> bool:
    local = all(bound.row_place(name) is not None for name in bound.latents)
    return count > FEW and local and group_size(bound) > 1


def _at_once(bound: BoundModel, draws: Values) -> Densities | None:
    """Return densities of draws as repeated rows; None where those are not the draws' own."""
    number = count_of(draws)
    if not _may_repeat(bound, number):
        return None
    group, parts = group_size(bound), []
    for first in range(0, number, group):
        part = {name: value[first : first + group] for name, value in draws.items()}
        found = _repeated(bound, part)
        if found is None:
            return None
        parts.append(found)
    joined = Densities(*map(_joined, zip(*parts, strict=True)))
    return joined if bound.factorises or _agrees(bound, draws, joined) else None


def _repeated(bound: BoundModel, draws: Values) -> Densities | None:
    times = count_of(draws)
    wide = {name: _as_rows(bound, name, value) for name, value in draws.items()}
    try:
        # A model that is not made for it may warn before it fails.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            both = bound.log_densities(wide, repeat_rows(bound.arguments, times))
        return Densities(*({n: _by_draw(v, times) for n, v in side.items()} for side in both))
    except (RuntimeError, ValueError, IndexError):
        return None


def _prior_at_once(bound: BoundModel, count: int) -> PriorDraws | None:
    if not _may_repeat(bound, count):
        return None
    group, values, parts = group_size(bound), [], []
    shapes = {name: value.shape for name, value in bound.values().items()}
    for first in range(0, count, group):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn, found = _prior_run(bound, min(group, count - first))
        except (RuntimeError, ValueError, IndexError):
            return None
        if any(value.shape[1:] != shapes[name] for name, value in drawn.items()):
            return None
        values.append(drawn)
        parts.append(found)
    draws, densities = _joined(values), Densities(*map(_joined, zip(*parts, strict=True)))
    if not bound.factorises and not _agrees(bound, draws, densities):
        return None
    return PriorDraws(draws, densities.likelihood)


def _guide_at_once(bound: BoundModel, count: int) -> tuple[Values, Tensor] | None:
    """Return draws of a guide on repeated rows; None where those are not the guide's own."""
    if not _may_repeat(bound, count):
        return None
    group, values, parts = group_size(bound), [], []
    shapes = {name: value.shape for name, value in bound.values().items()}
    for first in range(0, count, group):
        times = min(group, count - first)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wide, density = bound.draw_guide(repeat_rows(bound.arguments, times))
                drawn = {name: _from_rows(bound, name, v, times) for name, v in wide.items()}
        except (RuntimeError, ValueError, IndexError):
            return None
        rows = density.numel() == times * bound.rows
        if not rows or any(value.shape[1:] != shapes[name] for name, value in drawn.items()):
            return None
        values.append(drawn)
        parts.append(_by_draw(density, times))
    draws, log_q = _joined(values), torch.cat(parts)
    for index in sorted({0, count // 2, count - 1})[:NUM_CHECKED]:
        alone = bound.guide_density(nth(draws, index))
        if alone is None or alone.shape != log_q[index].shape or not is_same(alone, log_q[index]):
            return None
    return draws, log_q


def _prior_run(bound: BoundModel, times: int) -> tuple[Values, Densities]:
    """Draw from the prior as often as said in one run; return the densities of that run."""
    arguments = bound.arguments if times == 1 else repeat_rows(bound.arguments, times)
    wide, trace = bound.run_prior(arguments)
    if bound.summed:
        both = bound.log_densities(wide, arguments)
    else:
        trace.compute_log_prob()
        both = bound.by_site(trace, times * bound.rows)
    found = Densities(*({n: _by_draw(v, times) for n, v in side.items()} for side in both))
    if times == 1:
        return {name: value.unsqueeze(0) for name, value in wide.items()}, found
    return {name: _from_rows(bound, name, v, times) for name, v in wide.items()}, found


def _joined(parts: Iterable[Values]) -> Values:
    """Return draws of several runs along their first dimension."""
    listed = list(parts)
    return {name: torch.cat([part[name] for part in listed]) for name in listed[0]}


def _as_rows(bound: BoundModel, name: str, values: Tensor) -> Tensor:
    """Return draws of a site with the draws' dimension merged into its rows."""
    place = bound.row_place(name) or 0
    return values.movedim(0, place).flatten(place, place + 1)


def _from_rows(bound: BoundModel, name: str, values: Tensor, times: int) -> Tensor:
    """Return the draws that stand in a site's rows, along a first dimension of their own."""
    place = bound.row_place(name) or 0
    found: Tensor = values.unflatten(place, (times, -1)).movedim(place, 0)
    return found


def _by_draw(term: Tensor, times: int) -> Tensor:
    """Return a log density of repeated rows by draw."""
    # What is outside the data plate is one number for all draws; the check sees where it is not.
    return term.reshape(times, -1) if term.dim() else term.expand(times)


def _agrees(bound: BoundModel, draws: Values, found: Densities) -> bool:
    """Tell whether some draws have, by themselves, the densities found side by side."""
    number = count_of(draws)
    for index in sorted({0, number // 2, number - 1})[:NUM_CHECKED]:
        alone = bound.log_densities(nth(draws, index))
        for side, other in zip(alone, found, strict=True):
            for name, term in side.items():
                if other[name][index].shape != term.shape or not is_same(term, other[name][index]):
                    return False
    return True
