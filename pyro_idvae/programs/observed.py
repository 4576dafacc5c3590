# SPDX-License-Identifier: Apache-2.0
"""Which entries of an observed site are observed, and how many rows of data each latent has."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_idvae.errors import NoCertificateError

WRAPPERS = (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)


class RowCounts(NamedTuple):
    """How many rows of data one value of a latent has."""

    whole: int
    """Wholly observed rows, of the value that has the fewest."""
    seen: int
    """Rows with anything observed, of the value that has the most."""
    masked: bool
    """Whether anything is missing."""


def observed_entries(site: Any, own_mask: Tensor | None = None) -> Tensor:
    """Return True where no mask takes an entry of an observed site out of its density.

    Args:
        site: the node of the site, its distribution not validating.
        own_mask: what the likelihood was given; of a shape that broadcasts to the site's value.

    Returns:
        A boolean tensor of the shape of the site's value.

    Raises:
        NoCertificateError: if one observation is scored as several.
    """
    value, fn = site["value"], site["fn"]
    if torch.broadcast_shapes(fn.shape(), value.shape) != value.shape:
        raise NoCertificateError(
            f"what is observed at the site {site['name']!r} has shape {tuple(value.shape)} and its "
            f"distribution {tuple(fn.shape())}: one observation would count as several"
        )
    present = torch.ones_like(value, dtype=torch.bool)
    if own_mask is not None:
        present = present & own_mask
    if site["mask"] is not None:
        mask = torch.as_tensor(site["mask"], device=value.device)
        present = present & _per_entry(mask, fn.event_dim)
    if fn.support.is_discrete:
        return present
    # NaN shows wherever masks around the likelihood's output let it through.
    probe = torch.full_like(value, torch.nan)
    while isinstance(fn, WRAPPERS):
        if isinstance(fn, dist.MaskedDistribution):
            present = present & _per_entry(fn.log_prob(probe).isnan(), fn.event_dim)
        fn = fn.base_dist
    return present


def _per_entry(mask: Tensor, event_dim: int) -> Tensor:
    return mask.reshape(mask.shape + (1,) * event_dim)


def count_rows(entries: Tensor, event_dim: int, batch_shape: torch.Size) -> RowCounts:
    """Return how many rows of observations each value of a latent has.

    Args:
        entries: which entries are observed, of shape ``rows + event``.
        event_dim: dimensions of one observation.
        batch_shape: of the latent's values; broadcasts to ``rows``.
    """
    flat = entries.flatten(entries.dim() - event_dim) if event_dim else entries.unsqueeze(-1)
    rows = flat.shape[:-1]
    own = (1,) * (len(rows) - len(batch_shape)) + tuple(batch_shape)
    shared = [i for i, size in enumerate(own) if size == 1]

    def per_value(which: Tensor) -> Tensor:
        return which.sum(shared) if shared else which.long()

    whole, seen = per_value(flat.all(-1)), per_value(flat.any(-1))
    return RowCounts(int(whole.min()), int(seen.max()), not bool(entries.all()))
