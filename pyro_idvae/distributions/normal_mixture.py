# SPDX-License-Identifier: Apache-2.0
"""Mixtures of diagonal Normals that draw samples of any shape."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

Parent: Any = dist.MixtureOfDiagNormals


class NormalMixture(Parent):  # type: ignore[misc]
    """Pyro's ``MixtureOfDiagNormals``, for any ``sample_shape`` and for one dimension too.

    In one dimension there are no pathwise derivatives of samples.

    Args:
        locs: means of the components, of shape ``batch + (C, K)``.
        coord_scale: their standard deviations, likewise.
        component_logits: of shape ``batch + (C,)``.
    """

    def __init__(self, locs: Tensor, coord_scale: Tensor, component_logits: Tensor) -> None:
        super().__init__(locs, coord_scale, component_logits)
        if locs.shape[-1] == 1:
            self.has_rsample = False

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Return the same mixtures in a larger batch."""
        new = super().expand(batch_shape, self.__new__(type(self)))
        new.has_rsample = self.has_rsample
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw without derivatives."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw with pathwise derivatives."""
        shape = torch.Size(sample_shape)
        if not shape:
            found: Tensor = super().rsample()
            return found
        # The parent's takes samples of one mixture only.
        drawn: Tensor = self.expand(shape + self.batch_shape).rsample()
        return drawn
