# SPDX-License-Identifier: Apache-2.0
"""What is known of log p(x), row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, repr=False)
class Evidence:
    """log p(x) of each data point, in nats; arrays are of shape ``(rows,)``.

    Rows that an interrupt has left out are NaN.

    Attributes:
        lower: log of the mean weight of particles that go from the proposal to the posterior: below
            log p(x) in expectation, by about half their variance over their number.
        standard_error: Monte-Carlo standard error of ``lower``.
        upper: −log of the mean of 1/w of particles that go back from the posterior: above log p(x)
            in expectation if they begin at exact draws of it; None if not asked for.
        upper_standard_error: Monte-Carlo standard error of ``upper``, at least that of ``lower``,
            whose particles show the tail of 1/w more often; None without it.
        exact_start: whether the particles of ``upper`` began at latents that made the data. If not
            they began where ``lower``'s ended, and ``upper`` is as good as these.
        spread: standard deviation of log w.
        effective_size: (Σw)² / Σw² of the particles, at most their number.
        log_likelihood: mean of log p(x|z) over the exact posterior.
        log_likelihood_standard_error: its Monte-Carlo standard error.
        elbo: the guide's ELBO; None without a guide, or for one without a density by row.
        elbo_standard_error: its Monte-Carlo standard error; None without it.
        num_chains: particles of each data point.
        num_temperatures: temperatures on the way, the most of any row.
        proposal: where the particles begin, in words.
        complete: whether all rows are done.
        cpu_seconds: processor time, that of the pilot included.
    """

    lower: Array
    standard_error: Array
    upper: Array | None
    upper_standard_error: Array | None
    exact_start: bool
    spread: Array
    effective_size: Array
    log_likelihood: Array
    log_likelihood_standard_error: Array
    elbo: Array | None
    elbo_standard_error: Array | None
    num_chains: int
    num_temperatures: int
    proposal: str
    complete: bool
    cpu_seconds: float

    @property
    def mean(self) -> float:
        """Mean of ``lower`` over the rows that are done."""
        return _mean(self.lower)

    @property
    def mean_standard_error(self) -> float:
        """Monte-Carlo standard error of :attr:`mean`: of these rows, not of others like them."""
        return _mean_error(self.standard_error)

    @property
    def upper_mean(self) -> float:
        """Mean of ``upper`` over the rows that are done; NaN without it."""
        return math.nan if self.upper is None else _mean(self.upper)

    @property
    def upper_mean_standard_error(self) -> float:
        """Monte-Carlo standard error of :attr:`upper_mean`."""
        error = self.upper_standard_error
        return math.nan if error is None else _mean_error(error)

    @property
    def posterior_kl(self) -> Array:
        """The KL of the exact posterior to the prior, of all latents together.

        It is the mean of log p(x|z) over the posterior less log p(x).
        """
        found: Array = self.log_likelihood - self.lower
        return found

    @property
    def posterior_kl_standard_error(self) -> Array:
        """Monte-Carlo standard error of :attr:`posterior_kl`."""
        return np.hypot(self.log_likelihood_standard_error, self.standard_error)

    @property
    def inference_gap(self) -> Array | None:
        """What the guide loses, log p(x) less the ELBO; None without a guide's ELBO."""
        return None if self.elbo is None else self.lower - self.elbo

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return the bounds, each widened by its own error at this confidence.

        Quantiles are Student's, with one degree of freedom fewer than particles. Without ``upper``
        both ends are of ``lower``.
        """
        wide = float(stats.t.ppf(0.5 + confidence / 2, max(self.num_chains - 1, 1)))
        upper, error = self.upper, self.upper_standard_error
        if upper is None or error is None:
            upper, error = self.lower, self.standard_error
        return self.lower - wide * self.standard_error, upper + wide * error

    @property
    def table(self) -> pd.DataFrame:
        """All of this as a table of one line a row, in nats."""
        columns = {
            "lower": self.lower,
            "standard_error": self.standard_error,
            "upper": self.upper,
            "upper_standard_error": self.upper_standard_error,
            "spread": self.spread,
            "effective_size": self.effective_size,
            "posterior_kl": self.posterior_kl,
            "posterior_kl_standard_error": self.posterior_kl_standard_error,
            "elbo": self.elbo,
            "inference_gap": self.inference_gap,
        }
        return pd.DataFrame({name: v for name, v in columns.items() if v is not None})

    def __str__(self) -> str:
        done = int(np.isfinite(self.lower).sum())
        lines = [
            f"log p(x) of {done} of {len(self.lower)} data points, in nats, by annealing from "
            f"{self.proposal} ({self.num_chains} particles, {self.num_temperatures} temperatures, "
            f"{self.cpu_seconds:.0f} s)",
            f"  lower bound  {_plus(self.mean, self.mean_standard_error)} (Monte-Carlo error of "
            f"the mean); log weights spread by {np.nanmedian(self.spread):.2g} (median row)",
        ]
        if self.upper is not None:
            kind = (
                "from the latents that made the data"
                if self.exact_start
                else "an estimate: from where the particles ended, not from exact draws"
            )
            value = _plus(self.upper_mean, self.upper_mean_standard_error)
            lines.append(f"  upper bound  {value} ({kind})")
        kl = _plus(_mean(self.posterior_kl), _mean_error(self.posterior_kl_standard_error))
        lines.append(f"  KL of the exact posterior to the prior  {kl}")
        gap = self.inference_gap
        if gap is not None and self.elbo_standard_error is not None:
            error = _mean_error(np.hypot(self.standard_error, self.elbo_standard_error))
            lines.append(f"  lost by the guide, log p(x) − ELBO  {_plus(_mean(gap), error)}")
        if not self.complete:
            lines.append("  note: interrupted; the rows that are missing are NaN")
        return "\n".join(lines)

    __repr__ = __str__


def _known(values: Array) -> Array:
    # A row without density has a log p(x) of −inf, and so has the mean; NaN is a row not done.
    return values[~np.isnan(values)]


def _mean(values: Array) -> float:
    known = _known(values)
    return float(known.mean()) if len(known) else math.nan


def _mean_error(errors: Array) -> float:
    known = _known(errors)
    return float(np.sqrt(np.square(known).sum()) / len(known)) if len(known) else math.nan


def _plus(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}"
