# SPDX-License-Identifier: Apache-2.0
"""Draws as ArviZ data: the groups that diagnostics and plots read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from pyro_idvae._checks import check_count
from pyro_idvae.arviz_io import to_arviz
from pyro_idvae.infer.draws import Draws, evaluated, predictive, shape_of
from pyro_idvae.infer.groups import (
    Groups,
    attributes_of,
    groups_of,
    joined_groups,
    labels_of,
)
from pyro_idvae.infer.interrupts import Steps
from pyro_idvae.infer.limits import Candidates, Limits, add_directions, find_directions, limit_sums
from pyro_idvae.infer.names import Names
from pyro_idvae.infer.samples import check_samples, read_samples
from pyro_idvae.infer.shares import Shares
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.bound_model import Values
from pyro_idvae.programs.door import open_model
from pyro_idvae.programs.run import Program

DIRECTIONS = 1
"""The stage of random numbers in which directions are bounded."""


def check_counts(num_prior_samples: int | None, num_limit_draws: int | None = None) -> None:
    """Raise for numbers of draws that are none, before anything is drawn."""
    if num_prior_samples is not None:
        check_count("num_prior_samples", num_prior_samples)
    if num_limit_draws is not None:
        check_count("num_limit_draws", num_limit_draws, minimum=0)


def finished(
    shares: Shares,
    draws: Sequence[Draws],
    names: Names,
    *,
    method: str,
    independent: bool = False,
    complete: bool = True,
    **wanted: Any,
) -> Any:
    """Return ArviZ data of draws, with draws from the prior and, if wanted, new observations.

    Args:
        shares: the models the draws are of, in parts.
        draws: the draws of each part.
        names: what dimensions and labels are called.
        method: how they were made.
        independent: whether they are independent.
        complete: whether these are all the draws that were wanted.
        **wanted: further arguments of :func:`all_groups`.
    """
    groups, labels = all_groups(shares, draws, names, independent=independent, **wanted)
    attrs = attributes_of(names, method=method, independent=independent, complete=complete)
    return to_arviz(groups, coords=labels, attrs=attrs)


def all_groups(
    shares: Shares,
    draws: Sequence[Draws],
    names: Names,
    *,
    num_prior_samples: int,
    num_limit_draws: int | None,
    posterior_predictive: bool,
    independent: bool = False,
    steps: Steps | None = None,
) -> tuple[Groups, dict[str, Sequence[Any]]]:
    """Return the groups of draws, and labels along their dimensions.

    Args:
        shares: the models the draws are of, in parts.
        draws: the draws of each part.
        names: what dimensions and labels are called.
        num_prior_samples: draws from the prior.
        num_limit_draws: draws to bound the marginals by; see :func:`from_mcmc`.
        posterior_predictive: whether to draw new observations.
        independent: whether the draws are.
        steps: what an interrupt does to what is computed here; it is raised if None.
    """
    steps = steps or Steps()
    whole = steps.needed(
        lambda: shares.here(lambda bound, own: own.with_prior(bound, num_prior_samples), draws)
    )
    directions: list[Candidates] = []
    if num_limit_draws != 0:
        limited = partial(_limited, shares, whole, num_limit_draws, independent)
        words = "limits of the marginals"
        whole, directions = steps.wanted(words, limited, (whole, directions))
    new: Sequence[Values | None] = [None] * len(whole)
    if posterior_predictive:
        predicted = partial(shares.here, predictive, [own.values for own in draws])
        new = steps.wanted("posterior_predictive", predicted, new)

    def gathered() -> tuple[Groups, dict[str, Sequence[Any]]]:
        groups = shares.everywhere(partial(groups_of, names=names), whole, new)
        return joined_groups(groups, names), labels_of(names, directions)

    return steps.needed(gathered)


def _limited(
    shares: Shares, draws: Sequence[Draws], number: int | None, independent: bool
) -> tuple[list[Draws], list[Candidates]]:
    """Return draws with the masses of their chains and bounds of coordinates and directions."""
    whole = shares.here(
        lambda bound, own, share: own.with_coordinate_limits(bound, number, share=share),
        draws,
        [portion.share for portion in shares.portions],
    )
    # Also of a process that has no part.
    if independent:
        return whole, []
    # Directions are those of all rows: once more over all parts.
    later = shares.at_stage(DIRECTIONS)
    replacing = later.here(lambda bound, own: own.replacing(bound, number), whole)
    limits = [own.limits or Limits({}) for own in whole]
    candidates = find_directions(
        shares.bound,
        later.everywhere(limit_sums, [own.means for own in limits]),
        lambda step: later.everywhere(lambda _, own: step(own), replacing),
    )
    found = later.here(
        lambda _, own, drawn: add_directions(own, drawn, candidates), limits, replacing
    )
    return [replace(own, limits=one) for own, one in zip(whole, found, strict=True)], candidates


@left_as_found
def from_mcmc(
    samples: Any,
    model: Program,
    data: Any,
    *,
    sample_stats: Mapping[str, Tensor] | None = None,
    num_prior_samples: int | None = None,
    num_limit_draws: int | None = None,
    posterior_predictive: bool = False,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    inference_method: str = "mcmc",
) -> Any:
    """Return posterior draws as ArviZ data, with the groups of :func:`from_guide`.

    Args:
        samples: a ``pyro.infer.MCMC`` object that has run, or a dict from site names to draws of
            shape ``(chain, draw) + site shape``.
        model: the model the draws are of.
        data: the data it was run on.
        sample_stats: further statistics of shape ``(chain, draw)``, e.g. ``energy``.
        num_prior_samples: draws from the prior; by default as many as draws in a chain.
        num_limit_draws: draws, of all chains together, in which each latent is replaced by a prior
            draw: what the likelihood then loses bounds what its marginal knows
            (``sample_stats/limit_mean_<site>``), and without it no latent can be called collapsed
            by itself. 0 for none; by default as many as cost a fifth of the sampling.
        posterior_predictive: whether to draw new observations.
        coords: labels by dimension, as for :func:`from_guide`.
        dims: names of dimensions by site, as for :func:`from_guide`.
        inference_method: written to the attributes.

    Returns:
        ``InferenceData`` (ArviZ 0.23) or ``DataTree`` (1.x).

    Raises:
        ArgumentError: if a latent site of the model has no draws, or draws of another shape or
            dtype; for draws of what is no site.
        DataError: for draws that are no tensors, not finite or outside the support.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> import pyro_idvae as idvae
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> draws = idvae.from_mcmc({"z": torch.randn(2, 10, 3)}, model, torch.zeros(3))
        >>> draws["log_likelihood"]["x"].shape
        (2, 10, 3)
    """
    check_counts(num_prior_samples, num_limit_draws)
    values, stats = read_samples(samples, sample_stats)
    bound = open_model(model, as_arguments(data), drawn=list(values))
    names = Names.of(bound, coords, dims, taken=stats)
    values = check_samples(bound, values, stats)
    return finished(
        Shares.whole(bound),
        [evaluated(bound, values, stats, independent=False, method=inference_method)],
        names,
        method=inference_method,
        num_prior_samples=num_prior_samples or shape_of(values)[1],
        num_limit_draws=num_limit_draws,
        posterior_predictive=posterior_predictive,
    )
