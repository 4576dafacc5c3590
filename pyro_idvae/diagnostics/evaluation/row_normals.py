# SPDX-License-Identifier: Apache-2.0
"""Guides that are a Normal for each row: the density of every draw under every row."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.dependence import guide_dependences
from pyro_idvae.programs.guide_density import helper_sites
from pyro_idvae.programs.run import dry_run
from pyro_idvae.programs.sites import latent_sites, unwrap_events, unwrap_masks

JOINT = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)
LOG_TWO_PI = math.log(2 * math.pi)


class RowNormals:
    r"""A Normal of its own for each of N rows, as an exponential family.

    .. math:: \log q_j(z) = -\tfrac12 z^\top P_jz + m_j^\top P_jz - \tfrac12 m_j^\top P_jm_j
        + \tfrac12\log\det P_j - \tfrac K2\log2\pi

    so that all pairs of draws and rows are one matrix product, in double precision. The origin is
    put to the mean of all rows.

    Args:
        loc: means, of shape ``(N, K)``.
        precision: of shape ``(N, K)`` if all are diagonal, else ``(N, K, K)``.

    Example:
        >>> import torch
        >>> from pyro_idvae.diagnostics.evaluation.row_normals import RowNormals
        >>> normals = RowNormals(torch.tensor([[0.0], [1.0]]), torch.ones(2, 1))
        >>> normals.log_prob(torch.tensor([[1.0]])).round(decimals=3)
        tensor([[-1.4190, -0.9190]], dtype=torch.float64)
    """

    def __init__(self, loc: Tensor, precision: Tensor) -> None:
        loc, precision = loc.double(), precision.double()
        self.origin = loc.mean(0)
        self.loc = loc - self.origin
        self.diagonal = precision.dim() == 2
        if self.diagonal:
            self.scale = precision.rsqrt()
            linear, log_det = precision * self.loc, precision.log().sum(-1)
            quadratic = precision
        else:
            factor = torch.linalg.cholesky(precision)
            eye = torch.eye(loc.shape[-1], dtype=loc.dtype, device=loc.device)
            self.scale = torch.linalg.solve_triangular(factor, eye, upper=False).mT
            linear = (precision @ self.loc.unsqueeze(-1)).squeeze(-1)
            log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            quadratic = precision.flatten(1)
        self.natural = torch.cat([-0.5 * quadratic, linear], -1)
        constant = log_det - loc.shape[-1] * LOG_TWO_PI - (linear * self.loc).sum(-1)
        self.constant = 0.5 * constant

    def sample(self, count: int) -> Tensor:
        """Return draws of each row, of shape ``(count, N, K)``."""
        noise = torch.randn((count, *self.loc.shape), dtype=torch.double, device=self.loc.device)
        if self.diagonal:
            white = self.scale * noise
        else:
            white = (self.scale @ noise.unsqueeze(-1)).squeeze(-1)
        return self.origin + self.loc + white

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log densities of B points under each row, of shape ``(B, N)``.

        Args:
            z: of shape ``(B, K)``.
        """
        z = z - self.origin
        squares = z.square() if self.diagonal else (z.unsqueeze(-1) * z.unsqueeze(-2)).flatten(1)
        return torch.addmm(self.constant, torch.cat([squares, z], -1), self.natural.mT)


@torch.no_grad()
def row_normals(bound: BoundModel) -> list[RowNormals] | None:
    """Return the Normals that a guide draws from, one for each site; None if it has others.

    Autoguides draw Normals on an unconstrained scale, from which one map for all rows leads to the
    latents: information is the same on both.

    Args:
        bound: model and guide on their data.
    """
    names = _drawn_sites(bound)
    if names is None or any(guide_dependences(bound).values()):
        return None
    again = dry_run(bound.model, bound.guide, bound.arguments)[1]
    found = []
    for name in names:
        normals, other = (_of_site(bound, trace, name) for trace in (bound.guide_trace, again))
        # What moves from run to run depends on other draws, or on noise that is no site.
        if normals is None or other is None or not _same(normals, other):
            return None
        found.append(normals)
    return found


def _drawn_sites(bound: BoundModel) -> list[str] | None:
    """Return the guide's random sites, one for each latent; None if there are others."""
    helpers = helper_sites(bound)
    if not helpers:
        return list(bound.latents)
    wanted = []
    for name in bound.latents:
        site = _upstream.unconstrained_site(bound.guide_trace, name)
        # Of a support that moves with the data each row has a map of its own.
        kind = type(unwrap_masks(bound.trace.nodes[name]["fn"]))
        if site is None or isinstance(kind.support, property):
            return None
        wanted.append(site["name"])
    drawn = latent_sites(bound.guide_trace)
    return wanted if set(drawn) == {*wanted, *bound.latents} else None


def _of_site(bound: BoundModel, trace: Any, name: str) -> RowNormals | None:
    site = trace.nodes[name]
    fn, shape, dim = unwrap_events(site["fn"]), site["value"].shape, bound.frame_dim(site)
    if dim is None or site["mask"] is not None:
        return None
    place = len(shape) + dim - len(site["fn"].event_shape)
    # By type: a subclass may have another density.
    if type(fn) is dist.Normal:
        loc, precision = (
            part.expand(shape).movedim(place, 0).reshape(bound.rows, -1)
            for part in (fn.loc, fn.scale.double().square().reciprocal())
        )
        return RowNormals(loc, precision)
    if type(fn) in JOINT and shape[:-1] == (bound.rows,):
        size = shape[-1]
        precision = fn.precision_matrix.double().expand(bound.rows, size, size)
        return RowNormals(fn.loc.expand(shape), precision)
    return None


def _same(one: RowNormals, other: RowNormals) -> bool:
    return one.natural.shape == other.natural.shape and torch.allclose(
        one.natural, other.natural, rtol=1e-4, atol=1e-6
    )
