# SPDX-License-Identifier: Apache-2.0
"""The log density of a model, data point by data point, on unconstrained latents."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to

from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import Arguments, row_count, tensors_of, with_tensors
from pyro_idvae.programs.bound_model import BoundModel, Values
from pyro_idvae.programs.run import dry_run

ROUNDING = 500.0
"""Two evaluations of one density may differ by this many units of rounding."""


class RowDensity:
    """log p(x_i, z_i) of each row of some data, as a function of unconstrained latents.

    Discrete latents are summed out.

    Args:
        bound: the model.
        arguments: the rows, of any number; those the model is bound to, and the run it knows, if
            None.
    """

    def __init__(self, bound: BoundModel, arguments: Arguments | None = None) -> None:
        self.bound = bound
        self.arguments = bound.arguments if arguments is None else arguments
        self.rows = row_count(self.arguments)
        self.trace = bound.trace if arguments is None else self._run()
        self.transforms = {
            name: biject_to(self.trace.nodes[name]["fn"].support) for name in bound.latents
        }
        self.shapes = {
            name: self._split(name, self.transforms[name].inv(self.trace.nodes[name]["value"]))
            for name in bound.latents
        }
        self.sizes = {name: math.prod(tail) for name, (tail, _) in self.shapes.items()}
        self.dim = sum(self.sizes.values())

    def _run(self) -> Any:
        try:
            return dry_run(self.bound.model, None, self.arguments)[0]
        except (RuntimeError, ValueError, IndexError) as error:
            raise ArgumentError(
                f"the model runs on {self.bound.rows} rows but not on {self.rows} "
                f"({str(error).splitlines()[0]}): sampling rows side by side needs a model that "
                "takes its data from its arguments; use kernel='nuts'"
            ) from error

    def _split(self, name: str, value: Tensor) -> tuple[torch.Size, int]:
        """Return the shape of one row's value and the place of the rows in the whole."""
        dim = self.bound.frame_dim(self.trace.nodes[name])
        if dim is None:
            raise ArgumentError(
                f"the latent site {name!r} is not in the data plate: it is one for all rows, so "
                "they cannot be sampled side by side; use kernel='nuts'"
            )
        place = value.dim() + dim - self.transforms[name].domain.event_dim
        if place < 0 or value.shape[place] != self.rows:
            raise ArgumentError(
                f"the latent site {name!r} has shape {tuple(value.shape)}: expected {self.rows} "
                "rows; use kernel='nuts'"
            )
        return torch.Size([*value.shape[:place], *value.shape[place + 1 :]]), place

    def tensors(self) -> list[Tensor]:
        """Return all tensors among the data."""
        return tensors_of(self.arguments)

    def with_tensors(self, tensors: Sequence[Tensor]) -> RowDensity:
        """Return the density on other data of the same shapes, in the order of :meth:`tensors`."""
        other = copy.copy(self)
        other.arguments = with_tensors(self.arguments, tuple(tensors))
        return other

    def example(self) -> Tensor:
        """Return unconstrained latents of a run, of shape ``(rows, dim)``."""
        return self.flatten(self.values())

    def values(self) -> Values:
        """Return the latents of the run that found the shapes."""
        return {name: self.trace.nodes[name]["value"] for name in self.transforms}

    def flatten(self, draw: Values, lead: int = 0) -> Tensor:
        """Return unconstrained latents of shape ``lead + (rows, dim)``.

        Args:
            draw: values of shape ``lead`` + the site's.
            lead: how many dimensions these are.
        """
        parts = []
        for name, (_, place) in self.shapes.items():
            raw = self.transforms[name].inv(draw[name]).movedim(lead + place, lead)
            parts.append(raw.reshape(*raw.shape[: lead + 1], -1))
        return torch.cat(parts, -1)

    def constrain(self, u: Tensor) -> tuple[Values, Tensor]:
        """Return the latents of unconstrained ones, and log|det| of each row.

        Args:
            u: of shape ``lead + (rows, dim)``.

        Returns:
            Values of shape ``lead`` + the site's, and a tensor of ``lead + (rows,)``.
        """
        draw, volume, lead = {}, u.new_zeros(u.shape[:-1]), u.dim() - 2
        parts = u.split(list(self.sizes.values()), dim=-1)
        for part, (name, (tail, place)) in zip(parts, self.shapes.items(), strict=True):
            raw = part.unflatten(-1, tail) if tail else part.squeeze(-1)
            raw = raw.movedim(lead, lead + place)
            transform = self.transforms[name]
            draw[name] = transform(raw)
            ladj = transform.log_abs_det_jacobian(raw, draw[name])
            if torch.is_tensor(ladj):
                ladj = ladj.expand(raw.shape[: raw.dim() - transform.domain.event_dim])
                by_row = ladj.movedim(lead + place, lead)
                volume = volume + by_row.reshape(*volume.shape, -1).sum(-1)
        return draw, volume

    def terms(self, u: Tensor) -> tuple[Values, Values]:
        """Return log densities by site: of each row, and, outside the data plate, as one number.

        The volume of the transforms counts as a site of its own, without a name.
        """
        draw, volume = self.constrain(u)
        return self._by_place(volume, *self.bound.log_densities(draw, self.arguments))

    def own_terms(self) -> tuple[Values, Values]:
        """Return what :meth:`terms` says of :meth:`values`, without a run if there is one."""
        u = self.flatten(self.values())
        if self.bound.summed:
            return self.terms(u)
        self.trace.compute_log_prob()
        _, volume = self.constrain(u)
        return self._by_place(volume, *self.bound.by_site(self.trace, self.rows))

    def _by_place(self, volume: Tensor, *parts: Values) -> tuple[Values, Values]:
        terms = {name: value for part in parts for name, value in part.items()}
        outside = {name: value for name, value in terms.items() if not value.dim()}
        inside = {name: value for name, value in terms.items() if value.dim()}
        return {"": volume, **inside}, outside

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p of each row and its gradient, of shape ``(rows, dim)``."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            inside, _ = self.terms(u)
            total = torch.stack([*inside.values()]).sum(0)
            (gradient,) = torch.autograd.grad(total.sum(), u)
        return total.detach(), gradient


def is_same(one: Tensor, other: Tensor, rounding: float = ROUNDING) -> bool:
    """Tell whether two evaluations of one density differ by rounding alone.

    Args:
        one: log densities.
        other: others.
        rounding: units of rounding that they may differ by.
    """
    tolerance = rounding * torch.finfo(one.dtype).eps
    equal = (one == other) | (one.isnan() & other.isnan())
    return bool((equal | ((one - other).abs() <= tolerance * (1 + one.abs()))).all())
