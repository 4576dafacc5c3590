# SPDX-License-Identifier: Apache-2.0
"""An evaluation in words: lines with every unit and rule, and cells of a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pyro_idvae.diagnostics.evaluation.parts import PARTS

if TYPE_CHECKING:
    from pyro_idvae.diagnostics.evaluation.evaluation import Evaluation
    from pyro_idvae.diagnostics.row_estimate import RowEstimate

UNKNOWN = "–"


def lines_of(found: Evaluation) -> list[str]:
    """Return an evaluation line by line."""
    return [
        f"evaluation on {found.rows} data points, in nats: means ± Monte-Carlo error of these rows "
        "(standard error over rows like these)",
        f"  evidence log p(x)  {plus(found.evidence)}{_how(found)}",
        *_upper(found),
        f"  importance-weighted bound  {plus(found.importance_bound)}: {found.num_samples} draws"
        f"{_reliability(found)}",
        f"  ELBO  {plus(found.elbo)}",
        f"  KL of the guide to the prior  {plus(found.kl)}",
        f"  KL of the exact posterior to the prior  {plus(found.posterior_kl)}",
        f"  inference gap, log p(x) − ELBO  {plus(found.inference_gap)}",
        f"  active units  {_active(found)}: variance over rows of the posterior mean above "
        f"{found.threshold:g} (Burda et al. 2016)",
        f"  least nats of a latent  {_least(found)}: KL(q(z_k|x) ‖ p(z_k))",
        f"  mutual information I_q(x; z)  {plus(found.mutual_information)}: on the mixture of all "
        f"rows, at most log {found.rows} = {found.information_cap:.3f}",
        f"  certificate  {_window(found)}{_whose(found)}",
        f"  processor time  {sum(found.cpu_seconds.values()):.1f} s ({_times(found)})",
    ]


def cells_of(found: Evaluation) -> dict[str, str]:
    """Return an evaluation as a row of a table, by column."""
    return {
        "evidence": plus(found.evidence),
        "importance-weighted bound": plus(found.importance_bound),
        "k > 0.7": UNKNOWN if math.isnan(found.unreliable) else f"{found.unreliable:.0%}",
        "ELBO": plus(found.elbo),
        "KL": plus(found.kl),
        "posterior KL": plus(found.posterior_kl),
        "inference gap": plus(found.inference_gap),
        "active units": _active(found),
        "least nats of a latent": _least(found),
        "mutual information": plus(found.mutual_information),
        "certificate": _window(found),
        "CPU s": f"{sum(found.cpu_seconds.values()):.1f}",
    }


def legend_of(evaluations: Sequence[Evaluation]) -> str:
    """Return what the cells of a table mean."""
    rows = _all(f"{found.rows}" for found in evaluations)
    caps = _all(f"log {found.rows} = {found.information_cap:.3f}" for found in evaluations)
    draws = _all(f"{found.num_samples}" for found in evaluations)
    rules = _all(f"{found.threshold:g}" for found in evaluations)
    return (
        f"In nats: means over {rows} rows ± their Monte-Carlo error, in brackets the standard "
        f"error over rows. Importance-weighted bound: {draws} draws; where k > 0.7, or is unknown, "
        "it is not reliable and its Monte-Carlo error not known. KL: of the guide to the prior; "
        "posterior KL: of the exact posterior. Inference gap: evidence less ELBO. Active units: "
        f"variance over rows of the posterior mean above {rules} (Burda et al. 2016). Mutual "
        f"information: on the mixture of all rows, at most {caps}. Certificate: of the model's own "
        "data and exact posterior."
    )


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    r"""Return rows of the same columns as a Markdown table.

    Example:
        >>> from pyro_idvae.diagnostics.evaluation.words import markdown_table
        >>> print(markdown_table([{"model": "a|b", "nats": "1.0"}]))
        | model | nats |
        | --- | --- |
        | a\|b | 1.0 |
    """
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def markdown_text(
    rows: Sequence[Mapping[str, str]], evaluations: Sequence[Evaluation], notes: Sequence[str]
) -> str:
    """Return a Markdown table, what its cells mean, and notes as a list."""
    blocks = [markdown_table(rows), legend_of(evaluations), "\n".join(f"- {n}" for n in notes)]
    return "\n\n".join(block for block in blocks if block)


def plus(measure: RowEstimate) -> str:
    """Return a mean with both of its errors."""
    if math.isnan(measure.mean):
        return UNKNOWN
    chance = "" if math.isnan(measure.mcse) else f" ± {measure.mcse:.3f}"
    return f"{measure.mean:.3f}{chance}{_over_rows(measure)}"


def _over_rows(measure: RowEstimate) -> str:
    return "" if math.isnan(measure.se) else f" ({measure.se:.3f})"


def _how(found: Evaluation) -> str:
    given = found.annealing
    if given is None:
        return ""
    return (
        f": annealed from {given.proposal}, {given.num_chains} particles, "
        f"{given.num_temperatures} temperatures"
    )


def _upper(found: Evaluation) -> list[str]:
    given = found.annealing
    if given is None or given.upper is None:
        return []
    kind = "from the latents that made the data" if given.exact_start else "an estimate"
    return [f"  its upper bound  {plus(found.evidence_upper)}: {kind}"]


def _reliability(found: Evaluation) -> str:
    if math.isnan(found.unreliable):
        return ""
    if not found.unreliable:
        return ", k at most 0.7 in all rows"
    return (
        f", k above 0.7 or unknown in {found.unreliable:.0%} of the rows, not reliable there, and "
        "its Monte-Carlo error not known"
    )


def _active(found: Evaluation) -> str:
    if found.active is None:
        return UNKNOWN
    return f"{int(found.active.sum())} of {len(found.latents)}"


def _least(found: Evaluation) -> str:
    least = found.least_nats
    if math.isnan(least.mean):
        return UNKNOWN
    return f"{least.mean:.3f}{_over_rows(least)} of {found.least_latent}"


def _window(found: Evaluation) -> str:
    given, kind = found.certificate, found.certificate_kind
    if given is None:
        return kind
    if given.kind != "certificate":
        shown = f"{given.num_samples} draws show at most {math.log(given.num_samples):.3f}"
        return f"{kind}: {given.low:.3f} ± {given.standard_error:.3f} or more ({shown})"
    return f"{kind}: {given.low:.3f} to {given.high:.3f}"


def _whose(found: Evaluation) -> str:
    return "" if found.certificate is None else ", of the model's own data and exact posterior"


def _times(found: Evaluation) -> str:
    return ", ".join(f"{PARTS[part]} {time:.1f}" for part, time in found.cpu_seconds.items())


def _all(words: Iterable[str]) -> str:
    """Return what differs once each."""
    return " or ".join(dict.fromkeys(words))
