# SPDX-License-Identifier: Apache-2.0
"""A guide's own family, freely optimised for each data point: what it holds without an encoder."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pyro_idvae.diagnostics.autopsy.freed import FreedDistribution, components_of
from pyro_idvae.infer.draws import flat
from pyro_idvae.infer.rowwise.gradients import row_gradient
from pyro_idvae.programs.arguments import repeat_rows
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import silent

TAUGHT = 16
"""Exact draws of each row in a step that teaches."""


class FreeSites:
    """q_i(z) in the family of the guide's sites, their arguments free for each row i.

    First taught from exact draws, so that no mode is missed, then each row's ELBO is maximised from
    there by Adam, with reparametrised draws; a mixture's ELBO is summed over its components.

    Args:
        bound: model and guide on their data.
        alone: the model alone, known to factorise.
        draws: draws of the exact posterior, of shape ``(chain, draw) + site shape``.
        num_steps: steps of each kind.
        num_particles: draws a step.

    Raises:
        TypeError: for a family whose arguments cannot be freed.
    """

    def __init__(
        self,
        bound: BoundModel,
        alone: BoundModel,
        draws: Values,
        *,
        num_steps: int = 300,
        num_particles: int = 8,
    ) -> None:
        self.bound = alone
        self.sites = nn.ModuleDict(
            {
                f"site_{k}": FreedDistribution(bound.guide_trace.nodes[name]["fn"])
                for k, name in enumerate(alone.latents)
            }
        )
        self.note = ""
        exact = flat(draws)
        self._teach(exact, num_steps)
        self._try_spread(exact, num_steps)
        if not all(self._can_be_drawn(fn) for fn in self.distributions().values()):
            self.note = "the free q was taught from exact draws only: its family has no gradients"
            return
        with silent(alone.model):
            self._climb(num_steps, num_particles)

    def distributions(self) -> dict[str, Any]:
        """Return the distributions of the sites as they are now."""
        return {name: self.sites[f"site_{k}"]() for k, name in enumerate(self.bound.latents)}

    def log_prob(self, draws: Values) -> Tensor:
        """Return log q of draws with one leading dimension, of shape ``(draws, rows)``."""
        parts = []
        for name, fn in self.distributions().items():
            density = fn.log_prob(draws[name])
            dim: Any = self.bound.frame_dim(self.bound.trace.nodes[name])
            moved = density.movedim(dim, 1)
            parts.append(moved.flatten(2).sum(-1) if moved.dim() > 2 else moved)
        return torch.stack(parts).sum(0)

    def _can_be_drawn(self, fn: Any) -> bool:
        mixture = components_of(fn)
        if mixture is None:
            return bool(fn.has_rsample)
        # Summed over components only where a row has one mixture, not one for each coordinate.
        one = len(self.bound.latents) == 1 and mixture[0].dim() == 2
        return one and bool(mixture[1].has_rsample)

    def _try_spread(self, draws: Values, num_steps: int) -> None:
        """Teach mixtures again from components far apart; keep what tells more."""
        before = copy.deepcopy(self.sites.state_dict())
        kept = {name: value[:: max(1, len(value) // 100)] for name, value in draws.items()}
        with torch.no_grad():
            told = self.log_prob(kept).mean()
        moved = []
        for k, name in enumerate(self.bound.latents):
            site: Any = self.sites[f"site_{k}"]
            moved.append(site.spread(draws[name].detach()))
        if any(moved):
            self._teach(draws, num_steps)
            if not bool(self.log_prob(kept).mean() > told):
                self.sites.load_state_dict(before)

    def _teach(self, draws: Values, num_steps: int) -> None:
        count = len(next(iter(draws.values())))
        for _ in self._steps(num_steps, 0.05):
            index = torch.randint(count, (min(TAUGHT, count),))
            loss = -self.log_prob({n: v[index.to(v.device)] for n, v in draws.items()}).mean(0)
            loss.sum().backward()

    def _climb(self, num_steps: int, num_particles: int) -> None:
        density = RowDensity(self.bound)
        number = len(self._draw(num_particles)[1])
        wide = RowDensity(self.bound, repeat_rows(self.bound.arguments, number))
        target = row_gradient(wide)
        for _ in self._steps(num_steps, 0.03):
            drawn, weights = self._draw(num_particles)
            u = density.flatten(drawn, 1)
            # log p(x, u) enters by its gradient at the draws.
            height, gradient = target(u.detach().flatten(0, 1))
            gradient = gradient.nan_to_num().unflatten(0, u.shape[:2])
            height = height.nan_to_num().unflatten(0, u.shape[:2])
            _, volume = density.constrain(u)
            elbo = (gradient * (u - u.detach())).sum(-1) + height - volume
            elbo = (weights * (elbo - self.log_prob(drawn))).sum(0)
            (-elbo.sum()).backward()

    def _draw(self, num_particles: int) -> tuple[Values, Tensor]:
        """Return reparametrised draws and their weights, of shape ``(draws, rows)``."""
        fns = self.distributions()
        if len(fns) == 1:
            ((name, fn),) = fns.items()
            mixture = components_of(fn)
            if mixture is not None:
                log_weights, components = mixture
                each = components.rsample((num_particles,))
                value = each.movedim(2, 1).flatten(0, 1)
                weights = log_weights.exp().mT.repeat(num_particles, 1) / num_particles
                return {name: value}, weights
        drawn = {name: fn.rsample((num_particles,)) for name, fn in fns.items()}
        rows = torch.full((num_particles, self.bound.rows), 1.0 / num_particles)
        return drawn, rows.to(next(iter(drawn.values())))

    def _steps(self, num_steps: int, learning_rate: float) -> Any:
        parameters = [p for p in self.sites.parameters() if p.requires_grad]
        # Each row has its own arguments: a norm over all of them would say nothing.
        optimizer = torch.optim.Adam(parameters, lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        for step in range(num_steps):
            optimizer.zero_grad()
            yield step
            for p in parameters:
                if p.grad is not None:
                    p.grad.nan_to_num_(0.0, 0.0, 0.0)
            optimizer.step()
            schedule.step()

    @torch.no_grad()
    def sample(self, num_samples: int) -> tuple[Values, Tensor]:
        """Return draws of shape ``(1, num_samples) + site shape``, and log q of each row."""
        drawn = {name: fn.sample((num_samples,)) for name, fn in self.distributions().items()}
        log_q = self.log_prob(drawn)
        return {name: value.unsqueeze(0) for name, value in drawn.items()}, log_q.unsqueeze(0)
