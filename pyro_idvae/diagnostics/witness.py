# SPDX-License-Identifier: Apache-2.0
"""Two latent values that a decoder can hardly tell apart: a witness against identifiability."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.distributions import Likelihood
from pyro_idvae.errors import ArgumentError


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


def find_witness(
    likelihood: Likelihood,
    *,
    radius: float | None = None,
    min_separation: float = 0.5,
    num_starts: int = 512,
    num_steps: int = 200,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> Witness:
    r"""Search for z ≠ z' whose p(x|z) and p(x|z') are closest per unit of distance.

    Minimises :math:`\sqrt{8 D_B(z,z')}/|z-z'|` by gradient steps from many pairs of prior draws,
    inside a ball and at least ``min_separation`` apart. It is a search: a small ratio proves a weak
    direction, a large one proves nothing. For an injective likelihood with Normal noise no pair
    goes below its L.

    Args:
        likelihood: any likelihood whose family has a Bhattacharyya distance.
        radius: both values stay this near the origin; √K + 2 by default, where the prior's mass is.
        min_separation: pairs stay at least this far apart, below twice the radius.
        num_starts: pairs to start from.
        num_steps: Adam steps.
        learning_rate: of Adam.
        seed: seed of the starts.

    Returns:
        The best :class:`Witness` met.

    Raises:
        NoCertificateError: for families without a closed form of the distance.
        ArgumentError: for arguments out of range.

    Example:
        >>> import torch
        >>> from pyro_idvae import find_witness
        >>> from pyro_idvae.distributions import NeuralLikelihood, make_family
        >>> decoder = torch.nn.Linear(2, 5)
        >>> _ = decoder.weight.data[:, 1].zero_()
        >>> witness = find_witness(NeuralLikelihood(make_family("normal"), decoder))
        >>> witness.ratio < 0.01, [round(abs(float(v)), 2) for v in witness.direction]
        (True, [0.0, 1.0])
    """
    if not isinstance(likelihood, Likelihood):
        raise ArgumentError(f"likelihood is a {type(likelihood).__name__}: pass a Likelihood")
    dim = likelihood.latent_dim
    reach = dim**0.5 + 2 if radius is None else check_real("radius", radius, above=0.0)
    apart = check_real("min_separation", min_separation, above=0.0, below=2 * reach)
    check_count("num_starts", num_starts)
    check_count("num_steps", num_steps)
    check_real("learning_rate", learning_rate, above=0.0)
    # In double precision: near pairs have distances that float32 rounds to 0.
    likelihood = copy.deepcopy(likelihood).double()
    like = next(likelihood.parameters())
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, num_starts, dim, generator=generator).to(like).requires_grad_()
    optimizer = torch.optim.Adam([pair], lr=learning_rate)
    best: tuple[float, Tensor, float] | None = None
    for step in range(num_steps + 1):
        z, other = _admissible(pair, reach, apart)
        distance = likelihood.family.bhattacharyya(likelihood.eta(z), likelihood.eta(other))
        # Closed forms cancel to a few roundings below 0 where the two distributions are one.
        distance = distance.clamp_min(0.0)
        gap = (other - z).norm(dim=-1)
        with torch.no_grad():
            ratio = (8 * distance).sqrt() / gap
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
