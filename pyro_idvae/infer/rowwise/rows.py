# SPDX-License-Identifier: Apache-2.0
"""The log density of a model, data point by data point, on unconstrained latents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to

from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.infer.batches import Arguments, row_count, take_rows
from pyro_idvae.infer.draws import Draw, Layout
from pyro_idvae.infer.programs import dry_run, evaluating, frozen
from pyro_idvae.infer.sites import check_continuous, is_subsampling

NUM_PROBES = 4
"""Pairs of prior draws at which rows are moved."""
ROUNDING = 500.0
"""How many units of rounding two evaluations of one density may differ by."""


@contextmanager
def silent(layout: Layout) -> Iterator[None]:
    """Run the model with its parameters held constant, in evaluation mode, unvalidated."""
    with frozen(layout.model), evaluating(layout.model), pyro.validation_enabled(False):
        yield


class RowDensity:
    """log p(x_i, z_i) of each row of some data, as a function of unconstrained latents.

    Args:
        layout: the model, on data of any number of rows.
        arguments: the rows.
    """

    def __init__(self, layout: Layout, arguments: Arguments) -> None:
        self.layout, self.arguments = layout, arguments
        self.rows = row_count(arguments)
        try:
            self.trace, _ = dry_run(layout.model, None, arguments)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ArgumentError(
                f"the model runs on {layout.rows} rows but not on {self.rows} "
                f"({str(error).splitlines()[0]}): sampling rows side by side needs a model that "
                "takes its data from its arguments; use kernel='nuts'"
            ) from error
        self.transforms = {
            name: biject_to(self.trace.nodes[name]["fn"].support) for name in layout.latents
        }
        self.shapes = {
            name: self._split(name, self.transforms[name].inv(self.trace.nodes[name]["value"]))
            for name in layout.latents
        }
        self.sizes = {name: math.prod(tail) for name, (tail, _) in self.shapes.items()}
        self.dim = sum(self.sizes.values())

    def _split(self, name: str, value: Tensor) -> tuple[torch.Size, int]:
        """Return the shape of one row's value and the place of the rows in the whole."""
        dim = self.layout.frame_dim(self.trace.nodes[name])
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

    def values(self) -> Draw:
        """Return the latents of the run that found the shapes: a draw from the prior."""
        return {name: self.trace.nodes[name]["value"] for name in self.transforms}

    def flatten(self, draw: Draw) -> Tensor:
        """Return unconstrained latents of shape ``(rows, dim)``."""
        parts = [
            self.transforms[name].inv(draw[name]).movedim(place, 0).reshape(self.rows, -1)
            for name, (_, place) in self.shapes.items()
        ]
        return torch.cat(parts, -1)

    def constrain(self, u: Tensor) -> tuple[Draw, Tensor]:
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

    def terms(self, u: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return log densities by site: of each row, and, outside the data plate, as one number.

        The volume of the transforms counts as a site of its own, without a name.
        """
        draw, volume = self.constrain(u)
        args, kwargs = self.arguments
        conditioned = poutine.condition(self.layout.model, data=draw)
        trace = poutine.trace(conditioned).get_trace(*args, **kwargs)
        trace.compute_log_prob()
        inside, outside = {"": volume}, {}
        for name, site in trace.nodes.items():
            if site["type"] != "sample" or is_subsampling(site):
                continue
            dim = self.layout.frame_dim(site)
            if dim is None:
                outside[name] = site["log_prob"].sum()
                continue
            log_prob = site["log_prob"].movedim(dim, -1)
            inside[name] = log_prob.reshape(-1, log_prob.shape[-1]).sum(0).expand(self.rows)
        return inside, outside

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p of each row and its gradient, of shape ``(rows, dim)``."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            inside, _ = self.terms(u)
            total = torch.stack([*inside.values()]).sum(0)
            (gradient,) = torch.autograd.grad(total.sum(), u)
        return total.detach(), gradient


def check_factorises(layout: Layout) -> None:
    """Raise unless each row's log density depends on its own data and latents only.

    Leaves half the rows out, and repeats each: the others, and the copies, must have the density
    they had. Runs twice: the density must not be random. Moves the latents of half the rows, again
    and again: the others must not notice (:func:`check_rows`).

    Raises:
        ArgumentError: if the model does not factorise over its data plate.
        DataError: if the density of a prior draw is not finite.
    """
    check_continuous(layout.trace)
    if layout.plate is None:
        raise ArgumentError(
            "the model has no plate of the size of its data: rows cannot be sampled side by side; "
            "put them in pyro.plate('data', len(x)), or use kernel='nuts'"
        )
    rows, both = layout.rows, torch.arange(layout.rows).repeat(2)
    half = max(1, rows // 2)
    with torch.no_grad(), silent(layout):
        once = RowDensity(layout, layout.arguments)
        twice = RowDensity(layout, take_rows(layout.arguments, both))
        fewer = RowDensity(layout, take_rows(layout.arguments, both[:half]))
        start = once.flatten(once.values())
        _check_supports(layout, once, start)
        (first, _), (again, _) = twice.terms(start.repeat(2, 1)), twice.terms(start.repeat(2, 1))
        (single, _), (alone, _) = once.terms(start), fewer.terms(start[:half])
    if not all(bool(term.isfinite().all()) for term in first.values()):
        raise DataError("the log density of a draw from the prior is not finite: check the data")
    for name, term in first.items():
        if not _same(term, again[name]):
            raise ArgumentError(
                f"the log density of the site {name!r} differs from call to call at one point: the "
                "model draws random numbers that are not sample sites, or hides a module in "
                "training mode; pass the module itself, or its bound method, as the model"
            )
        if not _same(term, single[name].repeat(2)) or not _same(alone[name], single[name][:half]):
            raise _coupled(layout, name)
    for _ in range(NUM_PROBES):
        draws = [twice.flatten(RowDensity(layout, twice.arguments).values()) for _ in range(2)]
        check_rows(twice, *draws)


@torch.no_grad()
def check_rows(density: RowDensity, one: Tensor, other: Tensor) -> None:
    """Raise if rows notice that the latents of other rows move from one point to another.

    Compared site by site, as a coupling may hide behind another site's large density.
    """
    layout = density.layout
    moved = (torch.rand(density.rows) < 0.5).to(one.device)
    moved[0], moved[-1] = False, density.rows > 1
    with silent(layout):
        before, fixed = density.terms(one)
        after, loose = density.terms(torch.where(moved.unsqueeze(-1), other, one))
    for name, term in fixed.items():
        if not _same(term, loose[name]):
            raise ArgumentError(
                f"the site {name!r} outside the data plate depends on the rows' latents: the log "
                "density does not factorise over the plate; use kernel='nuts'"
            )
    for name, term in before.items():
        if not _same(term[~moved], after[name][~moved]):
            raise _coupled(layout, name)


def _check_supports(layout: Layout, density: RowDensity, u: Tensor) -> None:
    """Raise if the support of a latent moves with other latents: the transform would not."""
    here, _ = density.constrain(u)
    there, _ = RowDensity(layout, layout.arguments).constrain(u)
    for name, value in here.items():
        if not torch.allclose(value, there[name], rtol=1e-4, atol=1e-5):
            raise ArgumentError(
                f"the support of the site {name!r} depends on other latents: sample it on a fixed "
                "support and transform it in the model"
            )


def _coupled(layout: Layout, name: str) -> ArgumentError:
    return ArgumentError(
        f"the log density of one row of the plate {layout.plate!r} depends on other rows"
        + (f", at the site {name!r}" if name else "")
        + ": it does not factorise, and rows cannot be sampled side by side; use kernel='nuts'"
    )


def _same(one: Tensor, other: Tensor) -> bool:
    tolerance = ROUNDING * torch.finfo(one.dtype).eps
    return bool(((one - other).abs() <= tolerance * (1 + one.abs())).all())
