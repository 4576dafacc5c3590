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
from pyro_idvae.programs.arguments import repeat_rows, take_rows, tensors_of
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.row_density import RowDensity
from pyro_idvae.programs.run import silent

NUM_PARTICLES = (200, 2000)
"""Particles for each chain of a row; the more for rows that the less are not enough for."""
WIDE = 1.7
"""Of the wider kernels, in standard deviations of a chain's draws."""
KERNELS, DEGREES = 100, 5.0
"""Draws of a chain that a proposal is centred on, and its degrees of freedom: tails heavier than a
mode's."""
LARGEST_K, LEAST_SIZE = 0.7, 100.0
"""Weights with a heavier tail, or worth fewer particles, tell no masses."""
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
def chain_mass(bound: BoundModel, values: Values) -> ChainMass | None:
    r"""Weigh the chains of each row in which they disagree, R-hat being above 1.05.

    From each chain's draws comes a density :math:`t_c` of the unconstrained latents, Student-t
    kernels around some of them; particles from the equal mixture :math:`\bar t` of all chains are
    weighted by the joint density, and

    .. math:: w_c \propto \mathbb E_{\bar t}\Bigl[\frac{p(x,u)}{\bar t(u)}\,
        \frac{t_c(u)}{\sum_d t_d(u)}\Bigr]

    is the mass of a mode, shared among the chains that sit in it. Rows with agreeing chains get
    equal shares. A row whose weights have a tail index above .7, or are worth fewer than 100
    particles, gets NaN.

    Args:
        bound: the model on its data.
        values: draws of shape ``(chain, draw) + site shape``.

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
        mass[:, rows] = torch.cat([one for one, _ in found], 1).to(mass)
        size[rows] = torch.cat([other for _, other in found]).to(size)
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
    shares, size = _masses(bound, u, rows, few)
    again = torch.nonzero(~(size >= LEAST_SIZE)).squeeze(-1)
    if len(again):
        shares[:, again], size[again] = _masses(bound, u[:, :, again], rows[again], many)
    unknown = ~(size >= LEAST_SIZE)
    shares[:, unknown], size[unknown] = math.nan, 0.0
    return shares, size


def _masses(bound: BoundModel, u: Tensor, rows: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return shares (chain, rows) and sizes (rows,) from draws (chain, draw, rows, dim)."""
    chains, draws, _, dim = u.shape
    u = u.double()
    loc = u.mean(1)
    centred = u - loc.unsqueeze(1)
    covariance = torch.einsum("csni,csnj->cnij", centred, centred) / draws
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    # A chain that hardly moved still gets a proposal of some width.
    floor = diagonal.amax(0, keepdim=True) * 1e-4 + torch.finfo(torch.float32).eps
    # Few draws know little of correlations.
    keep = draws / (draws + 2.0 * dim)
    covariance = keep * covariance + torch.diag_embed((1 - keep) * diagonal + floor)
    factor, _ = torch.linalg.cholesky_ex(covariance)
    # Kernels around draws follow a curved mode; with Scott's width they are as wide as it needs.
    centres = u[:, torch.linspace(0, draws - 1, min(KERNELS, draws)).long()]
    # Half of them are wider than all draws together: for what a chain has not reached.
    widths = (centres.shape[1] ** (-1.0 / (dim + 4)), WIDE)
    particles = torch.cat(
        [_kernel_draws(centres, h * factor, number // 2).flatten(0, 1) for h in widths]
    )
    each = [
        torch.stack([_log_kernels(particles, middle, h * root) for h in widths]).logsumexp(0)
        for middle, root in zip(centres, factor, strict=True)
    ]
    log_t = torch.stack(each) - math.log(len(widths))
    log_weights = _log_joint(bound, particles, rows) - log_t.logsumexp(0) + math.log(chains)
    log_weights = torch.where(log_weights.isfinite(), log_weights, -math.inf)
    weights = (log_weights - log_weights.amax(0)).exp()
    shares = (weights * (log_t - log_t.logsumexp(0)).exp()).sum(1) / weights.sum(0)
    size = weights.sum(0).square() / weights.square().sum(0)
    k = torch.as_tensor(pareto_k(log_weights.mT.cpu().numpy()), device=u.device)
    unknown = ~((k <= LARGEST_K) & shares.isfinite().all(0))
    return shares, torch.where(unknown, torch.zeros_like(size), size)


def _kernel_draws(centres: Tensor, factor: Tensor, number: int) -> Tensor:
    """Return as many draws from the kernels of each chain: ``(chain, number, rows, dim)``."""
    shape = (centres.shape[0], number, *centres.shape[2:])
    index = torch.randint(centres.shape[1], shape[:-1], device=centres.device)
    chosen = centres.gather(1, index.unsqueeze(-1).expand(shape))
    noise = torch.randn(shape, dtype=centres.dtype, device=centres.device)
    gamma = torch.distributions.Chi2(torch.full((), DEGREES).to(centres))
    stretch = (DEGREES / gamma.sample(shape[:-1])).sqrt()
    step = (factor.unsqueeze(1) @ noise.unsqueeze(-1)).squeeze(-1)
    return chosen + stretch.unsqueeze(-1) * step


def _log_kernels(u: Tensor, centres: Tensor, factor: Tensor) -> Tensor:
    """Return the log density of one chain's kernels, up to a constant: ``(particles, rows)``."""
    dim = u.shape[-1]
    inverse = torch.linalg.inv(factor)
    white, middle = ((inverse @ points.unsqueeze(-1)).squeeze(-1) for points in (u, centres))
    distance = torch.cdist(white.transpose(0, 1), middle.transpose(0, 1)).square()
    log_t = -0.5 * (DEGREES + dim) * torch.log1p(distance / DEGREES)
    volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    found: Tensor = log_t.logsumexp(-1).mT - math.log(len(centres)) - volume
    return found


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
