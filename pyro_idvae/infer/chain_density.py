# SPDX-License-Identifier: Apache-2.0
"""A density of each chain's draws, row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

WIDE = 1.7
"""Of the wider kernels, in standard deviations of a chain's draws."""
KERNELS, DEGREES = 100, 5.0
"""Draws of a chain that kernels are centred on, and their degrees of freedom: tails heavier than a
mode's."""


@dataclass(frozen=True)
class ChainDensity:
    """Student-t kernels around some draws of each chain of each row.

    Kernels around draws follow a curved mode; with Scott's width they are as wide as it needs. Half
    of them are wider than all draws of the chain together: for what it has not reached.

    Attributes:
        centres: of shape ``(chain, kernels, rows, dim)``.
        loc: means of the draws, of shape ``(chain, rows, dim)``.
        covariance: of the draws, of shape ``(chain, rows, dim, dim)``.
        factor: its lower triangular root.
    """

    centres: Tensor
    loc: Tensor
    covariance: Tensor
    factor: Tensor

    @classmethod
    def of(cls, u: Tensor) -> ChainDensity:
        """Return the density of draws of shape ``(chain, draw, rows, dim)``."""
        draws, dim = u.shape[1], u.shape[-1]
        u = u.double()
        loc = u.mean(1)
        centred = u - loc.unsqueeze(1)
        covariance = torch.einsum("csni,csnj->cnij", centred, centred) / draws
        diagonal = covariance.diagonal(dim1=-2, dim2=-1)
        # A chain that hardly moved still gets a density of some width.
        floor = diagonal.amax(0, keepdim=True) * 1e-4 + torch.finfo(torch.float32).eps
        # Few draws know little of correlations.
        keep = draws / (draws + 2.0 * dim)
        covariance = keep * covariance + torch.diag_embed((1 - keep) * diagonal + floor)
        factor, _ = torch.linalg.cholesky_ex(covariance)
        centres = u[:, torch.linspace(0, draws - 1, min(KERNELS, draws)).long()]
        return cls(centres, loc, covariance, factor)

    @property
    def widths(self) -> tuple[float, float]:
        """Of both kinds of kernels, in standard deviations of a chain's draws."""
        return self.centres.shape[1] ** (-1.0 / (self.centres.shape[-1] + 4)), WIDE

    def sample(self, number: int) -> Tensor:
        """Return so many draws of each chain's density: ``(chain * number, rows, dim)``."""
        parts = [self._from(h, number // 2) for h in self.widths]
        return torch.cat([part.flatten(0, 1) for part in parts])

    def log_prob(self, u: Tensor) -> Tensor:
        """Return each chain's log density of points, up to one constant for all.

        Args:
            u: of shape ``(points, rows, dim)``.

        Returns:
            Of shape ``(chain, points, rows)``.
        """
        each = [
            torch.stack([_log_kernels(u, middle, h * root) for h in self.widths]).logsumexp(0)
            for middle, root in zip(self.centres, self.factor, strict=True)
        ]
        return torch.stack(each) - math.log(len(self.widths))

    def _from(self, width: float, number: int) -> Tensor:
        """Return draws from the kernels of one width: ``(chain, number, rows, dim)``."""
        centres = self.centres
        shape = (centres.shape[0], number, *centres.shape[2:])
        index = torch.randint(centres.shape[1], shape[:-1], device=centres.device)
        chosen = centres.gather(1, index.unsqueeze(-1).expand(shape))
        noise = torch.randn(shape, dtype=centres.dtype, device=centres.device)
        gamma = torch.distributions.Chi2(torch.full((), DEGREES).to(centres))
        stretch = (DEGREES / gamma.sample(shape[:-1])).sqrt()
        step = (width * self.factor.unsqueeze(1) @ noise.unsqueeze(-1)).squeeze(-1)
        return chosen + stretch.unsqueeze(-1) * step


def _log_kernels(u: Tensor, centres: Tensor, factor: Tensor) -> Tensor:
    """Return the log density of one chain's kernels, up to a constant: ``(points, rows)``."""
    dim = u.shape[-1]
    inverse = torch.linalg.inv(factor)
    white, middle = ((inverse @ points.unsqueeze(-1)).squeeze(-1) for points in (u, centres))
    distance = torch.cdist(white.transpose(0, 1), middle.transpose(0, 1)).square()
    log_t = -0.5 * (DEGREES + dim) * torch.log1p(distance / DEGREES)
    volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    found: Tensor = log_t.logsumexp(-1).mT - math.log(len(centres)) - volume
    return found
