# SPDX-License-Identifier: Apache-2.0
"""Two settings of a model's latents whose data can hardly be told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from pyro_idvae._checks import check_real
from pyro_idvae.diagnostics.witness.alone import bound_alone
from pyro_idvae.diagnostics.witness.descent import INDISTINCT, best_pair
from pyro_idvae.diagnostics.witness.distances import Distances
from pyro_idvae.diagnostics.witness.settings import Settings
from pyro_idvae.diagnostics.witness.starts import start_pairs
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.run import Program, silent
from pyro_idvae.programs.weights import check_weights, weights_of

PRIOR_DRAWS = 256
SIDE_BY_SIDE, SAMPLED, ONE_BY_ONE = 64, 24, 8
"""Pairs to start from, by default: the second where data must be drawn."""
NUMBERS_AT_ONCE = 2**20
"""How many numbers, data and latents together, go into one run of all pairs."""
FINAL_DRAWS = 1000
"""Draws of data for sites without a closed form, of what is returned."""
NAMED = 4
"""Coordinates of a site that are named at most, those that move the most."""
UNMOVED = 0.05
"""Share of the largest move: what moves less is not named."""


@dataclass(frozen=True)
class ModelWitness:
    """Two settings of a model's latents, and how far apart the distributions of the data are.

    Attributes:
        values: one setting: the latents by site.
        other: the other.
        distance: KL(p(x|θ) ‖ p(x|θ′)) + KL(p(x|θ′) ‖ p(x|θ)) of all data together, in nats.
        standard_error: of the distance, where an observed site has no closed form; else 0.
        separation: Euclidean distance of the settings on the unconstrained scale, in prior standard
            deviations.
        moves: by site, how far each unconstrained coordinate moves, in the same units.
        ratio: √distance / separation: for Normal noise the stretch in noise scales for each prior
            standard deviation. Near 0: not identifiable.
        prior_distance: as ``distance``, of the latents' own priors given the other latents, in
            nats: what a hyperparameter that moves alone changes. 0 if no prior depends on another
            latent.
        log_ratio: log p(x|θ) − log p(x|θ′) at the data given, in nats.
    """

    values: Values
    other: Values
    distance: float
    standard_error: float
    separation: float
    moves: Values
    ratio: float
    prior_distance: float
    log_ratio: float

    @property
    def success(self) -> float:
        """The best chance of any test to tell which of the two made the data, ½ + √distance/4.

        By Pinsker's inequality; ½ is guessing.
        """
        return min(1.0, 0.5 + math.sqrt(self.distance) / 4)

    def __str__(self) -> str:
        error = f" ± {self.standard_error:.1g}" if self.standard_error else ""
        lines = [
            f"two settings {self.separation:.3g} prior standard deviations apart whose data differ "
            f"by {self.distance:.2g}{error} nats (KL, both ways): no test tells them apart in more "
            f"than {100 * self.success:.1f} % of cases"
        ]
        largest = max(float(move.abs().max()) for move in self.moves.values())
        for name, move in self.moves.items():
            if float(move.abs().max()) > UNMOVED * largest:
                lines.append(f"  {_moved(name, self.values[name], self.other[name])}")
        if self.prior_distance > INDISTINCT:
            lines.append(
                "  given all latents, that is: the priors of some depend on others and differ by "
                f"{self.prior_distance:.2g} nats"
            )
        return "\n".join(lines)


def _moved(name: str, value: Tensor, other: Tensor) -> str:
    """Return ``name: value → other`` for the coordinates that move the most."""
    gap = (other - value).abs()
    moved = (gap > UNMOVED * gap.max()).nonzero().tolist()
    first = sorted(sorted(moved, key=lambda at: -float(gap[tuple(at)]))[:NAMED])
    words = []
    for at in map(tuple, first):
        place = f"{name}[{','.join(map(str, at))}]" if at else name
        words.append(f"{place}: {float(value[at]):.3g} → {float(other[at]):.3g}")
    more = f", and {len(moved) - NAMED} more of it" if len(moved) > NAMED else ""
    return ", ".join(words) + more


def search(
    model: Program,
    arguments: Arguments,
    *,
    radius: float | None,
    min_separation: float,
    num_starts: int | None,
    num_steps: int,
    learning_rate: float,
    seed: int,
) -> ModelWitness:
    """Search as :func:`find_witness` says, for a model."""
    check_weights("model", weights_of(model))
    # What validation would refuse, such as parameters that are not finite, is said below.
    with (
        pyro.validation_enabled(False),
        bound_alone(model, arguments) as bound,
        silent(bound.model),
    ):
        check_weights("model", bound.parameters)
        torch.manual_seed(seed)
        with torch.no_grad():
            settings = Settings(bound, PRIOR_DRAWS)
            reach = len(settings.live) ** 0.5 + 2 if radius is None else radius
            check_real("min_separation", min_separation, above=0.0, below=2 * reach)
            pairs = start_pairs(settings, num_starts or _most(bound))
            distances = Distances(settings, pairs)
        if num_starts is None:
            most = SAMPLED if distances.sampled else SIDE_BY_SIDE
            pairs = pairs[:, : most if distances.side_by_side else ONE_BY_ONE]
        pair = best_pair(
            distances,
            pairs,
            reach=reach,
            apart=min_separation,
            num_steps=num_steps,
            learning_rate=learning_rate,
        )
        found = distances.measured(pair, FINAL_DRAWS)
        separation = (pair[1] - pair[0]).norm().item()
        return ModelWitness(
            values=settings.values(pair[0]),
            other=settings.values(pair[1]),
            separation=separation,
            moves=settings.by_site(pair[1] - pair[0]),
            ratio=math.sqrt(found.distance) / separation,
            **found._asdict(),
        )


def _most(bound: BoundModel) -> int:
    sites = [*bound.latents, *bound.observed]
    one: int = sum(bound.trace.nodes[name]["value"].numel() for name in sites)
    return max(ONE_BY_ONE, min(SIDE_BY_SIDE, NUMBERS_AT_ONCE // one))
