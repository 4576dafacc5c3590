# SPDX-License-Identifier: Apache-2.0
"""A Normal for each data point, optimised freely: what a family can hold without an encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_idvae.infer.batches import take_rows
from pyro_idvae.infer.draws import Draw, Layout
from pyro_idvae.infer.rowwise.gradients import RowGradient, row_gradients
from pyro_idvae.infer.rowwise.rows import RowDensity, silent
from pyro_idvae.infer.rowwise.starts import closed_form_start


class FreeNormal:
    r"""q_i(u) = N(m_i, L_iL_iᵀ) for the unconstrained latents of each row i.

    Maximises each row's ELBO by Adam, with :math:`\nabla_m = \mathbb E\,g` and
    :math:`\nabla_L = \mathbb E\,g\varepsilon^\top + L^{-\top}` from reparametrised draws
    u = m + Lε, where g = ∇ log p(x, u).

    Args:
        layout: a model that factorises over its data plate.
        draws: draws of the exact posterior; their moments are where the search begins, unless the
            likelihood is injective and has a Laplace approximation in closed form.
        full: whether L is triangular, or diagonal.
        num_steps: Adam steps.
        num_particles: pairs of draws ±ε a step.
    """

    def __init__(
        self,
        layout: Layout,
        draws: Draw,
        *,
        full: bool,
        num_steps: int = 300,
        num_particles: int = 4,
    ) -> None:
        self.layout, self.full = layout, full
        with silent(layout):
            self.whole = RowDensity(layout, layout.arguments)
            self.loc, self.factor = self._start(draws)
            copies = torch.arange(layout.rows).repeat(2 * num_particles)
            wide = RowDensity(layout, take_rows(layout.arguments, copies))
            (target,) = row_gradients([wide])
            for step in range(num_steps):
                # The step length falls to 0 like a cosine: the end does not jump with its noise.
                rate = 0.05 * 0.5 * (1 + math.cos(math.pi * step / num_steps))
                self._step(target, num_particles, step + 1, rate)

    def _start(self, draws: Draw) -> tuple[Tensor, Tensor]:
        start = closed_form_start(self.layout)
        if start is None:
            flat = {name: value.flatten(0, 1) for name, value in draws.items()}
            u = torch.stack(
                [
                    self.whole.flatten({name: value[i] for name, value in flat.items()})
                    for i in range(len(next(iter(flat.values()))))
                ]
            )
            centred = u - u.mean(0)
            covariance = torch.einsum("sni,snj->nij", centred, centred) / len(u)
            ridge = 1e-4 * covariance.diagonal(dim1=-2, dim2=-1) + torch.finfo(u.dtype).eps
            start = u.mean(0), covariance + torch.diag_embed(ridge)
        else:
            start = start[0][0], start[1]
        loc, covariance = start
        if not self.full:
            # A factorised Normal fits the conditional widths, not the marginal ones.
            precision = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)
            covariance = torch.diag_embed(1 / precision)
        factor: Tensor = torch.linalg.cholesky(covariance)
        self.scale = factor.diagonal(dim1=-2, dim2=-1).clone()
        self.moments = [torch.zeros_like(loc), torch.zeros_like(loc)]
        self.factor_moments = [torch.zeros_like(factor), torch.zeros_like(factor)]
        return loc, factor

    def _step(self, target: RowGradient, particles: int, count: int, rate: float) -> None:
        rows, dim = self.loc.shape
        half = torch.randn(particles, rows, dim, dtype=self.loc.dtype, device=self.loc.device)
        noise = torch.cat([half, -half])
        u = self.loc + (self.factor @ noise.unsqueeze(-1)).squeeze(-1)
        gradient = target(u.flatten(0, 1))[1].nan_to_num().unflatten(0, (2 * particles, rows))
        of_loc = gradient.mean(0)
        of_factor = torch.einsum("sni,snj->nij", gradient, noise) / (2 * particles)
        diagonal = self.factor.diagonal(dim1=-2, dim2=-1)
        of_factor = of_factor + torch.diag_embed(1 / diagonal)
        of_factor = of_factor.tril() if self.full else of_factor * torch.eye(dim).to(of_factor)
        # In units of the first scales: one step length suits all rows and latents.
        unit = self.scale
        self.loc = self.loc + rate * unit * _adam(self.moments, of_loc * unit, count)
        wide = unit.unsqueeze(-1)
        move = rate * wide * _adam(self.factor_moments, of_factor * wide, count)
        factor = self.factor + move
        smallest = 0.5 * diagonal
        fixed = torch.maximum(factor.diagonal(dim1=-2, dim2=-1), smallest)
        self.factor = factor - torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1) - fixed)

    def sample(self, num_samples: int) -> tuple[Draw, Tensor]:
        """Return draws of shape ``(1, num_samples) + site shape``, and log q of each row."""
        noise = torch.randn(num_samples, *self.loc.shape).to(self.loc)
        u = self.loc + (self.factor @ noise.unsqueeze(-1)).squeeze(-1)
        draw, volume = self.whole.constrain(u)
        log_q = -0.5 * noise.square().sum(-1) - 0.5 * u.shape[-1] * math.log(2 * math.pi)
        log_q = log_q - self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - volume
        return {name: value.unsqueeze(0) for name, value in draw.items()}, log_q.unsqueeze(0)


def _adam(moments: list[Tensor], gradient: Tensor, count: int) -> Tensor:
    """Return Adam's direction for an ascent, and keep its moments."""
    first, second = moments
    first.mul_(0.9).add_(gradient, alpha=0.1)
    second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
    direction: Tensor = (first / (1 - 0.9**count)) / ((second / (1 - 0.99**count)).sqrt() + 1e-12)
    return direction
