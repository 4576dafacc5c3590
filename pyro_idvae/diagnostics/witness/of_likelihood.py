# SPDX-License-Identifier: Apache-2.0
"""Two latent values that a decoder can hardly tell apart."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_idvae.distributions import Likelihood
from pyro_idvae.errors import DataError
from pyro_idvae.programs.weights import check_weights, weights_of


@dataclass(frozen=True)
class Witness:
    """A pair of latent values and how far apart their distributions of x are.

    Attributes:
        z: one value, of shape ``(latent_dim,)``, in float64.
        other: the other.
        distance: Bhattacharyya distance of p(x|z) and p(x|z'), in nats.
        ratio: √(8·distance) / ‖z − z'‖: for Normal noise the stretch ‖f(z) − f(z')‖ / ‖z − z'‖ in
            units of the noise, and its counterpart for other families. Near 0: not identifiable.
    """

    z: Tensor
    other: Tensor
    distance: float
    ratio: float

    @property
    def direction(self) -> Tensor:
        """The unit vector from z to the other."""
        return torch.nn.functional.normalize(self.other - self.z, dim=-1)

    def __str__(self) -> str:
        length = (self.other - self.z).norm().item()
        return (
            f"two latent values {length:.3g} apart whose observations differ by "
            f"{self.distance:.3g} nats (Bhattacharyya): {self.ratio:.3g} noise scales a unit"
        )


def search(
    likelihood: Likelihood,
    *,
    reach: float,
    apart: float,
    num_starts: int,
    num_steps: int,
    learning_rate: float,
    seed: int,
) -> Witness:
    """Search as :func:`find_witness` says, for a likelihood."""
    check_weights("likelihood", weights_of(likelihood))
    dim = likelihood.latent_dim
    # In double precision: near pairs have distances that float32 rounds to 0.
    likelihood = copy.deepcopy(likelihood).double()
    like = next(likelihood.parameters(), torch.zeros((), dtype=torch.float64))
    family = likelihood.family
    # Of one draw, where an observation is of several.
    one = (like.new_ones(()),) if family.needs_total_count else ()
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, num_starts, dim, generator=generator).to(like).requires_grad_()
    optimizer = torch.optim.Adam([pair], lr=learning_rate)
    best: tuple[float, Tensor, float] | None = None
    for step in range(num_steps + 1):
        z, other = _admissible(pair, reach, apart)
        distance = family.bhattacharyya(likelihood.eta(z), likelihood.eta(other), *one)
        # Closed forms cancel to a few roundings below 0 where the two distributions are one.
        distance = distance.clamp_min(0.0)
        gap = (other - z).norm(dim=-1)
        with torch.no_grad():
            # A pair whose distributions overflow is no candidate.
            ratio = ((8 * distance).sqrt() / gap).nan_to_num(nan=math.inf, posinf=math.inf)
            index = int(ratio.argmin())
            if best is None or ratio[index].item() < best[0]:
                both = torch.stack([z[index], other[index]])
                best = ratio[index].item(), both, distance[index].item()
        if step == num_steps:
            break
        tiny = torch.finfo(like.dtype).eps
        loss = (distance + tiny).log().sum() - 2 * gap.log().sum()
        (pair.grad,) = torch.autograd.grad(loss, pair)
        optimizer.step()
    assert best is not None
    if not math.isfinite(best[0]):
        raise DataError(
            "no two latent values have a finite distance: the likelihood overflows wherever its "
            "prior has mass; lower its weights, or pass a smaller radius"
        )
    return Witness(best[1][0], best[1][1], distance=best[2], ratio=best[0])


def _admissible(pair: Tensor, reach: float, apart: float) -> tuple[Tensor, Tensor]:
    """Pull pairs into the ball, and push them apart around their middle if they are too near."""
    pair = pair * (reach / pair.norm(dim=-1, keepdim=True)).clamp_max(1.0)
    middle, half = pair.mean(0), 0.5 * (pair[1] - pair[0])
    length = half.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(pair.dtype).tiny)
    half = half * (0.5 * apart / length).clamp_min(1.0)
    # Pushing apart may leave the ball again: move the middle inwards by as much.
    room = (reach - half.norm(dim=-1, keepdim=True)).clamp_min(0.0)
    middle = middle * (room / middle.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
    return middle - half, middle + half
