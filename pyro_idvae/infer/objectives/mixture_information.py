# SPDX-License-Identifier: Apache-2.0
"""Information about the row in a guide's draws, on the mixture of all rows given."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.kl import is_local
from pyro_idvae.infer.objectives.normals import normal_of
from pyro_idvae.programs.sites import latent_sites

DRAWS = 2000
"""Of all rows together, at least."""
AT_ONCE = 256


@torch.no_grad()
def mixture_information(guide_trace: Any, needed_by: str) -> tuple[float, int]:
    r"""Estimate the information about the row in a guide's draws, in nats.

    .. math:: I_q = \frac1N\sum_i\mathbb E_{q(z|x_i)}\Bigl[\log q(z|x_i)
        - \log\frac1N\sum_j q(z|x_j)\Bigr] \le \log N

    Args:
        guide_trace: a run of the guide on N rows; its latents in plates are to be Normals.
        needed_by: what messages say wants this.

    Returns:
        The information, and N.

    Raises:
        ArgumentError: for latents that are no independent Normals.
    """
    parts: list[tuple[Tensor, Tensor]] = []
    for name, site in latent_sites(guide_trace).items():
        if is_local(site):
            loc, scale, dims = normal_of(name, site["fn"], needed_by)
            rows = loc.shape[: loc.dim() - dims].numel()
            parts.append((loc.reshape(rows, -1), scale.reshape(rows, -1)))
    if len({len(loc) for loc, _ in parts}) != 1:
        raise ArgumentError(
            f"the guide draws its latents in no plate, or in plates of different rows: {needed_by} "
            "has no rows to tell apart; put them into pyro.plate('data', n)"
        )
    loc, scale = (torch.cat(part, -1) for part in zip(*parts, strict=True))
    rows = len(loc)
    total = 0.0
    times = math.ceil(DRAWS / rows)
    for _ in range(times):
        z = loc + scale * torch.randn_like(loc)
        for first in range(0, rows, AT_ONCE):
            here = slice(first, first + AT_ONCE)
            mixture = _log_density(z[here].unsqueeze(1), loc, scale).logsumexp(-1)
            own = _log_density(z[here], loc[here], scale[here])
            total += float((own - mixture).sum())
    return total / (times * rows) + math.log(rows), rows


def _log_density(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Return the log density of Normals, without its constant."""
    return -(0.5 * ((z - loc) / scale).square() + scale.log()).sum(-1)
