# SPDX-License-Identifier: Apache-2.0
"""Replications: rows of one plate where there is one, else one run each."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_idvae.diagnostics.calibration.posteriors import Posterior, measure
from pyro_idvae.diagnostics.calibration.ranking import Measured
from pyro_idvae.diagnostics.calibration.simulate import (
    Places,
    Simulation,
    find_places,
    simulate,
)
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs.as_found import as_found
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.plates import check_amortised
from pyro_idvae.programs.rows_apart import check_guide_rows, some_of
from pyro_idvae.programs.run import undisturbed
from pyro_idvae.programs.sites import check_sampled

LEAST = 10
"""Replications below which an interrupt leaves nothing that could be judged."""
ROWS_AT_ONCE = 2000
"""Replications that are rows, whose draws are in memory at once."""


class Outcome(NamedTuple):
    """What replications gave."""

    measured: Measured
    complete: bool
    """Whether all were made, with all their draws."""


@dataclass(frozen=True)
class Plan:
    """How replications are made.

    Attributes:
        bound: the model on the arguments that data are simulated for.
        places: which arguments hold the data.
        by_row: whether each row is a replication.
        reason: why not, if not.
        given: the model on the arguments that were given, if rows are replications.
        left: which rows of these the replications after the first ones are, some at a time.
    """

    bound: BoundModel
    places: Places
    by_row: bool
    reason: str = ""
    given: BoundModel | None = None
    left: Sequence[Tensor] = ()

    def later(self) -> Iterator[Plan]:
        """Yield plans of the replications after these."""
        if self.given is None:
            return
        for rows in self.left:
            yield replace(self, bound=self.given.on_rows(rows, with_guide=True), left=())

    def rebound(self, simulation: Simulation) -> BoundModel:
        """Return the model on simulated data."""
        bound = self.bound
        try:
            found = BoundModel(bound.model, bound.guide, simulation.arguments)
        except DataError as error:
            raise DataError(
                f"what was simulated from the model cannot be given back to it: {error}"
            ) from error
        # The simulated data are none of the prior's business, which was checked.
        found.prior_links = bound.prior_links
        return found


def plan(bound: BoundModel, number: int) -> Plan:
    """Return how to make so many replications, the random state left alone.

    Raises:
        ArgumentError: for a model that no data can be simulated of, whose posterior is a tempered
            one, or a guide that does not read the data.
    """
    discrete = _discrete(bound)
    check_sampled(bound.trace, [name for name in bound.latents if name not in discrete])
    with undisturbed(bound.arguments):
        places = find_places(bound)
        simulate(bound, places)  # what no data can be simulated of is refused whatever follows
        try:
            if discrete:
                raise ArgumentError(f"the latent sites {discrete} are discrete, and have draws")
            index = torch.arange(number) % bound.rows
            first, *left = index.split(ROWS_AT_ONCE)
            wide = _as_rows(bound, places, first)
            return Plan(wide, places, by_row=True, given=bound, left=left)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = reason.split("; ")[0]
        if bound.guide is not None:
            _check_reads_data(bound, places, reason)
        return Plan(bound, places, by_row=False, reason=reason)


def _discrete(bound: BoundModel) -> list[str]:
    nodes = bound.trace.nodes
    return [name for name in bound.latents if nodes[name]["fn"].support.is_discrete]


def _as_rows(bound: BoundModel, places: Places, index: Tensor) -> BoundModel:
    """Return the model on the data's rows, again and again; raise if rows are no replications."""
    model, guide = bound.model, bound.guide
    if guide is not None:
        _check_amortised(bound)
    wide = bound.on_rows(index, with_guide=True)
    data = simulate(wide, places).arguments
    check_factorises(BoundModel(model, None, data))
    if guide is not None:
        pair = BoundModel(model, guide, data)
        with torch.no_grad(), pair.running():
            values = pair.draw_guide()[0]
            for some in some_of(pair):
                check_guide_rows(pair, values, some)
    return wide


def _check_amortised(bound: BoundModel) -> None:
    """Raise if parameters of the guide belong to certain rows."""
    try:
        check_amortised(bound.model, bound.guide, bound.arguments)
    except ArgumentError as error:
        raise ArgumentError(
            f"model and guide run on {bound.rows} rows, but not on another number of them"
        ) from error


@torch.no_grad()
def _check_reads_data(bound: BoundModel, places: Places, reason: str) -> None:
    """Raise for a guide that draws the same whatever the data are."""
    with bound.running():
        found = []
        for _ in range(2):
            arguments = simulate(bound, places).arguments
            with undisturbed(arguments):
                torch.manual_seed(0)
                found.append(bound.draw_guide(arguments)[0])
    one, other = found
    if all(torch.equal(value, other[name]) for name, value in one.items()):
        raise ArgumentError(
            "the guide draws the same whatever the data are: what was fitted to one data set "
            "cannot be judged on others. Pass a guide that reads the data, such as an encoder or "
            f"AutoInjectiveLaplace, or calibrate a kernel (rows are no replications, as {reason})"
        )


def run_rows(plan: Plan, posterior: Posterior) -> Outcome:
    """Return replications that are rows: one run for all of them."""
    simulation = simulate(plan.bound, plan.places)
    bound = plan.rebound(simulation)
    bound.factorises = True
    return Outcome(*measure(bound, posterior, simulation, by_row=True))


def run_each(plan: Plan, posterior: Posterior, number: int, *, progress: bool) -> Outcome:
    """Return replications that are data sets: one run each.

    How many runs there will be is said beforehand, and after the first one, how long they take. An
    interrupt ends them: those that are whole are kept.

    Raises:
        KeyboardInterrupt: if there were too few yet.
    """
    done: list[Measured] = []
    bar = tqdm(total=number, desc="calibration", unit="data set", disable=not progress)
    _say(f"{number} data sets, one run each, as {plan.reason}", progress)
    begin = time.monotonic()
    try:
        with as_found(plan.bound.model, plan.bound.guide):
            while len(done) < number:
                done.append(_run_one(plan, posterior))
                bar.update()
                if len(done) == 1:
                    each = time.monotonic() - begin
                    said = f"the first took {_duration(each)}, all will take about "
                    said += f"{_duration(each * number)}; Ctrl-C keeps what is done"
                    _say(said, progress)
    except KeyboardInterrupt:
        if len(done) < LEAST:
            raise
    finally:
        bar.close()
    return Outcome(Measured.joined(done), complete=len(done) == number)


def _run_one(plan: Plan, posterior: Posterior) -> Measured:
    simulation = simulate(plan.bound, plan.places)
    bound = plan.rebound(simulation)
    found, complete = measure(bound, posterior, simulation, by_row=False)
    if not complete:
        raise KeyboardInterrupt
    plan.bound.prior_links = bound.prior_links
    return found


def _say(words: str, progress: bool) -> None:
    if progress:
        tqdm.write(f"calibrate: {words}", file=sys.stderr)


def _duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
