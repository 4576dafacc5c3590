# SPDX-License-Identifier: Apache-2.0
"""Where annealing begins: a density of each row's latents that can be drawn from."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.rowwise.annealing.modes import Modes
from pyro_idvae.infer.rowwise.trajectory import Metric, product
from pyro_idvae.programs.arguments import tensors_of, with_tensors
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.row_density import RowDensity


class Point(NamedTuple):
    """Latents of rows, and what the model says of them."""

    u: Tensor
    """Unconstrained, of shape ``(rows, dim)``."""
    draw: Values
    """As the model has them, by site."""
    log_prior: Tensor
    """Of u, of shape ``(rows,)``."""
    volume: Tensor
    """log|det dz/du|, of shape ``(rows,)``."""


class Proposal(Protocol):
    """A density of the unconstrained latents of some rows, in nats."""

    def sample(self) -> Tensor:
        """Return one draw of each row, of shape ``(rows, dim)``."""

    def log_prob(self, point: Point) -> Tensor:
        """Return log q(u) of each row, differentiable in u."""

    def tensors(self) -> list[Tensor]:
        """Return what differs from one block of rows to the next."""

    def with_tensors(self, tensors: Sequence[Tensor]) -> Proposal:
        """Return the proposal of other rows."""


class NormalProposal:
    """A mixture of Normals of its own for each row.

    Args:
        modes: the mixtures of the data points.
        chains: rows of each data point.
    """

    def __init__(self, modes: Modes, chains: int) -> None:
        self.chains, size = chains, modes.loc.shape[-1]
        metric = Metric.of(modes.covariance.flatten(0, 1), 1)
        shape = modes.covariance.shape
        # The inverse of the factor: the metric has its transpose.
        self.factor = metric.factor.reshape(shape)
        self.inverse = metric.inverse_factor.mT.reshape(shape)
        volume = self.inverse.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * size * math.log(2 * math.pi)
        self.share = modes.log_share.exp()
        self.log_height, self.loc = modes.log_share + volume - constant, modes.loc

    def sample(self) -> Tensor:
        """Return one draw of each row."""
        chosen = torch.multinomial(self.share, self.chains, replacement=True)
        rows = torch.arange(len(chosen), device=chosen.device).unsqueeze(-1)
        loc = self.loc[rows, chosen]
        draws = loc + product(self.factor[rows, chosen], torch.randn_like(loc))
        return draws.transpose(0, 1).flatten(0, 1)

    def log_prob(self, point: Point) -> Tensor:
        """Return log q(u) of each row."""
        # Each data point's matrices are multiplied with all its rows at once.
        u = point.u.unflatten(0, (self.chains, -1)).permute(1, 2, 0)
        white = self.inverse @ (u.unsqueeze(1) - self.loc.unsqueeze(-1))
        log_q = self.log_height.unsqueeze(-1) - 0.5 * white.square().sum(-2)
        found: Tensor = log_q.logsumexp(1).mT.reshape(-1)
        return found

    def tensors(self) -> list[Tensor]:
        """Return the mixtures' parameters."""
        return [self.log_height, self.loc, self.inverse]

    def with_tensors(self, tensors: Sequence[Tensor]) -> NormalProposal:
        """Return the proposal of other rows."""
        other = copy.copy(self)
        other.log_height, other.loc, other.inverse = tensors
        return other


class PriorProposal:
    """The model's own prior.

    Args:
        density: of the rows.
    """

    def __init__(self, density: RowDensity) -> None:
        self.density = density

    def sample(self) -> Tensor:
        """Return one draw of each row."""
        with torch.no_grad():
            draw, _ = self.density.bound.run_prior(self.density.arguments)
            return self.density.flatten(draw)

    def log_prob(self, point: Point) -> Tensor:
        """Return log p(u) of each row."""
        return point.log_prior

    def tensors(self) -> list[Tensor]:
        """Return nothing: the prior's data are the density's."""
        return []

    def with_tensors(self, tensors: Sequence[Tensor]) -> PriorProposal:
        """Return the prior itself."""
        return self


class GuideProposal:
    """An amortised guide whose density can be evaluated.

    Args:
        pair: model and guide.
        density: of the rows.
    """

    def __init__(self, pair: BoundModel, density: RowDensity) -> None:
        self.pair, self.density = pair, density
        self.arguments = density.arguments

    def sample(self) -> Tensor:
        """Return one draw of each row."""
        with torch.no_grad():
            draw, _ = self.pair.draw_guide(self.arguments)
            return self.density.flatten(draw)

    def log_prob(self, point: Point) -> Tensor:
        """Return log q(u|x) of each row."""
        log_q = self.pair.guide_density(point.draw, self.arguments)
        if log_q is None:  # whoever made the proposal has seen that there is one
            raise ArgumentError("the guide draws helpers: it has no density of the latents alone")
        return log_q + point.volume

    def tensors(self) -> list[Tensor]:
        """Return the data."""
        return tensors_of(self.arguments)

    def with_tensors(self, tensors: Sequence[Tensor]) -> GuideProposal:
        """Return the proposal on other data."""
        other = copy.copy(self)
        other.arguments = with_tensors(self.arguments, tuple(tensors))
        return other
