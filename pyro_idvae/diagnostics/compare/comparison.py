# SPDX-License-Identifier: Apache-2.0
"""A guide's posterior held against the exact one, latent by latent and data point by data point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae._checks import check_list, check_real
from pyro_idvae.diagnostics.compare.pieces import Piece, compared, table_of
from pyro_idvae.diagnostics.estimators.marginals import Array
from pyro_idvae.diagnostics.parts import Parts
from pyro_idvae.errors import ArgumentError

UNRELIABLE_K = 0.7
FAMILY_LEVEL = 0.01
"""Probability that any gap of a guide that is exact is said to be beyond chance."""
MISS = 0.5
"""Root mean square of the mean gaps, in sd, from which on a guide misses the posterior."""
WIDTH = 0.1
"""Typical sd ratios within this of 1, in logarithms, are called neither narrower nor wider."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        table: a ``pandas.DataFrame`` with a row for each (latent coordinate, data point), the
            data point ``"all"`` for a global latent. Its columns are those of :func:`compare`;
            the second level of its index has the name of the dimension of rows, ``data`` without
            one.
        per_latent: a ``pandas.DataFrame`` with a row for each latent coordinate: averages over the
            data points, gaps by their absolute values, NaN left out.
        summary: one line in words.
    """

    table: Any
    per_latent: Any
    summary: str

    def __str__(self) -> str:
        averages = self.per_latent.to_string(float_format="{:.3g}".format, line_width=100)
        return f"{self.summary}\n{averages}"


def compare(
    svi: Any,
    nuts: Any,
    *,
    var_names: Sequence[str] | None = None,
    probs: Sequence[float] = (0.5, 0.9),
) -> Comparison:
    r"""Compare a guide's draws with those of the exact posterior.

    For each coordinate of each latent at each data point, with q the guide's marginal and p the
    exact one, the columns of the table are

    - ``mean_svi``, ``mean_exact``, ``sd_svi``, ``sd_exact``; ``ess_exact``, the effective size of
      the exact draws (the guide's draws are independent and count in full);
    - ``mean_gap_mcse``, ``sd_gap_mcse``: guide minus exact, in Monte-Carlo standard errors of the
      difference, so that chance alone gives about N(0, 1); ``mean_gap_sd``, ``sd_gap_sd``: the same
      gaps in units of the exact posterior's sd;
    - ``wasserstein``, the 1-Wasserstein distance in the latent's own units, never 0 for finite
      samples; ``wasserstein_by_chance`` is what equal marginals would show on average;
    - ``kl_svi_exact`` = KL(q ‖ p) and ``kl_exact_svi`` = KL(p ‖ q) in nats, each with a standard
      error ``..._se``. They come from the ranks of one side's draws among the other's, with the
      bias of the fit taken off, so that equal laws give values around 0 and below; they are NaN
      where more draws lie outside the other's range than equal laws would leave there (at level
      0.001): beyond its range a sample says nothing of the density. Close to that limit they err
      low, by about their standard error;
    - ``pareto_k``: tail index of the data point's importance weights
      :math:`p(x, z) / q(z|x)` over all its latents, the same for each of them; above 0.7 the
      guide cannot be corrected by weighting. NaN for a guide without a density per data point; such
      a guide, or a model whose latents are all global, has one number for all data in
      ``pareto_k_joint`` instead. 0 where all weights are equal, NaN for a guide that is a point;
    - ``coverage_50``, ``coverage_90``: share of the exact draws inside the guide's central
      intervals.

    Args:
        svi: draws of :func:`~pyro_idvae.infer.from_guide`.
        nuts: draws of :func:`~pyro_idvae.infer.mcmc` or :func:`~pyro_idvae.infer.from_mcmc` for
            the same model and data.
        var_names: the latent sites to compare; all if None.
        probs: masses of the guide's central intervals.

    Returns:
        A :class:`Comparison`.

    Raises:
        ArgumentError: if ``svi`` does not hold a guide's draws or ``nuts`` does, for a site that is
            not there, too few draws, or a probability outside (0, 1).
        DataError: if the two were drawn given different observations, or draws are not finite.
        SiteMismatchError: if they have different latents.
        ShapeError: if latents differ in shape.

    Example:
        >>> import pyro, pyro.distributions as dist, torch
        >>> import pyro_idvae as idvae
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("z", dist.Normal(x / 2, 0.3))
        >>> x = torch.tensor([0.5, -1.0, 2.0])
        >>> exact = {"z": x / 2 + 0.5**0.5 * torch.randn(2, 200, 3)}
        >>> svi, nuts = idvae.from_guide(model, guide, x), idvae.from_mcmc(exact, model, x)
        >>> comparison = idvae.compare(svi, nuts)
        >>> comparison.table.index.tolist()
        [('z', 0), ('z', 1), ('z', 2)]
        >>> comparison.summary.split(":")[0]
        'the guide is narrower than the exact posterior'

    Reference:
        Yao, Vehtari, Simpson & Gelman, *Yes, but Did It Work?: Evaluating Variational Inference*,
        ICML 2018 (Pareto k of a guide).
    """
    wanted = [
        check_real("probs entry", prob, above=0.0, below=1.0)
        for prob in check_list("probs", probs, "probabilities, e.g. (0.5, 0.9)")
    ]
    if not wanted:
        raise ArgumentError(f"probs={probs!r}: expected at least one, e.g. (0.5, 0.9)")
    sides = zip(*Parts.together({"svi": svi, "nuts": nuts}), strict=True)
    pieces = [compared(one, other, var_names, wanted) for one, other in sides]
    table = table_of(pieces)
    return Comparison(table, _per_latent(table), _in_words(table, pieces))


def _per_latent(table: Any) -> Any:
    """Return averages over the data points, gaps by their absolute values."""
    columns = {}
    by_latent = {"level": "latent", "sort": False}
    for name in ("mean_gap_mcse", "mean_gap_sd", "sd_gap_mcse", "sd_gap_sd"):
        columns[f"{name}_abs"] = table[name].abs().groupby(**by_latent).mean()
    kept = ["wasserstein", "wasserstein_by_chance", "kl_svi_exact", "kl_exact_svi"]
    kept += [name for name in table if name.startswith("coverage") or name == "pareto_k_joint"]
    for name in kept:
        columns[name] = table[name].groupby(**by_latent).mean()
    k = table["pareto_k"]
    columns["share_k_above_0.7"] = (k > UNRELIABLE_K).where(k.notna()).groupby(**by_latent).mean()
    return pd.DataFrame(columns)


def _in_words(table: Any, pieces: Sequence[Piece]) -> str:
    """Return the line that says how the guide stands to the exact posterior."""
    k, per_point = np.concatenate([piece.k for piece in pieces]), pieces[0].per_point
    gaps = table[["mean_gap_mcse", "sd_gap_mcse"]].abs().fillna(0.0)
    limit = NormalDist().inv_cdf(1 - FAMILY_LEVEL / (2 * gaps.size))
    beyond = int((gaps > limit).any(axis=1).sum())
    ratio = (table["sd_svi"] / table["sd_exact"]).replace(math.inf, math.nan)
    parts = [
        f"the guide {_relation(table, ratio, beyond)} the exact posterior: mean or sd beyond "
        f"chance at {beyond} of {len(table)} marginals",
        f"largest mean gap {gaps['mean_gap_mcse'].max():.1f} MCSE and "
        f"{table['mean_gap_sd'].abs().max():.2f} sd",
        f"sd ratio {ratio.median():.2f} ({ratio.min():.2f} to {ratio.max():.2f})",
        f"median W1 {table['wasserstein'].median():.2g} "
        f"({table['wasserstein_by_chance'].median():.2g} by chance)",
        _k_in_words(k, per_point),
    ]
    widest = max(
        (name for name in table if name.startswith("coverage")), key=lambda n: float(n[9:])
    )
    parts.append(f"{widest[9:]}% intervals cover {100 * table[widest].mean():.0f}%")
    divergences = sum(piece.divergences for piece in pieces)
    if divergences:
        parts.append(f"caution: {divergences} divergent transitions on the exact side")
    left_out = sum(int(piece.agreed.left_out.sum()) for piece in pieces)
    weighed = sum(int(piece.agreed.weighed.sum()) for piece in pieces)
    if left_out:
        parts.append(
            f"caution: chains of {left_out} data points disagree, and the masses of "
            "their modes are not known"
        )
    elif weighed:
        parts.append(f"chains of {weighed} data points disagree and count by their modes' masses")
    return ", ".join(parts)


def _relation(table: Any, ratio: Any, beyond: int) -> str:
    if not beyond:
        return "agrees with"
    words = []
    if math.sqrt((table["mean_gap_sd"] ** 2).mean()) > MISS:
        words.append("misses")
    # A guide that is a point has ratio 0.
    typical = ratio.median()
    if typical < math.exp(-WIDTH):
        words.append("is narrower than")
    elif typical > math.exp(WIDTH):
        words.append("is wider than")
    return " and ".join(words) or "is close to"


def _k_in_words(k: Array, per_point: bool) -> str:
    known = k[~np.isnan(k)]
    if not len(known):
        return "k-hat unknown: the guide has no density, or too few draws for one"
    if not per_point:
        return f"k-hat {known[0]:.2f} for all data jointly"
    share = (known > UNRELIABLE_K).mean()
    return f"k-hat above {UNRELIABLE_K} at {100 * share:.0f}% of the data points"
