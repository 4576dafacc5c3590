# SPDX-License-Identifier: Apache-2.0
"""A certificate: its numbers, and what they rest on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass


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

    def __str__(self) -> str:
        lower, upper = self.lipschitz_bounds
        about = (
            f"  {self.family} likelihood, {self.latent_dim} latent dimensions, "
            f"L = {lower:.4g}, M = {upper:.4g}"
        )
        if self.rows != (1, 1):
            whole, seen = self.rows
            about += f", {whole if whole == seen else f'{whole} to {seen}'} rows of data for one z"
        return "\n".join([self._head(), about, *(f"  if {line}" for line in self.assumptions)])

    def _head(self) -> str:
        if self.kind != "certificate":
            return (
                f"estimate, no certificate: {self.low:.3f} ± {self.standard_error:.3f} nats or "
                f"more (Bhattacharyya bound from {self.num_samples} draws, which show at most "
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
