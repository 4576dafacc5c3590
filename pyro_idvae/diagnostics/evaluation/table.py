# SPDX-License-Identifier: Apache-2.0
"""Evaluations of several models as the rows of one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pyro_idvae.diagnostics.evaluation.evaluation import Evaluation
from pyro_idvae.diagnostics.evaluation.words import cells_of, markdown_text, plus
from pyro_idvae.diagnostics.row_estimate import RowEstimate
from pyro_idvae.errors import ArgumentError

SAME = 1e-4
"""Relative difference up to which two rows' sums of what is observed are of the same data."""


@dataclass(frozen=True, repr=False, eq=False)
class EvaluationTable:
    """Evaluations side by side, a row each.

    Attributes:
        evaluations: by name of the model.
        table: a ``pandas.DataFrame`` with a row for each model, in their order: the columns of
            :attr:`Evaluation.row`, and ``evidence_diff``, the mean evidence less that of the best
            model, with ``evidence_diff_mcse`` and ``evidence_diff_se``. The latter is the standard
            error over rows of the difference row by row: rows that are hard for all models do not
            count in it.
        cautions: why some numbers do not compare.
    """

    evaluations: Mapping[str, Evaluation]
    table: pd.DataFrame
    cautions: tuple[str, ...]

    def to_markdown(self) -> str:
        """Return a Markdown table, what its cells mean, and the notes of each model."""
        differences = _differences(self.evaluations)
        rows = [
            {"model": name, **_with_difference(cells_of(found), differences[name])}
            for name, found in self.evaluations.items()
        ]
        own = [f"{name}: {n}" for name, found in self.evaluations.items() for n in found.notes]
        return markdown_text(rows, list(self.evaluations.values()), [*self.cautions, *own])

    def __str__(self) -> str:
        return self.to_markdown()

    __repr__ = __str__


def evaluation_table(evaluations: Mapping[str, Evaluation]) -> EvaluationTable:
    """Put evaluations of several models on the same data into one table.

    As ``arviz.compare`` it takes a dict and measures every model against the best one, row by row.
    It keeps the order of the dict.

    Args:
        evaluations: what :func:`evaluate` returned, by name of the model.

    Returns:
        An :class:`EvaluationTable`. Differences of models that were evaluated on other data are
        NaN, with a caution.

    Raises:
        ArgumentError: for what is no dict of evaluations, or an empty one.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> x, found = torch.randn(20, 5), {}
        >>> for dim in (1, 2):
        ...     vae = idvae.IDVAE(5, dim, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
        ...     found[f"K = {dim}"] = idvae.evaluate(
        ...         vae.model, vae.guide, x, num_samples=50, leave_out=["evidence"], seed=0
        ...     )
        >>> idvae.evaluation_table(found).table["num_latents"].to_dict()
        {'K = 1': 1, 'K = 2': 2}
    """
    if not isinstance(evaluations, Mapping):
        raise ArgumentError(
            f"evaluations is a {type(evaluations).__name__}: expected a dict of what evaluate "
            "returns, {'VAE': evaluation}"
        )
    if not evaluations:
        raise ArgumentError("evaluations is empty: there is no row to make")
    for name, found in evaluations.items():
        if not isinstance(found, Evaluation):
            raise ArgumentError(
                f"evaluations[{name!r}] is a {type(found).__name__}: pass what evaluate returns"
            )
    named = {str(name): found for name, found in evaluations.items()}
    differences = _differences(named)
    rows = [
        {
            **found.row,
            "evidence_diff": differences[name].mean,
            "evidence_diff_mcse": differences[name].mcse,
            "evidence_diff_se": differences[name].se,
        }
        for name, found in named.items()
    ]
    table = pd.DataFrame(rows, index=pd.Index(list(named), name="model"))
    return EvaluationTable(named, table, tuple(_cautions(named)))


def _differences(evaluations: Mapping[str, Evaluation]) -> dict[str, RowEstimate]:
    """Return the evidence of each row less that under the model of most evidence."""
    unknown = {name: RowEstimate.unknown(found.rows) for name, found in evaluations.items()}
    means = {name: found.evidence.mean for name, found in evaluations.items()}
    known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    if not known or not _same_data(evaluations):
        return unknown
    best = max(known, key=lambda name: known[name])
    found = {name: e.evidence.minus(evaluations[best].evidence) for name, e in evaluations.items()}
    rows = evaluations[best].rows
    # Its own errors cancel.
    found[best] = RowEstimate(np.zeros(rows), np.zeros(rows))
    return found


def _same_data(evaluations: Mapping[str, Evaluation]) -> bool:
    first, *others = (found.observed for found in evaluations.values())
    size = SAME * np.abs(first).max()
    return all(
        other.shape == first.shape and np.allclose(other, first, rtol=SAME, atol=size)
        for other in others
    )


def _cautions(evaluations: Mapping[str, Evaluation]) -> list[str]:
    said = []
    if not _same_data(evaluations):
        said.append(
            "the models were evaluated on different data, as the sums of what is observed in each "
            "row show: their numbers do not compare"
        )
    if len({found.num_samples for found in evaluations.values()}) > 1:
        said.append(
            "importance-weighted bounds are of different numbers of draws, and grow with these"
        )
    if len({found.threshold for found in evaluations.values()}) > 1:
        said.append("active units were counted by different thresholds")
    return said


def _with_difference(cells: dict[str, str], difference: RowEstimate) -> dict[str, str]:
    """Return the cells with the difference beside the evidence it is of."""
    first, *others = cells.items()
    return dict([first, ("evidence, difference", plus(difference)), *others])
