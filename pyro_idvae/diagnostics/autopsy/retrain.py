# SPDX-License-Identifier: Apache-2.0
"""An encoder taught by the exact posterior's draws, and put back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_idvae.diagnostics.autopsy.case import Case
from pyro_idvae.diagnostics.autopsy.examine import kept_by_guide
from pyro_idvae.diagnostics.autopsy.kept import Array, Kept
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import Arguments, row_count
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.plates import check_amortised
from pyro_idvae.programs.run import Program, owners_of
from pyro_idvae.programs.side_by_side import count_of

ATTEMPTS = 2
"""Lessons of the encoder: from where it is, then from a fresh start, as it may be where no gradient
is left."""


@contextmanager
def restored(bound: BoundModel, names: set[str]) -> Iterator[None]:
    """Put every parameter, buffer and mode of a pair back, and the store's other entries.

    Args:
        bound: the pair.
        names: what the store held before the pair was bound.
    """
    store, rng = pyro.get_param_store(), torch.random.get_rng_state()
    parameters = list(bound.parameters.values())
    modules = owners_of(bound.model, bound.guide)
    for module in modules:
        parameters += [*module.parameters(), *module.buffers()]
    copies = [tensor.detach().clone() for tensor in parameters]
    flags = [tensor.requires_grad for tensor in parameters]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        yield
    finally:
        torch.random.set_rng_state(rng)
        with torch.no_grad():
            for tensor, copy in zip(parameters, copies, strict=True):
                tensor.copy_(copy)
        for tensor, flag in zip(parameters, flags, strict=True):
            tensor.requires_grad_(flag)
            tensor.grad = None
        for part, mode in modes:
            part.training = mode
        for name in set(store.keys()) - names:
            del store[name]


def guide_parameters(bound: BoundModel) -> list[Tensor]:
    """Return the unconstrained parameters of the guide alone that can be trained."""
    own, shared = (
        {name for name, node in trace.nodes.items() if node["type"] == "param"}
        for trace in (bound.guide_trace, bound.trace)
    )
    return [p for n, p in bound.parameters.items() if n in own - shared and p.requires_grad]


def teachable(bound: BoundModel) -> tuple[list[Tensor], str]:
    """Return the parameters of a guide's encoder, or why there is nothing to teach."""
    parameters = guide_parameters(bound)
    if not parameters:
        return [], "the guide has no parameters of its own to train: nothing was retrained"
    try:
        check_amortised(bound.model, bound.guide, bound.arguments)
    except ArgumentError:
        return [], (
            "the guide's parameters belong to certain rows: it has no encoder to retrain, and "
            "what the free q shows is what it could learn"
        )
    return parameters, ""


def reset(guide: Program, parameters: list[Tensor]) -> bool:
    """Start the layers of an encoder anew; tell whether there were any that can."""
    own = {id(parameter) for parameter in parameters}
    layers = [
        layer
        for module in owners_of(guide)
        for layer in module.modules()
        if hasattr(layer, "reset_parameters") and all(id(p) in own for p in layer.parameters())
    ]
    for layer in layers:
        layer.reset_parameters()  # type: ignore[operator]
    return bool(layers)


def teach(
    guide: Program,
    parameters: list[Tensor],
    arguments: Arguments,
    draws: Values,
    *,
    num_steps: int,
    learning_rate: float = 1e-2,
) -> None:
    """Maximise the mean of log q(z|x) over draws of the exact posterior, by Adam.

    Args:
        guide: an amortised guide.
        parameters: what to train, in place.
        arguments: the data.
        draws: exact draws, of shape ``(chain, draw) + site shape``.
        num_steps: steps, each on one draw of every data point.
        learning_rate: at the start; it falls to 0 like a cosine.
    """
    args, kwargs = arguments
    flat = {name: value.flatten(0, 1) for name, value in draws.items()}
    count, rows = count_of(flat), row_count(arguments)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        index = int(torch.randint(count, ()))
        draw = {name: value[index] for name, value in flat.items()}
        trace: Any = poutine.trace(poutine.condition(guide, data=draw)).get_trace(*args, **kwargs)
        loss = -trace.log_prob_sum() / rows
        if not bool(torch.isfinite(loss)):
            break
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 100.0)
        optimizer.step()
        schedule.step()


class Lessons(NamedTuple):
    """How an encoder is taught, and read."""

    guide: Program
    parameters: list[Tensor]
    """What is trained; nothing is taught if there are none."""
    num_steps: int
    number: int
    """Draws of the guide when it is read."""

    def given(
        self, here: Case, there: Case | None, *, enough: Array
    ) -> tuple[Kept, Kept | None] | None:
        """Teach from exact draws; return what the guide then keeps, and keeps on reference rows.

        Args:
            here: the rows that count.
            there: those that are taught from; the same if None.
            enough: nats of each latent from which on it needs no second attempt.
        """
        source, of_guide = there or here, partial(kept_by_guide, number=self.number)
        found: tuple[Kept, Kept | None] | None = None
        for attempt in range(ATTEMPTS if self.parameters else 0):
            if attempt and not reset(self.guide, self.parameters):
                break
            arguments, draws = source.bound.arguments, source.exact.values
            teach(self.guide, self.parameters, arguments, draws, num_steps=self.num_steps)
            again = Kept.of(here.by_blocks(of_guide))
            reference = None if there is None else Kept.of(there.by_blocks(of_guide))
            if found is not None:
                again = again.or_better(found[0])
                if reference is not None and found[1] is not None:
                    reference = reference.or_better(found[1])
            found = again, reference
            if (again.floored >= enough).all():
                break
        return found
