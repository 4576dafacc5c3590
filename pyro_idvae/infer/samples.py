# SPDX-License-Identifier: Apache-2.0
"""Draws that somebody brings: read from a sampler or a dict, and checked against the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from pyro_idvae.infer.draws import shape_of
from pyro_idvae.programs.arguments import is_array
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.sites import unwrap_masks


def read_samples(samples: Any, sample_stats: Any) -> tuple[Values, Values]:
    """Return draws and statistics by name, all tensors of as many chains and draws.

    Args:
        samples: a ``pyro.infer.MCMC`` object that has run, or a dict of draws.
        sample_stats: a dict of statistics, or None.

    Raises:
        ArgumentError: for anything else.
        DataError: for draws that are no tensors, or not finite.
        ShapeError: for draws or statistics of other numbers of chains and draws.
    """
    stats = _tensors("sample_stats", {} if sample_stats is None else sample_stats)
    given = samples if isinstance(samples, Mapping) else _of_sampler(samples)
    values = _tensors("samples", given)
    if not values:
        raise ArgumentError("samples is empty: expected draws by site, e.g. {'z': draws}")
    first = next(iter(values))
    for name, value in values.items():
        if value.dim() < 2 or not value.shape[:2].numel():
            raise ShapeError(
                f"samples[{name!r}] has shape {tuple(value.shape)}: expected (chain, draw) + the "
                "site's shape, e.g. by get_samples(group_by_chain=True)"
            )
        if value.shape[:2] != values[first].shape[:2]:
            raise ShapeError(
                f"samples[{name!r}] has {tuple(value.shape[:2])} chains and draws but "
                f"samples[{first!r}] has {tuple(values[first].shape[:2])}: expected the same"
            )
        bad = ~value.isfinite()
        if bool(bad.any()):
            raise DataError(
                f"samples[{name!r}] has {int(bad.sum())} entries that are not finite, the first at "
                f"{tuple(bad.nonzero()[0].tolist())}: leave out chains that have failed"
            )
    if not isinstance(samples, Mapping):
        stats.setdefault("diverging", _divergences(samples, shape_of(values)))
    return values, stats


def check_samples(bound: BoundModel, values: Values, stats: Values) -> Values:
    """Return the draws of the model's latents, checked against it.

    Args:
        bound: the model on its data.
        values: draws by site.
        stats: statistics by name.

    Raises:
        ArgumentError: for latents without draws, draws of what is no site, or of another dtype.
        ShapeError: for draws or statistics of another shape.
        DataError: for draws outside the support.
    """
    _check_sites(bound, values, "samples")
    for name in bound.latents:
        _check_value(bound, name, values[name], "samples", lead=2)
    shape = shape_of(values)
    for name, value in stats.items():
        if value.shape not in (shape, (*shape, bound.rows)):
            raise ShapeError(
                f"sample_stats[{name!r}] has shape {tuple(value.shape)}: expected (chain, draw), "
                f"{shape}, or one more dimension of the {bound.rows} rows"
            )
    return {name: values[name] for name in bound.latents}


def check_latents(bound: BoundModel, latents: Any) -> Values:
    """Return one value of each latent site, checked against the model.

    Args:
        bound: the model on its data.
        latents: by site.

    Raises:
        ArgumentError: for what is no dict, latents that lack, what is no site, or another dtype.
        ShapeError: for another shape.
        DataError: for what is no tensor, not finite, or outside the support.
    """
    values = _tensors("latents", latents)
    _check_sites(bound, values, "latents")
    for name in bound.latents:
        _check_value(bound, name, values[name], "latents", lead=0)
        if not bool(values[name].isfinite().all()):
            raise DataError(f"latents[{name!r}] is not finite: pass what the data were made with")
    return {name: values[name] for name in bound.latents}


def _check_sites(bound: BoundModel, values: Values, argument: str) -> None:
    missing = sorted(set(bound.latents) - set(values))
    unknown = sorted(set(values) - set(bound.trace.nodes))
    if missing:
        raise ArgumentError(
            f"{argument} lack the latent sites {missing} of the model"
            + (f"; they have {unknown}, which are no sites of it" if unknown else "")
        )
    if unknown:
        raise ArgumentError(
            f"{argument} has {unknown}, which are no sites of the model: leave out or rename them"
        )


def _check_value(bound: BoundModel, name: str, value: Tensor, argument: str, *, lead: int) -> None:
    own = bound.trace.nodes[name]["value"]
    if value.shape[lead:] != own.shape or value.dim() < lead:
        raise ShapeError(
            f"{argument}[{name!r}] has shape {tuple(value.shape)}: expected "
            + ("(chain, draw) + " if lead else "")
            + f"{tuple(own.shape)}"
        )
    if value.dtype != own.dtype or value.device != own.device:
        raise ArgumentError(
            f"{argument}[{name!r}] has dtype {value.dtype} on {value.device}, but the model draws "
            f"{own.dtype} on {own.device}: pass {argument}[{name!r}].to({own.dtype})"
        )
    _check_support(bound, name, value, argument)


def _check_support(bound: BoundModel, name: str, value: Tensor, argument: str) -> None:
    fn = bound.trace.nodes[name]["fn"]
    if isinstance(type(unwrap_masks(fn)).support, property):  # it may move with other latents
        return
    outside = int((~fn.support.check(value)).sum())
    if outside:
        raise DataError(
            f"{argument}[{name!r}] has {outside} draws outside the support of the site: pass them "
            "as the model has them, not on another scale"
        )


def _tensors(argument: str, given: Any) -> Values:
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"{argument} is a {type(given).__name__}: expected a dict of tensors by name"
        )
    for name, value in given.items():
        if not isinstance(value, Tensor):
            kind = "an array" if is_array(value) else f"a {type(value).__name__}"
            raise DataError(
                f"{argument}[{name!r}] is {kind}: pass torch.as_tensor({argument}[{name!r}])"
            )
    return dict(given)


def _of_sampler(samples: Any) -> Values:
    """Return the draws of an MCMC object, with chains."""
    if not hasattr(samples, "get_samples"):
        raise ArgumentError(
            f"samples is a {type(samples).__name__}: expected a pyro.infer.MCMC object that has "
            "run, or a dict from sites to draws of shape (chain, draw) + site shape"
        )
    try:
        return dict(samples.get_samples(group_by_chain=True))
    except (AttributeError, TypeError) as error:  # what Pyro raises where there is nothing yet
        raise ArgumentError(
            f"samples, a {type(samples).__name__}, has no draws by chain: call its run(...) first"
        ) from error


def _divergences(mcmc: Any, shape: tuple[int, int]) -> Tensor:
    diverging = torch.zeros(shape, dtype=torch.bool)
    found = mcmc.diagnostics().get("divergences", {})
    for chain in range(shape[0]):
        diverging[chain, list(found.get(f"chain {chain}", []))] = True
    return diverging
