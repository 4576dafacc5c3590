# SPDX-License-Identifier: Apache-2.0
"""Guaranteed windows in nats, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt

from pyro_idvae._checks import check_list, check_real
from pyro_idvae.diagnostics import Certificate
from pyro_idvae.errors import ArgumentError
from pyro_idvae.plots.axes import check_axes

Measurement = tuple[float, float]

GUARANTEED = "guaranteed for the model's prior, x from the model and the exact posterior"
AT_MOST = "at most, with entries missing: nothing guaranteed from below"
ESTIMATED = "estimated lower bound ± 2 standard errors: no guarantee"
MEASURED = "measured ± 2 standard errors"
HALF_WIDTH = 2.0
"""Standard errors that error bars reach to either side."""


def plot_rate_window(
    certificates: Certificate | Mapping[str, Certificate],
    *,
    measured: Measurement | Mapping[str, Measurement] | None = None,
    ax: Any = None,
) -> Any:
    """Plot the window of nats that each certificate guarantees, and measurements in it.

    A certificate is a bar from its least to its most nats, hatched from 0 where entries are missing
    and the upper limit stands alone. An estimate, which guarantees nothing, is a mark at its lower
    end only, with 2 standard errors.

    Args:
        certificates: one :class:`~pyro_idvae.diagnostics.Certificate`, or several by name.
        measured: (value, standard error) in nats of the mutual information or of the average KL
            to the prior, by name; a bare pair if there is one certificate.
        ax: matplotlib axes; new ones if None.

    Returns:
        The axes.

    Raises:
        ArgumentError: for no certificates, a measurement of a name that has none, or one that is
            not finite.

    Example:
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(8, 2, "normal", rate_window=(1.0, 5.0))
        >>> ax = idvae.plot_rate_window(idvae.certify(vae.likelihood), measured=(2.5, 0.1))
        >>> ax.get_xlabel()
        'information of x about z (nats)'
    """
    named, points = _by_name(certificates, measured)
    check_axes("ax", ax)
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 1.9 + 0.5 * len(named)), layout="constrained")
    labels = set()

    def once(label: str) -> str | None:
        new = label not in labels
        labels.add(label)
        return label if new else None

    for place, (name, certificate) in enumerate(named.items()):
        if certificate.high is None:
            ax.errorbar(
                certificate.low,
                place,
                xerr=HALF_WIDTH * certificate.standard_error,
                fmt=">",
                color="C1",
                capsize=3,
                label=once(ESTIMATED),
            )
        else:
            width = certificate.high - certificate.low
            alone = certificate.low_per_coordinate is None
            ax.barh(
                place,
                width,
                left=certificate.low,
                height=0.5,
                color="none" if alone else "C0",
                edgecolor="C0",
                alpha=0.35,
                hatch="//" if alone else None,
                label=once(AT_MOST if alone else GUARANTEED),
            )
        if name in points:
            value, error = points[name]
            ax.errorbar(
                value,
                place,
                xerr=HALF_WIDTH * error,
                fmt="o",
                color="black",
                capsize=3,
                label=once(MEASURED),
            )
    ax.set_yticks(range(len(named)), list(named))
    # The first at the top, as in a list.
    ax.set_ylim(len(named) - 0.4, -0.6)
    ends = [c.low if c.high is None else c.high for c in named.values()]
    ends += [value + HALF_WIDTH * error for value, error in points.values()]
    starts = [value - HALF_WIDTH * error for value, error in points.values()]
    ax.set_xlim(min(0.0, 1.1 * min(starts, default=0.0)), 1.06 * max(ends))
    ax.set_xlabel("information of x about z (nats)")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize="small")
    return ax


def _certificates(given: Any) -> dict[str, Certificate]:
    """Return certificates by name, checked."""
    if isinstance(given, Certificate):
        return {given.family: given}
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"certificates is a {type(given).__name__}: pass what certify returns, or a dict of "
            "such"
        )
    if not given:
        raise ArgumentError("certificates is empty: there is no window to plot")
    for name, value in given.items():
        if not isinstance(value, Certificate):
            raise ArgumentError(
                f"certificates[{name!r}] is a {type(value).__name__}: pass what certify returns"
            )
    return dict(given)


def _by_name(
    certificates: Certificate | Mapping[str, Certificate],
    measured: Measurement | Mapping[str, Measurement] | None,
) -> tuple[dict[str, Certificate], dict[str, Measurement]]:
    """Return certificates and measurements by name, checked."""
    named = _certificates(certificates)
    if measured is None:
        return named, {}
    if isinstance(measured, Mapping):
        points = dict(measured)
    elif len(named) == 1:
        points = dict.fromkeys(named, measured)
    else:
        raise ArgumentError(
            f"measured={measured!r}: with several certificates, give measurements by name, of "
            f"{list(named)}"
        )
    unknown = sorted(set(points) - set(named))
    if unknown:
        raise ArgumentError(
            f"measured has {unknown}, which have no certificate: expected names of {list(named)}"
        )
    for name, pair in points.items():
        if len(check_list(f"measured[{name!r}]", pair, "a pair (value, standard error)")) != 2:
            raise ArgumentError(
                f"measured[{name!r}]={pair!r}: expected a pair (value, standard error)"
            )
        check_real(f"measured[{name!r}][0]", pair[0])
        check_real(f"measured[{name!r}][1]", pair[1], at_least=0.0)
    return named, points
