# SPDX-License-Identifier: Apache-2.0
"""What was found of several runs' latents, in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae.diagnostics.consistency.means import NOISY, Means
from pyro_idvae.diagnostics.consistency.pairs import MEASURES, OF_FITTED, Measured, partners
from pyro_idvae.diagnostics.consistency.words import in_words
from pyro_idvae.diagnostics.estimators.alignments import CLASSES
from pyro_idvae.diagnostics.estimators.jackknife import (
    Jackknifed,
    correlation_limits,
    jackknife,
    share_limits,
)

Array = np.ndarray[Any, Any]

NO_VARIANCE = "no variance"
NEARLY_ALL = 0.9
"""Share of the variance from which on runs are said to agree up to a class of maps."""


@dataclass(frozen=True, repr=False, eq=False)
class Consistency:
    """What :func:`consistency` found.

    Attributes:
        table: a ``pandas.DataFrame`` with a row for each measure, ``mcc``, ``r2_permutation``,
            ``r2_orthogonal`` and ``r2_affine``: its ``mean`` over all ordered pairs of runs with
            limits ``lower`` and ``upper``, the ``least`` and the ``largest`` of any pair, and the
            means of ``in_sample`` and ``by_chance``.
        pairs: one with a row for each ordered pair, what the ``first`` run says of the ``second``:
            each measure, with ``..._lower``, ``..._upper``, ``..._in_sample`` and
            ``..._by_chance``, and how many latents with variance both have.
        latents: one with a row for each latent of each run: ``variance``, the share of its
            variance that posterior means have, of arrays their variance; ``r2``, the share of these
            means' variance that an affine map of another run's latents explains, the mean over the
            other runs, with limits, and ``least_r2``, that of the run that explains least;
            ``correlation`` with its partner, the mean over the others; ``verdict``,
            ``"no variance"`` for a latent that says nothing of rows, whose other numbers are NaN.
        correlations: of the latents of each unordered pair of runs, on all rows, a
            ``pandas.DataFrame`` by pair: the first's latents in its rows, the second's in its
            columns in the order of their partners.
        runs: names of the runs.
        rows: how many rows there are.
        confidence: of the limits.
        threshold: least share of variance.
        notes: what else to know of the numbers.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    latents: pd.DataFrame
    correlations: Mapping[tuple[str, str], pd.DataFrame]
    runs: tuple[str, ...]
    rows: int
    confidence: float
    threshold: float
    notes: tuple[str, ...]

    @property
    def agree_up_to(self) -> str | None:
        """The smallest class of maps under which runs agree.

        ``"permutation"``, ``"orthogonal"`` or ``"affine"``, if the lower limit of its mean R² is
        at least 0.9; None if no class has that.
        """
        for name in CLASSES:
            if self.table.loc[f"r2_{name}", "lower"] >= NEARLY_ALL:
                return name
        return None

    def __str__(self) -> str:
        return in_words(self)

    __repr__ = __str__


def report_on(
    means: list[Means],
    found: Mapping[tuple[str, str], Measured],
    *,
    threshold: float,
    confidence: float,
) -> Consistency:
    """Return the report on what was measured.

    Args:
        means: posterior means of the runs.
        found: what each says of each other one.
        threshold: least share of variance of a latent.
        confidence: of the limits.
    """
    notes = [note for run in means for note in run.notes]
    notes += [
        f"{run.name}: {run.noise.max():.1%} of the variance of posterior means is the noise of few "
        "draws, which lowers every number: take more (num_samples, or more draws)"
        for run in means
        if run.noise[run.active(threshold)].max(initial=0.0) > NOISY
    ]
    return Consistency(
        table=_table(found, confidence),
        pairs=_pairs(means, found, threshold, confidence),
        latents=pd.concat([_latents(run, found, threshold, confidence) for run in means]),
        correlations={
            (one.name, other.name): _correlations(one, other, threshold)
            for one, other in combinations(means, 2)
        },
        runs=tuple(run.name for run in means),
        rows=len(means[0].values),
        confidence=confidence,
        threshold=threshold,
        notes=tuple(notes),
    )


def _limits(measure: str, values: Array, confidence: float) -> tuple[Jackknifed, Array, Array]:
    found = jackknife(values, biased=measure in OF_FITTED)
    limits = correlation_limits if measure == "mcc" else share_limits
    return found, *limits(found, confidence)


def _table(found: Mapping[tuple[str, str], Measured], confidence: float) -> pd.DataFrame:
    rows = {}
    for measure in MEASURES:
        values = np.stack([one.measures[measure] for one in found.values()])
        known = values[~np.isnan(values[:, 0])]
        if not len(known):
            rows[measure] = dict.fromkeys(
                ("mean", "lower", "upper", "least", "largest", "in_sample", "by_chance"), np.nan
            )
            continue
        mean, lower, upper = _limits(measure, known.mean(0), confidence)
        each = _limits(measure, known.T, confidence)[0].estimate
        rows[measure] = {
            "mean": float(mean.estimate),
            "lower": float(lower),
            "upper": float(upper),
            "least": each.min(),
            "largest": each.max(),
            "in_sample": _mean([one.in_sample[measure] for one in found.values()]),
            "by_chance": _mean([one.by_chance[measure] for one in found.values()]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values))


def _pairs(
    means: list[Means],
    found: Mapping[tuple[str, str], Measured],
    threshold: float,
    confidence: float,
) -> pd.DataFrame:
    counts = {run.name: len(run.active(threshold)) for run in means}
    rows = []
    for (first, second), one in found.items():
        row: dict[str, Any] = {"latents_first": counts[first], "latents_second": counts[second]}
        for measure in MEASURES:
            value, lower, upper = _limits(measure, one.measures[measure], confidence)
            row |= {
                measure: float(value.estimate),
                f"{measure}_lower": float(lower),
                f"{measure}_upper": float(upper),
                f"{measure}_in_sample": one.in_sample[measure],
                f"{measure}_by_chance": one.by_chance[measure],
            }
        rows.append(row)
    return pd.DataFrame(
        rows, index=pd.MultiIndex.from_tuples(list(found), names=["first", "second"])
    )


def _latents(
    run: Means,
    found: Mapping[tuple[str, str], Measured],
    threshold: float,
    confidence: float,
) -> pd.DataFrame:
    active, size = run.active(threshold), len(run.labels)
    of_others = [one for (_, second), one in found.items() if second == run.name]
    shares = np.stack([one.latent_share for one in of_others])
    value, lower, upper = _limits("r2_affine", shares.mean(0), confidence)
    columns = {
        "r2": value.estimate,
        "r2_lower": lower,
        "r2_upper": upper,
        "least_r2": _limits("r2_affine", np.swapaxes(shares, 0, 1), confidence)[0].estimate.min(0),
        "correlation": np.mean([one.correlation[0] for one in of_others], 0),
    }
    table = pd.DataFrame(
        {"variance": run.share},
        index=pd.MultiIndex.from_product([[run.name], run.labels], names=["run", "latent"]),
    )
    for name, numbers in columns.items():
        whole = np.full(size, np.nan)
        whole[active] = numbers
        table[name] = whole
    still = np.ones(size, dtype=bool)
    still[active] = False
    table["verdict"] = np.where(still, NO_VARIANCE, "")
    return table


def _correlations(one: Means, other: Means, threshold: float) -> pd.DataFrame:
    places = one.active(threshold), other.active(threshold)
    rows, columns = (
        [run.labels[place] for place in own] for run, own in zip((one, other), places, strict=True)
    )
    if not (rows and columns):
        return pd.DataFrame(index=rows, columns=columns, dtype=float)
    related, paired, partner = partners(one.values[:, places[0]], other.values[:, places[1]])
    across = [*partner, *sorted(set(range(len(columns))) - set(partner))]
    down = [*paired, *sorted(set(range(len(rows))) - set(paired))]
    return pd.DataFrame(
        related[np.ix_(down, across)],
        index=[rows[i] for i in down],
        columns=[columns[j] for j in across],
    )
