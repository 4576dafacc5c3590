# SPDX-License-Identifier: Apache-2.0
"""Likelihoods p(x|z): a map z → η and a family η → distribution."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import ConditionalDistribution
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_idvae._abstract import AbstractOrFinal, must_write
from pyro_idvae._checks import (
    check_callable,
    check_count,
    check_floating,
    check_last_dim,
    check_same_kind,
)
from pyro_idvae._upstream import is_traced
from pyro_idvae.distributions.family import Family
from pyro_idvae.errors import ArgumentError, DataError, ShapeError


class Likelihood(AbstractOrFinal, PyroModule):
    r"""x | z ~ family(f(z) + h(c)), with optional covariates c.

    A ``PyroModule`` that counts as a Pyro ``ConditionalDistribution``: ``condition(z)`` returns an
    ordinary Pyro distribution, for any model, plate, guide or enumeration.

    Abstract: subclasses write :meth:`eta`, :meth:`lipschitz_bounds` and
    :meth:`information_bounds`; the rest is final.

    Args:
        family: what turns parameters into a distribution.
        latent_dim: K.
        parameter_dim: width of η.
        covariates: a module h that maps covariates to ``batch + (parameter_dim,)``.

    Raises:
        TypeError: for an abstract class, or a subclass that overrides what is final.
    """

    identifiable = False
    """Whether different z are sure to give different distributions of x."""

    def __init__(
        self,
        family: Family,
        latent_dim: int,
        parameter_dim: int,
        covariates: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(family, Family):
            raise ArgumentError(
                f"family is a {type(family).__name__}: expected a Family such as NormalFamily()"
            )
        if covariates is not None:
            check_callable("covariates", covariates, "a module from covariates to shifts of η")
        self.family = family
        self.latent_dim = check_count("latent_dim", latent_dim)
        self.parameter_dim = check_count("parameter_dim", parameter_dim)
        self.covariates = covariates
        for name, value in (*family.named_parameters(), *family.named_buffers()):
            # A basis of logits has one row more.
            if name.startswith("basis."):
                continue
            if value.dim() and value.shape[-1] not in (1, self.parameter_dim):
                raise ShapeError(
                    f"{name.removeprefix('log_')} of the family has shape {tuple(value.shape)}: "
                    f"expected one number, or one for each of the {self.parameter_dim} parameters"
                )

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one observation."""
        return self.family.event_shape(self.parameter_dim)

    @must_write
    def eta(self, z: Tensor) -> Tensor:
        """Return f(z), of shape ``batch + (parameter_dim,)``, without covariates."""
        raise NotImplementedError

    def forward(
        self,
        z: Tensor,
        covariates: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        total_count: Tensor | None = None,
    ) -> Any:
        """Return the distribution of x given z; :meth:`condition` is the same.

        Args:
            z: latent values, of shape ``batch + (latent_dim,)``.
            covariates: what the module ``covariates`` takes; required if there is one.
            mask: True where an observation is present: ``batch + event_shape`` for factorised
                families, ``batch`` for the others. A masked observation adds nothing to the log
                density; with some missing, f restricted to what is seen may not be injective.
            total_count: number of trials or library size for families that have one.

        Returns:
            A Pyro distribution of batch shape ``batch`` and event shape ``event_shape``.
        """
        check_last_dim("z", z, self.latent_dim)
        eta = self.eta(z)
        if self.covariates is not None:
            if covariates is None:
                raise ArgumentError("covariates=None: this likelihood was built with covariates")
            eta = eta + self.shift(covariates, eta)
        elif covariates is not None:
            raise ArgumentError(
                "covariates were given to a likelihood built without them: pass "
                "covariates=<module> to its constructor"
            )
        if total_count is not None:
            self._check_total_count(total_count, eta)
        family = self.family  # looked up once: each look-up registers it with Pyro
        distribution = family(eta, total_count)
        if mask is not None:
            self._check_mask(mask, distribution.batch_shape)
            distribution = distribution.mask(mask)
        return distribution.to_event(1) if family.factorised else distribution

    def shift(self, covariates: Any, eta: Tensor) -> Tensor:
        """Return what covariates shift f(z) by; they shift the natural parameters by their module.

        Args:
            covariates: what the module ``covariates`` takes.
            eta: f(z), whose shape the shift must broadcast with.
        """
        module: Any = self.covariates
        shift: Tensor = module(check_floating("covariates", covariates))
        try:
            # One z may be seen by many rows, each with covariates of its own.
            fits = torch.broadcast_shapes(shift.shape, eta.shape)[-1:] == eta.shape[-1:]
        except RuntimeError:
            fits = False
        if not fits:
            raise ShapeError(
                f"covariates of shape {tuple(covariates.shape)} give a shift of shape "
                f"{tuple(shift.shape)}: expected one that broadcasts to {tuple(eta.shape)}"
            )
        return self.family.in_units(shift)

    def condition(self, z: Tensor, covariates: Tensor | None = None, **options: Any) -> Any:
        """Return the distribution of x given z, as :meth:`forward` does."""
        return self(z, covariates, **options)

    def _check_total_count(self, total_count: Any, eta: Tensor) -> None:
        shape = eta.shape if self.family.factorised else eta.shape[:-1]
        number = isinstance(total_count, (int, float, Tensor))
        total = torch.as_tensor(total_count) if number else torch.tensor(-1.0)
        try:
            torch.broadcast_shapes(total.shape, shape)
            fits = True
        except RuntimeError:
            fits = False
        bad = not is_traced(total) and not bool(((total >= 0) & total.isfinite()).all())
        if not fits or bad:
            said = f"of shape {tuple(total.shape)}" if number and total.dim() else repr(total_count)
            wanted = f"counts from 0 that broadcast to {tuple(shape)}"
            raise ShapeError(f"total_count {said}: expected {wanted}")

    def _check_mask(self, mask: Tensor, batch_shape: torch.Size) -> None:
        if not isinstance(mask, Tensor):
            raise ArgumentError(
                f"mask is a {type(mask).__name__}: expected a torch.Tensor of torch.bool"
            )
        try:
            fits = torch.broadcast_shapes(mask.shape, batch_shape) == batch_shape
        except RuntimeError:
            fits = False
        if mask.dtype != torch.bool or not fits:
            raise ShapeError(
                f"mask has dtype {mask.dtype} and shape {tuple(mask.shape)}: expected torch.bool "
                f"and a shape that broadcasts to {tuple(batch_shape)}"
            )

    def fill_missing(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Put a harmless value of the support where ``mask`` is False, so that no NaN is left."""
        if mask is None:
            return x
        if not self.family.factorised:
            mask = mask.reshape(mask.shape + (1,) * len(self.event_shape))
        return torch.where(mask, x, torch.full_like(x, self.family.fill))

    def check_data(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Raise a typed error unless x could be observations of this likelihood.

        Args:
            x: observations, of shape ``batch + event_shape``.
            mask: True where an observation is present.

        Raises:
            DataError: for NaN or infinite entries that no mask covers, or entries outside the
                support.
            ArgumentError: for a wrong shape, dtype or device, or no observations at all.
        """
        if not isinstance(x, Tensor) or not self.family.integer_data:
            check_floating("x", x)
        shape = self.event_shape
        if x.dim() < len(shape) or x.shape[x.dim() - len(shape) :] != shape:
            raise ShapeError(f"x has shape {tuple(x.shape)}: expected batch + {tuple(shape)}")
        if mask is not None:
            batch = x.shape[: x.dim() - len(shape)]
            self._check_mask(mask, x.shape if self.family.factorised else batch)
        if x.numel() == 0:
            raise DataError(f"x has shape {tuple(x.shape)}: there are no observations")
        like = next(self.parameters(), None)
        if like is not None and x.is_floating_point():
            check_same_kind("x", x, "the likelihood", like)
        filled = self.fill_missing(x, mask)
        for problem, bad in (
            ("is not finite", ~filled.isfinite()),
            (
                f"is outside the support of {self.family.name}",
                ~self.family.check_support(filled, self.parameter_dim),
            ),
        ):
            if bool(bad.any()):
                where = tuple(bad.nonzero()[0].tolist())
                raise DataError(
                    f"x[{', '.join(map(str, where))}]={filled[where].item():g} {problem} "
                    f"({int(bad.sum())} such entries): clean the data, or pass a mask if they are "
                    "missing"
                )

    def data_options(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return the keyword arguments that :meth:`condition` needs for observations x."""
        options = {} if mask is None else {"mask": mask}
        total = self.family.total_count_of(self.fill_missing(x, mask))
        return options if total is None else {**options, "total_count": total}

    @must_write
    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (L, M) of f, from the parameters as they are now."""
        raise NotImplementedError

    @must_write
    def information_bounds(self) -> tuple[float, float]:
        """Return (low, high) in nats for p(z) = N(0, I); see the subclasses."""
        raise NotImplementedError


ConditionalDistribution.register(Likelihood)
