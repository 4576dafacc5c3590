# SPDX-License-Identifier: Apache-2.0
"""Guides whose sites are Normals: their means and scales, and guides with others in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.kl import unwrapped
from pyro_idvae.programs.run import Program

Change = Callable[[str, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(site, mean, scale, number of event dimensions) → mean and scale."""


def normal_of(name: str, distribution: Any, needed_by: str) -> tuple[Tensor, Tensor, int]:
    """Return mean and scale of a site with independent Normal coordinates, and its event dims.

    Raises:
        ArgumentError: for any other distribution.
    """
    base, dims = unwrapped(distribution)
    if not isinstance(base, dist.Normal):
        raise ArgumentError(
            f"the guide draws the site {name!r} from a {type(base).__name__}: {needed_by} is for "
            "guides that draw independent Normals, dist.Normal(loc, scale).to_event(1)"
        )
    return base.loc, base.scale, dims


def rebuilt(distribution: Any, loc: Tensor, scale: Tensor) -> Any:
    """Return a Normal of the same kind and event dimensions with another mean and scale."""
    base, dims = unwrapped(distribution)
    normal = type(base)(loc, scale)
    return normal.to_event(dims) if dims else normal


def is_drawn(site: Any) -> bool:
    """Tell whether a site is a latent that the guide draws."""
    return not site["is_observed"] and not _upstream.is_subsampling(site)


def reshaped(guide: Program, change: Change, needed_by: str) -> Program:
    """Return a guide whose Normals have other means and scales.

    Args:
        guide: the guide.
        change: gives them.
        needed_by: what messages say wants this.
    """

    def replace(msg: Any) -> None:
        if is_drawn(msg):
            normal = normal_of(msg["name"], msg["fn"], needed_by)
            msg["fn"] = rebuilt(msg["fn"], *change(msg["name"], *normal))

    program: Program = _upstream.Handler(sample=replace)(guide)
    return program


class ReshapedGuide(nn.Module):
    """A guide whose Normals have other means and scales, as a guide to draw from.

    Args:
        guide: the guide.
        change: gives them.
        needed_by: what messages say wants this.
    """

    def __init__(self, guide: Program, change: Change, needed_by: str) -> None:
        super().__init__()
        self.guide = guide
        self.change, self.needed_by = change, needed_by

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide."""
        return reshaped(self.guide, self.change, self.needed_by)(*args, **kwargs)
