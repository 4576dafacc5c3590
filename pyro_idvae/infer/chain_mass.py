# SPDX-License-Identifier: Apache-2.0
"""What share of the posterior each chain of a row stands for, where chains disagree."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_idvae._chains import LEAST_PER_CHAIN, RHAT_LIMIT, split_rhat
from pyro_idvae.arviz_io import pareto_k
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.infer.chain_density import KERNELS, ChainDensity
from pyro_idvae.infer.rowwise.annealing.annealer import Annealer
from pyro_idvae.infer.rowwise.annealing.modes import Modes
from pyro_idvae.infer.rowwise.annealing.sources import NormalSource
from pyro_idvae.programs.arguments import repeat_rows, take_rows, tensors_of
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import silent

NUM_PARTICLES = (200, 2000)
"""Particles for each chain of a row; the more for rows that the less are not enough for."""
NUM_ANNEALED, CONDITIONAL_ESS, NUM_STEPS = 256, 0.98, 4
"""Annealed particles of a row that no number of the others is enough for, the conditional effective
sample size from one of their temperatures to the next, and leapfrog steps at each."""
MOST_ANNEALED, LEAST_DRAWS = 100, 100
"""Rows, which take as long as some hundred iterations of a chain; and draws of a chain: of fewer
its mode is hardly known, and disagreement may be chance."""
LARGEST_K, LEAST_SIZE, LEAST_ANNEALED = 0.7, 100.0, 25.0
"""Weights with a heavier tail, or worth fewer particles, tell no masses; annealed ones may be
fewer."""
NUMBERS_AT_ONCE = 2**23
"""How many pairs of particles and kernels are held at once."""
PRODUCTS_AT_ONCE = 2**17
"""How many numbers, data and latents together, go into one run."""


class ChainMass(NamedTuple):
    """The masses of the modes that chains sit in."""

    mass: Tensor
    """Shares of shape ``(chain, rows)`` that sum to 1; NaN where they cannot be told."""
    size: Tensor
    """Independent draws that the shares are worth, of shape ``(rows,)``; infinite if equal."""

    def worth(self, total: int) -> Tensor:
        """Return how many of so many balanced draws of each row are no repetitions."""
        distinct = total / (len(self.mass) * self.mass.square().sum(0))
        return torch.minimum(distinct.nan_to_num(nan=float(total)), self.size)


@torch.no_grad()
def chain_mass(
    bound: BoundModel, values: Values, most_annealed: int = MOST_ANNEALED
) -> ChainMass | None:
    r"""Weigh the chains of each row in which they disagree, R-hat being above 1.05.

    From each chain's draws comes a density :math:`t_c` of the unconstrained latents, Student-t
    kernels around some of them; particles from the equal mixture :math:`\bar t` of all chains are
    weighted by the joint density, and

    .. math:: w_c \propto \mathbb E_{\bar t}\Bigl[\frac{p(x,u)}{\bar t(u)}\,
        \frac{t_c(u)}{\sum_d t_d(u)}\Bigr]

    is the mass of a mode, shared among the chains that sit in it. Rows with agreeing chains get
    equal shares. Where the weights have a tail index above .7, or are worth fewer than 100
    particles, others are annealed from a Normal for each chain of 100 draws or more to the joint
    density, and have the weights of their paths; a row of which these tell nothing either gets NaN.

    Args:
        bound: the model on its data.
        values: draws of shape ``(chain, draw) + site shape``.
        most_annealed: rows whose particles are annealed, at most.

    Returns:
        None for a single chain, or where rows have no density of their own.
    """
    chains, draws = next(iter(values.values())).shape[:2]
    if chains < 2 or draws < 2 * LEAST_PER_CHAIN:
        return None
    disagree = disagreeing_rows(bound, values)
    if disagree is None:
        return None
    like = next(iter(values.values()))
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    mass = torch.full((chains, bound.rows), 1.0 / chains, dtype=dtype, device=like.device)
    size = torch.full((bound.rows,), math.inf, dtype=dtype, device=like.device)
    rows = torch.as_tensor(np.flatnonzero(disagree), device=like.device)
    if len(rows):
        try:
            check_factorises(bound)
        except (ArgumentError, DataError):
            mass[:, rows], size[rows] = math.nan, 0.0
            return ChainMass(mass, size)
        with silent(bound.model):
            whole = RowDensity(bound)
            u, found = whole.flatten(values, 2), []
            step = max(1, NUMBERS_AT_ONCE // (chains * max(NUM_PARTICLES) * KERNELS))
            for part in rows.split(step):
                found.append(_settled(bound, u[:, :, part], part))
            shares = torch.cat([one for one, _ in found], 1)
            sizes = torch.cat([other for _, other in found])
            left = torch.nonzero(sizes == 0).squeeze(-1)[:most_annealed]
            if len(left) and draws >= LEAST_DRAWS:
                some = rows[left]
                shares[:, left], sizes[left] = _annealed(bound, u[:, :, some], some)
        mass[:, rows], size[rows] = shares.to(mass), sizes.to(size)
    return ChainMass(mass, size)


def disagreeing_rows(bound: BoundModel, values: Values) -> np.ndarray | None:
    """Return in which rows any latent has an R-hat above 1.05; None if a latent is not by rows."""
    found = np.zeros(bound.rows, dtype=bool)
    for name, value in values.items():
        place = bound.row_place(name)
        if place is None:
            return None
        by_row = value.movedim(2 + place, 2).cpu().double().numpy()
        by_row = by_row.reshape(*by_row.shape[:3], -1)
        found |= ~(split_rhat(by_row) <= RHAT_LIMIT).all(-1)
    return found


def _settled(bound: BoundModel, u: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return shares and sizes, with more particles where few do not tell."""
    few, many = NUM_PARTICLES
    shares, size = _weighed(bound, u, rows, few)
    again = torch.nonzero(~(size >= LEAST_SIZE)).squeeze(-1)
    if len(again):
        shares[:, again], size[again] = _weighed(bound, u[:, :, again], rows[again], many)
    return _known(shares, size, LEAST_SIZE)


def _known(shares: Tensor, size: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return shares and sizes, NaN and 0 where they are worth fewer particles."""
    unknown = ~(size >= least)
    return shares.masked_fill(unknown, math.nan), size.masked_fill(unknown, 0.0)


def _weighed(bound: BoundModel, u: Tensor, rows: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return shares (chain, rows) and sizes (rows,) from draws (chain, draw, rows, dim)."""
    density = ChainDensity.of(u)
    particles = density.sample(number)
    log_t = density.log_prob(particles)
    log_weights = _log_joint(bound, particles, rows) - log_t.logsumexp(0) + math.log(len(log_t))
    return _shares(log_weights, log_t)


def _annealed(bound: BoundModel, u: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same from particles that are annealed from Normals, one for each chain."""
    density = ChainDensity.of(u)
    loc, covariance = density.loc.transpose(0, 1).to(u), density.covariance.transpose(0, 1).to(u)
    alike = u.new_full(loc.shape[:2], -math.log(len(u)))
    annealer = Annealer(
        bound.on_rows(rows),
        NormalSource(Modes(alike, loc, covariance), words="Normals of chains", known=True),
        chains=NUM_ANNEALED,
        num_temperatures=None,
        conditional_ess=CONDITIONAL_ESS,
        num_steps=NUM_STEPS,
        num_posterior_draws=1,
        both=False,
    )
    done = list(annealer.run())
    ends = torch.cat([found.ends for found in done if found.ends is not None], 1).double()
    log_weights = torch.cat([found.log_weights for found in done], 1)
    return _known(*_shares(log_weights, density.log_prob(ends)), LEAST_ANNEALED)


def _shares(log_weights: Tensor, log_t: Tensor) -> tuple[Tensor, Tensor]:
    """Return shares (chain, rows) and sizes (rows,) from weighted particles.

    Args:
        log_weights: of shape ``(particles, rows)``.
        log_t: each chain's density of them, of shape ``(chain, particles, rows)``.
    """
    log_weights = torch.where(log_weights.isfinite(), log_weights, -math.inf)
    weights = (log_weights - log_weights.amax(0)).exp()
    shares = (weights * (log_t - log_t.logsumexp(0)).exp()).sum(1) / weights.sum(0)
    size = weights.sum(0).square() / weights.square().sum(0)
    k = torch.as_tensor(pareto_k(log_weights.mT.cpu().numpy()), device=log_weights.device)
    unknown = ~((k <= LARGEST_K) & shares.isfinite().all(0))
    return shares, torch.where(unknown, torch.zeros_like(size), size)


def _log_joint(bound: BoundModel, u: Tensor, rows: Tensor) -> Tensor:
    """Return log p(x, u) of particles ``(particles, rows, dim)``."""
    chosen = take_rows(bound.arguments, rows)
    like = next(iter(bound.values().values()))
    tensors = [*tensors_of(bound.arguments), *bound.values().values()]
    numbers = sum(t.numel() for t in tensors) * len(rows) // bound.rows
    step = max(1, PRODUCTS_AT_ONCE // max(numbers, 1))
    wide: RowDensity | None = None
    parts = []
    for piece in u.split(step):
        if wide is None or wide.rows != len(piece) * len(rows):
            wide = RowDensity(bound, repeat_rows(chosen, len(piece)))
        inside, _ = wide.terms(piece.flatten(0, 1).to(like))
        parts.append(torch.stack([*inside.values()]).sum(0).unflatten(0, (len(piece), -1)))
    return torch.cat(parts).double()
