# SPDX-License-Identifier: Apache-2.0
"""What is observed must have the shape and lie in the support of its distribution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_idvae.errors import DataError, ShapeError
from pyro_idvae.programs.sites import (
    latent_sites,
    observed_sites,
    unwrap_events,
    unwrap_masks,
    without_ones,
)


def check_observations(trace: Any) -> None:
    """Raise unless each observed value is one of its distribution's, each number counted once.

    Args:
        trace: a run of the model.

    Raises:
        ShapeError: if a value's shape is not batch shape + event shape. A single number stays
            legal for distributions of single numbers, whatever plates they stand in, and so do time
            series of any length for distributions that do not say one.
        DataError: for values that are no tensors, or outside a fixed support.
    """
    fixed = not any(_is_discrete(site["fn"]) for site in latent_sites(trace).values())
    for name, site in observed_sites(trace).items():
        value = site["value"]
        if not isinstance(value, Tensor):
            raise DataError(
                f"the site {name!r} observes {value!r:.40}, a {type(value).__name__}: pass a "
                f"Tensor, e.g. obs=torch.as_tensor(...)"
            )
        if value.dtype == torch.bool:
            raise DataError(f"the site {name!r} observes a tensor of bool: pass it as .float()")
        _check_shape(name, value, site["fn"])
        _check_support(name, site, fixed=fixed)


def _check_shape(name: str, value: Tensor, fn: Any) -> None:
    batch, event = fn.batch_shape, fn.event_shape
    place = value.dim() - len(event)
    if not value.dim() and not event:
        return
    if (
        place >= 0
        and without_ones(value.shape[:place]) == without_ones(batch)
        and _fills(value.shape[place:], event)
    ):
        return
    if value.shape == event:
        remedy = (
            "this is one observation without its batch dimension, and would count as "
            f"{batch.numel()}: pass x.unsqueeze(0)"
        )
    else:
        remedy = (
            "a number would count more than once, or rows would meet the wrong latents: give the "
            "plate the size of the data, and declare what belongs to one row by .to_event"
        )
    raise ShapeError(
        f"the site {name!r} observes a value of shape {tuple(value.shape)}, but its distribution "
        f"has batch shape {tuple(batch)} and event shape {tuple(event)}: {remedy}"
    )


def _fills(shape: torch.Size, event: torch.Size) -> bool:
    """Tell whether a shape is an event's, where lengths of 1 stand for any, as of time series."""
    return all(own in (1, given) for given, own in zip(shape, event, strict=True))


def _check_support(name: str, site: Any, *, fixed: bool) -> None:
    """Raise for values outside the support, where no mask hides them.

    Args:
        name: of the site.
        site: its node.
        fixed: whether discrete supports, such as up to a number of trials, are fixed.
    """
    value, fn = site["value"], site["fn"]
    base = unwrap_masks(fn)
    moves = isinstance(type(base).support, property) and not (fixed and _is_discrete(base))
    if moves or base is not unwrap_events(fn):
        return
    try:
        bad = ~fn.support.check(value)
    except (NotImplementedError, ValueError):  # a support of which nothing is known
        return
    if site["mask"] is not None:
        bad = bad & torch.as_tensor(site["mask"], device=bad.device)
    if bool(bad.any()):
        where = tuple(bad.nonzero()[0].tolist())
        raise DataError(
            f"the site {name!r} observes {int(bad.sum())} values outside the support of "
            f"{type(base).__name__}, the first at {where}: clean the data, or mask them by "
            ".mask(present), with a value of the support where nothing is"
        )


def _is_discrete(fn: Any) -> bool:
    try:
        return bool(fn.support.is_discrete)
    except NotImplementedError:
        return False
