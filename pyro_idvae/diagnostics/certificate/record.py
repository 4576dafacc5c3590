# SPDX-License-Identifier: Apache-2.0
"""A certificate: its numbers, and what they rest on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

LEAST_NATS = 1e-3
"""Of a guarantee worth the name."""


@dataclass(frozen=True)
class Certificate:
    """Information that x carries about z, E_{p(x)} KL(p(z|x) ‖ p(z)), in nats.

    x are all rows of data that one z has: one, where z is local to the rows.

    Attributes:
        kind: ``"certificate"``, a proven window, or ``"estimate"``, a Monte-Carlo lower bound.
        family: name of the likelihood's family.
        latent_dim: K.
        lipschitz_bounds: (L, M) of f, now; for Normal noise in units of its scale.
        low: nats at least, in all dimensions together; 0 where some z has no wholly observed row.
        high: nats at most; None for an estimate.
        low_per_coordinate: nats at least of one coordinate given the others, of whichever has the
            least; None for an estimate, and where ``low`` is 0.
        standard_error: Monte-Carlo error of ``low``, 0 for a certificate.
        num_samples: draws of z behind an estimate, which cannot exceed their logarithm; else 0.
        assumptions: what the numbers rest on.
        rows: rows of data that one z has: wholly observed at least, with anything observed at most.
        guaranteed: nats that an estimate's (L, M) guarantee, however few; None where nothing is
            proved.
        guaranteed_at_most: the same with the least ceiling there can be, M = L.
        capped_share: of the features, in noise units, whose base rates are floored; None for a
            family in other units.
        repeats: observations of z in a row, near whose base rates ``capped_share`` speaks: tokens
            of a sequence, else 1.
        bound: which one an estimate is of.
    """

    kind: str
    family: str
    latent_dim: int
    lipschitz_bounds: tuple[float, float]
    low: float
    high: float | None
    low_per_coordinate: float | None
    standard_error: float
    num_samples: int
    assumptions: tuple[str, ...]
    rows: tuple[int, int] = (1, 1)
    guaranteed: float | None = None
    guaranteed_at_most: float | None = None
    capped_share: float | None = None
    repeats: float = 1.0
    bound: str = "Bhattacharyya bound"

    def __str__(self) -> str:
        lower, upper = self.lipschitz_bounds
        about = (
            f"  {self.family} likelihood, {self.latent_dim} latent dimensions, "
            f"L = {lower:.4g}, M = {upper:.4g}"
        )
        if self.rows != (1, 1):
            whole, seen = self.rows
            about += f", {whole if whole == seen else f'{whole} to {seen}'} rows of data for one z"
        lines = [self._head(), about, *self._units(), *self._guarantee()]
        return "\n".join([*lines, *(f"  if {line}" for line in self.assumptions)])

    def _units(self) -> list[str]:
        """Say what L means in noise units."""
        if self.capped_share is None:
            return []
        near = 0.5 * math.log1p(self.rows[0] * self.repeats * self.lipschitz_bounds[0] ** 2)
        floors = ""
        if self.capped_share > 0:
            floors = f"; {100 * self.capped_share:.3g} % of the features are rarer than the floor"
        return [f"  in units of the noise: about {near:.2f} nat a latent near base rates{floors}"]

    def _guarantee(self) -> list[str]:
        """Say what is proved beside an estimate."""
        if self.guaranteed is None or self.guaranteed_at_most is None:
            return []
        if self.guaranteed >= LEAST_NATS:
            return [f"  certificate: at least {self.guaranteed:.3f} nats, by the ceiling M"]
        return [
            f"  proved: {self.guaranteed:.1g} nats, next to nothing with this M; with M = L it "
            f"would be {self.guaranteed_at_most:.2g}"
        ]

    def _head(self) -> str:
        if self.kind != "certificate":
            return (
                f"estimate, no certificate: {self.low:.3f} ± {self.standard_error:.3f} nats or "
                f"more ({self.bound} from {self.num_samples} draws, which show at most "
                f"{math.log(self.num_samples):.2f})"
            )
        if self.low_per_coordinate is None:
            return (
                f"certificate: at most {self.high:.3f} nats, an upper limit alone: with entries "
                "missing nothing is guaranteed from below"
            )
        return (
            f"certificate: {self.low:.3f} to {self.high:.3f} nats, and at least "
            f"{self.low_per_coordinate:.3f} nats of each coordinate given the others"
        )

    def to_json(self) -> str:
        """Return all fields as a JSON object."""
        return json.dumps(asdict(self))
