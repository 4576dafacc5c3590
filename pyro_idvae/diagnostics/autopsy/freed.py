# SPDX-License-Identifier: Apache-2.0
"""A distribution whose arguments are free for each data point."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import transform_to

from pyro_idvae.programs.sites import unwrap_masks

REDUNDANT = {"probs": "logits", "covariance_matrix": "scale_tril", "precision_matrix": "scale_tril"}
"""Arguments that say what another one says."""

LOCATIONS = (("loc", "scale"), ("locs", "coord_scale"))
"""Arguments of the components that are moved."""


class FreedDistribution(nn.Module):
    """A distribution of the family of another, each row's arguments its own parameters.

    The base of a transformed distribution and the components of a mixture are freed likewise;
    transforms that are modules are copied, and trained for all rows together.

    Args:
        distribution: of a guide's site, expanded over its plates.

    Raises:
        TypeError: for a family that cannot be freed.
    """

    def __init__(self, distribution: Any) -> None:
        super().__init__()
        base = unwrap_masks(distribution)
        self.event_dim = len(distribution.event_shape) - len(base.event_shape)
        self.parts = nn.ModuleDict()
        self.raw = nn.ParameterDict()
        self.fixed: dict[str, Any] = {}
        self.supports: dict[str, Any] = {}
        self.transforms = nn.ModuleList()
        whole = torch.Size(distribution.batch_shape + distribution.event_shape)
        self.batch_shape = whole[: len(whole) - len(base.event_shape)]
        if base.batch_shape != self.batch_shape:
            base = unwrap_masks(base.expand(self.batch_shape))
        self.kind: Any = type(base)
        if isinstance(base, dist.TransformedDistribution):
            self.kind = dist.TransformedDistribution
            self.parts["base"] = FreedDistribution(base.base_dist)
            self.order: list[Any] = []
            for transform in base.transforms:
                if isinstance(transform, nn.Module):
                    self.transforms.append(copy.deepcopy(transform))
                    self.order.append(None)
                else:
                    self.order.append(transform)
        elif isinstance(base, dist.MixtureSameFamily):
            self.parts["mixture"] = FreedDistribution(base.mixture_distribution)
            self.parts["components"] = FreedDistribution(base.component_distribution)
        else:
            self._free(base)

    def _free(self, base: Any) -> None:
        known = base.arg_constraints
        names = [n for n in inspect.signature(type(base).__init__).parameters if n in known]
        names = [n for n in names if REDUNDANT.get(n) not in names]
        if not names:
            raise TypeError(f"a {type(base).__name__} has no arguments to free")
        for name in names:
            value, constraint = getattr(base, name), known[name]
            if not torch.is_tensor(value) or constraint.is_discrete:
                self.fixed[name] = value
                continue
            if value.dim() < len(self.batch_shape):
                value = value.expand(self.batch_shape)
            self.supports[name] = transform_to(constraint)
            free = self.supports[name].inv(value.detach().clone())
            self.raw[name] = nn.Parameter(free.contiguous())

    @torch.no_grad()
    def spread(self, draws: Tensor) -> bool:
        """Put a mixture's components where draws of each row are far from one another.

        From where a guide has them, components may never reach a mode.

        Args:
            draws: of shape ``(draws, rows)`` or ``(draws, rows, K)``.

        Returns:
            Whether this is a mixture of one component list a row, with locations and scales.
        """
        # A module dictionary has no get.
        mixture = "components" in self.parts
        inner: Any = self.parts["components"] if mixture else self
        names = next((n for n in LOCATIONS if all(k in inner.raw for k in n)), None)
        if names is None or not (mixture or self.kind is dist.MixtureOfDiagNormals):
            return False
        loc, scale = names
        shape = inner.raw[loc].shape
        points = draws if len(shape) == 3 else draws.unsqueeze(-1)
        if shape[0] != points.shape[1] or shape[2:] not in (points.shape[2:], torch.Size([])):
            return False
        chosen = [points[0]]
        for _ in range(1, shape[1]):
            gaps = torch.stack([(points - c).square().sum(-1) for c in chosen]).amin(0)
            place = gaps.argmax(0)[None, :, None].expand(1, *points.shape[1:])
            chosen.append(points.gather(0, place)[0])
        centres = torch.stack(chosen, 1)
        width = (points.std(0) / shape[1]).unsqueeze(1).expand_as(centres)
        inner.raw[loc].copy_(centres.reshape(shape))
        inner.raw[scale].copy_(inner.supports[scale].inv(width.clamp_min(1e-6)).reshape(shape))
        return True

    def forward(self) -> Any:
        """Return the distribution with its arguments as they are now."""
        if self.kind is dist.TransformedDistribution:
            modules = iter(self.transforms)
            transforms = [next(modules) if t is None else t for t in self.order]
            found = dist.TransformedDistribution(self.parts["base"](), transforms)
        elif "mixture" in self.parts:
            found = dist.MixtureSameFamily(self.parts["mixture"](), self.parts["components"]())
        else:
            free = {name: self.supports[name](raw) for name, raw in self.raw.items()}
            found = self.kind(**free, **self.fixed)
        return found.to_event(self.event_dim) if self.event_dim else found


def components_of(distribution: Any) -> tuple[Tensor, Any] | None:
    """Return log weights and components of a mixture; None for another distribution."""
    base = unwrap_masks(distribution)
    if isinstance(base, dist.MixtureSameFamily):
        weights = base.mixture_distribution.logits
        return weights.log_softmax(-1), base.component_distribution
    if isinstance(base, dist.MixtureOfDiagNormals):
        normal = dist.Normal(base.locs, base.coord_scale).to_event(1)
        return base.component_logits.log_softmax(-1), normal
    return None
