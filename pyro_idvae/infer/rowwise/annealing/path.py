# SPDX-License-Identifier: Apache-2.0
"""Both ends of a path of densities: the proposal and the joint density."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_idvae.infer.rowwise.annealing.proposals import Point, Proposal
from pyro_idvae.programs.row_density import RowDensity


class Path:
    r"""log q(u) and log p(x, u) of each row, with their gradients.

    Between them lie the densities :math:`\pi_t \propto q^{1-t}\,p^t`.

    Args:
        density: log p(x, u).
        proposal: log q(u).
    """

    def __init__(self, density: RowDensity, proposal: Proposal) -> None:
        self.density, self.proposal = density, proposal

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return log densities of shape ``(2, rows)`` and gradients of ``(2, rows, dim)``."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            both = torch.stack(self.log_densities(u))
            gradients = [torch.autograd.grad(one.sum(), u, retain_graph=True)[0] for one in both]
        return both.detach(), torch.stack(gradients)

    def log_densities(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return log q(u) and log p(x, u) of each row."""
        density = self.density
        draw, volume = density.constrain(u)
        likelihood, prior = density.bound.log_densities(draw, density.arguments)
        # What is outside the data plate is one number for all rows: none of theirs.
        own, scored = (
            [term for term in side.values() if term.dim()] for side in (prior, likelihood)
        )
        log_prior = torch.stack([volume, *own]).sum(0)
        log_q = self.proposal.log_prob(Point(u, draw, log_prior, volume))
        return log_q, torch.stack([log_prior, *scored]).sum(0)

    def sample(self) -> Tensor:
        """Return a draw of the proposal, of shape ``(rows, dim)``."""
        return self.proposal.sample()

    def example(self) -> Tensor:
        """Return unconstrained latents of a run."""
        return self.density.example()

    def tensors(self) -> list[Tensor]:
        """Return the data, and what the proposal has of each row."""
        return [*self.density.tensors(), *self.proposal.tensors()]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Path:
        """Return the path of other rows."""
        other = copy.copy(self)
        own = len(self.density.tensors())
        other.density = self.density.with_tensors(tensors[:own])
        other.proposal = self.proposal.with_tensors(tensors[own:])
        return other
