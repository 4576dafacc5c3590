# SPDX-License-Identifier: Apache-2.0
"""A Normal for each data point, optimised freely: what a family can hold without an encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_idvae.infer.draws import flat
from pyro_idvae.infer.rowwise.gradients import RowGradient, row_gradient
from pyro_idvae.infer.rowwise.starts import closed_form_start
from pyro_idvae.programs.arguments import repeat_rows
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import silent


class FreeNormal:
    r"""q_i(u) = N(m_i, L_iL_iᵀ) for the unconstrained latents of each row i.

    Maximises each row's ELBO by Adam, with :math:`\nabla_m = \mathbb E\,g` and
    :math:`\nabla_L = \mathbb E\,g\varepsilon^\top + L^{-\top}` from reparametrised draws
    u = m + Lε, where g = ∇ log p(x, u).

    Args:
        bound: a model that factorises over its data plate.
        draws: draws of the exact posterior; their moments are where the search begins, unless the
            likelihood is injective and has a Laplace approximation in closed form.
        full: whether L is triangular, or diagonal.
        num_steps: Adam steps.
        num_particles: pairs of draws ±ε a step.
    """

    def __init__(
        self,
        bound: BoundModel,
        draws: Values,
        *,
        full: bool,
        num_steps: int = 300,
        num_particles: int = 4,
    ) -> None:
        self.bound, self.full = bound, full
        with silent(bound.model):
            self.whole = RowDensity(bound)
            self.loc, self.factor = self._start(draws)
            wide = RowDensity(bound, repeat_rows(bound.arguments, 2 * num_particles))
            target = row_gradient(wide)
            # In units of the first scales, one step length suits all rows and latents. It falls to
            # 0 like a cosine: the end does not jump with its noise.
            unit = self.factor.diagonal(dim1=-2, dim2=-1).clone()
            scaled = [self.loc / unit, self.factor / unit.unsqueeze(-1)]
            optimizer = torch.optim.Adam(scaled, lr=0.05, betas=(0.9, 0.99), eps=1e-12)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
            for _ in range(num_steps):
                before = self.factor.diagonal(dim1=-2, dim2=-1)
                of_loc, of_factor = self._gradients(target, num_particles)
                scaled[0].grad, scaled[1].grad = -of_loc * unit, -of_factor * unit.unsqueeze(-1)
                optimizer.step()
                schedule.step()
                self.loc, self.factor = scaled[0] * unit, scaled[1] * unit.unsqueeze(-1)
                # No scale more than halves in a step: it must stay positive.
                after = self.factor.diagonal(dim1=-2, dim2=-1)
                lifted = torch.diag_embed((0.5 * before - after).clamp_min(0.0))
                self.factor = self.factor + lifted
                scaled[1].add_(lifted / unit.unsqueeze(-1))

    def _start(self, draws: Values) -> tuple[Tensor, Tensor]:
        start = closed_form_start(self.bound)
        if start is None:
            u = self.whole.flatten(flat(draws), 1)
            centred = u - u.mean(0)
            covariance = torch.einsum("sni,snj->nij", centred, centred) / len(u)
            ridge = 1e-4 * covariance.diagonal(dim1=-2, dim2=-1) + torch.finfo(u.dtype).eps
            start = u.mean(0), covariance + torch.diag_embed(ridge)
        loc, covariance = start
        if not self.full:
            # A factorised Normal fits the conditional widths, not the marginal ones.
            precision = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)
            covariance = torch.diag_embed(1 / precision)
        return loc, torch.linalg.cholesky(covariance)

    def _gradients(self, target: RowGradient, particles: int) -> tuple[Tensor, Tensor]:
        """Return the gradients of the ELBO with respect to m and L."""
        rows, dim = self.loc.shape
        half = torch.randn(particles, rows, dim, dtype=self.loc.dtype, device=self.loc.device)
        noise = torch.cat([half, -half])
        u = self.loc + (self.factor @ noise.unsqueeze(-1)).squeeze(-1)
        gradient = target(u.flatten(0, 1))[1].nan_to_num().unflatten(0, (2 * particles, rows))
        of_factor = torch.einsum("sni,snj->nij", gradient, noise) / (2 * particles)
        of_factor = of_factor + torch.diag_embed(1 / self.factor.diagonal(dim1=-2, dim2=-1))
        kept = of_factor.tril() if self.full else of_factor * torch.eye(dim).to(of_factor)
        return gradient.mean(0), kept

    @torch.no_grad()
    def log_prob(self, draws: Values) -> Tensor:
        """Return log q of draws with one leading dimension, of shape ``(draws, rows)``."""
        u = self.whole.flatten(draws, 1)
        normal = torch.distributions.MultivariateNormal(self.loc, scale_tril=self.factor)
        log_q: Tensor = normal.log_prob(u) - self.whole.constrain(u)[1]
        return log_q

    def sample(self, num_samples: int) -> tuple[Values, Tensor]:
        """Return draws of shape ``(1, num_samples) + site shape``, and log q of each row."""
        noise = torch.randn(num_samples, *self.loc.shape).to(self.loc)
        u = self.loc + (self.factor @ noise.unsqueeze(-1)).squeeze(-1)
        draw, volume = self.whole.constrain(u)
        log_q = -0.5 * noise.square().sum(-1) - 0.5 * u.shape[-1] * math.log(2 * math.pi)
        log_q = log_q - self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - volume
        return {name: value.unsqueeze(0) for name, value in draw.items()}, log_q.unsqueeze(0)
