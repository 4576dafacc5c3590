# SPDX-License-Identifier: Apache-2.0
"""Normals at the modes of each row's posterior, with the masses of these modes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.trajectory import Metric

MOST_MODES = 4
LEAST_SHARE = 1e-4
"""Of the mass of the largest mode; what has less is left out."""


class Modes(NamedTuple):
    """A mixture of Normals for each data point."""

    log_share: Tensor
    """Of shape ``(data, modes)``; −∞ for rows with fewer modes."""
    loc: Tensor
    """Of shape ``(data, modes, K)``."""
    covariance: Tensor
    """Of shape ``(data, modes, K, K)``."""

    def within(self) -> Tensor:
        """Return the mean covariance within modes, of shape ``(data, K, K)``."""
        return (self.log_share.exp()[..., None, None] * self.covariance).sum(1)


def single(loc: Tensor, covariance: Tensor) -> Modes:
    """Return one Normal for each data point: means ``(data, K)`` and their covariances."""
    zero = loc.new_zeros(len(loc), 1)
    return Modes(zero, loc.unsqueeze(1), covariance.unsqueeze(1))


def distinct(places: Tensor, height: Tensor, covariance: Tensor) -> Modes:
    """Return the modes that searches have found, each of them once.

    A mode's mass is that of its Laplace approximation, p(x, u) √det(2πC). What lies within √K
    standard deviations of a mode with more mass is that mode.

    Args:
        places: where the searches ended, of shape ``(searches, data, K)``.
        height: log p(x, u) there, of shape ``(searches, data)``.
        covariance: of the approximations there, of shape ``(searches, data, K, K)``.
    """
    searches, data, dim = places.shape
    metric = Metric.of(covariance.flatten(0, 1), 1)
    covariance = metric.covariance.unflatten(0, (searches, data))
    volume = metric.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1).reshape(searches, data)
    mass = (height + volume).nan_to_num(nan=-torch.inf, posinf=-torch.inf)
    # A row of which nothing is known keeps its first search.
    mass[0] = torch.where(mass.isfinite().any(0), mass[0], torch.zeros_like(mass[0]))
    inverse = metric.inverse_factor.unflatten(0, (searches, data))
    rows = torch.arange(data, device=places.device)
    left, most = mass.clone(), mass.amax(0)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(min(MOST_MODES, searches)):
        best = left.argmax(0)
        share = left[best, rows] - most
        share = torch.where(share > torch.log(share.new_tensor(LEAST_SHARE)), share, -torch.inf)
        if not bool(share.isfinite().any()):
            break
        found.append((share, places[best, rows], covariance[best, rows]))
        gap = places - places[best, rows]
        white = (inverse[best, rows].mT @ gap.unsqueeze(-1)).squeeze(-1)
        # What is no number is no other mode either.
        left = torch.where(white.square().sum(-1) >= dim, left, -torch.inf)
    log_share, loc, spread = (torch.stack(part, 1) for part in zip(*found, strict=True))
    return Modes(log_share - log_share.logsumexp(1, keepdim=True), loc, spread)
