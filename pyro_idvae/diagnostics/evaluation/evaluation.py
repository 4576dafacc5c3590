# SPDX-License-Identifier: Apache-2.0
"""What an evaluation found of one model, in a row and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae.diagnostics.certificate import Certificate
from pyro_idvae.diagnostics.evaluation.guide_pass import UNRELIABLE_K
from pyro_idvae.diagnostics.evaluation.words import cells_of, lines_of, markdown_text
from pyro_idvae.diagnostics.evidence import Evidence
from pyro_idvae.diagnostics.row_estimate import RowEstimate

Array = np.ndarray[Any, Any]

MEASURES = (
    "evidence",
    "evidence_upper",
    "importance_bound",
    "elbo",
    "kl",
    "posterior_kl",
    "inference_gap",
    "mutual_information",
)
"""Quantities by row, in nats, in the order of the table."""
KINDS = {"certificate": "certified window", "estimate": "estimate, no certificate"}


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """What :func:`evaluate` found; all in nats, and what is not known is NaN, with a note.

    Attributes:
        evidence: log p(x) of each row, by annealing: a lower bound in expectation.
        evidence_upper: an upper bound, where it was asked for.
        importance_bound: log of the mean of ``num_samples`` importance weights: a lower bound in
            expectation that grows with their number.
        pareto_k: k of each row's importance weights, of shape ``(rows,)``; above 0.7 the row's
            ``importance_bound`` is not reliable, and its error NaN.
        elbo: the ELBO of each row.
        kl: KL(q(z|x) ‖ p(z)) of the guide, of all latents together.
        posterior_kl: KL(p(z|x) ‖ p(z)) of the exact posterior, of all latents together.
        inference_gap: what the guide loses: ``evidence`` less ``elbo``, KL(q(z|x) ‖ p(z|x)).
        active: which latents are active units, of shape ``(latents,)``; None if that is not known.
        latent_kl: KL(q(z_k|x) ‖ p(z_k)), of shape ``(rows, latents)``; None if not known.
        latents: names of the latents.
        mutual_information: terms of I_q(x; z) on the mixture of all rows; their mean is at most
            ``information_cap``.
        certificate: what the likelihood is sure to carry; None if it was refused.
        annealing: all that the annealing found; its ELBO is that of here. None without it.
        num_samples: draws of the guide.
        threshold: variance over rows of the mean E_q[z_k|x] above which a unit is active.
        observed: sum of what is observed in each row: other data have others.
        cpu_seconds: processor time of each part.
        notes: what is not known, and why; and what else to know of the numbers.
    """

    evidence: RowEstimate
    evidence_upper: RowEstimate
    importance_bound: RowEstimate
    pareto_k: Array
    elbo: RowEstimate
    kl: RowEstimate
    posterior_kl: RowEstimate
    inference_gap: RowEstimate
    active: Array | None
    latent_kl: Array | None
    latents: tuple[str, ...]
    mutual_information: RowEstimate
    certificate: Certificate | None
    annealing: Evidence | None
    num_samples: int
    threshold: float
    observed: Array
    cpu_seconds: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many data points there are."""
        return len(self.observed)

    @property
    def information_cap(self) -> float:
        """The logarithm of the number of rows, which ``mutual_information`` cannot exceed."""
        return math.log(self.rows)

    @property
    def unreliable(self) -> float:
        """Share of rows whose k is above 0.7 or unknown; NaN without weights."""
        if np.isnan(self.importance_bound.value).all():
            return math.nan
        return float((~(self.pareto_k <= UNRELIABLE_K)).mean())

    @property
    def active_units(self) -> float:
        """How many units are active; NaN if that is not known."""
        return math.nan if self.active is None else int(self.active.sum())

    @property
    def least_latent(self) -> str:
        """The latent of least mean KL(q(z_k|x) ‖ p(z_k)); empty if that is not known."""
        if self.latent_kl is None:
            return ""
        return self.latents[int(self.latent_kl.mean(0).argmin())]

    @property
    def least_nats(self) -> RowEstimate:
        """KL(q(z_k|x) ‖ p(z_k)) of that latent, by row."""
        if self.latent_kl is None:
            return RowEstimate.unknown(self.rows)
        value = self.latent_kl[:, int(self.latent_kl.mean(0).argmin())]
        return RowEstimate(value, np.zeros(self.rows))

    @property
    def certificate_kind(self) -> str:
        """``"certified window"``, ``"estimate, no certificate"`` or ``"none"``."""
        return "none" if self.certificate is None else KINDS[self.certificate.kind]

    @property
    def row(self) -> dict[str, Any]:
        """All as one row of numbers and words.

        A quantity by row has three: its mean; with ``_mcse`` its Monte-Carlo standard error, of
        these rows; with ``_se`` the standard error over rows like these.
        """
        found: dict[str, Any] = {"rows": self.rows, "num_latents": len(self.latents)}
        for name in MEASURES:
            measure: RowEstimate = getattr(self, name)
            found |= {name: measure.mean, f"{name}_mcse": measure.mcse, f"{name}_se": measure.se}
            if name == "importance_bound":
                found |= {"importance_draws": self.num_samples, "unreliable_k": self.unreliable}
        given = self.certificate
        low, high = (None, None) if given is None else (given.low, given.high)
        return found | {
            "information_cap": self.information_cap,
            "active_units": self.active_units,
            "least_nats": self.least_nats.mean,
            "least_nats_se": self.least_nats.se,
            "least_latent": self.least_latent,
            "certificate": self.certificate_kind,
            "window_low": math.nan if low is None else low,
            "window_low_mcse": math.nan if given is None else given.standard_error,
            "window_high": math.nan if high is None else high,
            "cpu_seconds": sum(self.cpu_seconds.values()),
        }

    @property
    def table(self) -> pd.DataFrame:
        """:attr:`row` as a ``pandas.DataFrame`` of one line."""
        return pd.DataFrame([self.row])

    def to_markdown(self) -> str:
        """Return a Markdown table of one line, what its cells mean, and the notes."""
        return markdown_text([cells_of(self)], [self], self.notes)

    def __str__(self) -> str:
        return "\n".join([*lines_of(self), *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__
