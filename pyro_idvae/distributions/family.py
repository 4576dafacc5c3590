# SPDX-License-Identifier: Apache-2.0
"""What a likelihood does with its parameter vector η: the abstract family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_idvae._abstract import AbstractOrFinal, may_override, must_write
from pyro_idvae._checks import check_real
from pyro_idvae.errors import ArgumentError, NoClosedFormError


class Family(AbstractOrFinal, nn.Module):
    """Turns real parameters η into a Pyro distribution of the observations.

    A family maps η to the distribution *injectively*: different η, different distribution. That is
    why categories take one number fewer than there are (see :class:`Helmert`). What else it has,
    such as a scale, is global: the same for every data point.

    A plain module, not a ``PyroModule``: parameters of those are bound to the global store by name,
    and two families would share theirs.

    Subclasses set the class attributes and write :meth:`forward`. They may override every method
    but those of global parameters and :meth:`refuse_total_count`, and inherit the tests of
    ``pyro_idvae.testing.FamilyLaws``.

    Raises:
        TypeError: for an abstract class, or a subclass that overrides what is final.
    """

    name = "family"
    """Its name in messages and in ``IDVAE(family=...)``."""

    support: constraints.Constraint = constraints.real
    """Where one observed number may lie."""

    factorised = True
    """Whether the coordinates of x are independent given η, one parameter each."""

    fill = 0.0
    """A value inside the support, put where an observation is missing."""

    integer_data = False
    """Whether observations may have an integer dtype."""

    least_information = 0.0
    """What an observation has at its base rate, at least; rarer rates are taken for larger ones."""

    of_log_rates = False
    """Whether η is, or changes, logarithms of rates."""

    needs_total_count = False
    """Whether an observation is of so many draws as are given with each call."""

    @must_write
    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return the distribution for η of shape ``batch + (parameter_dim,)``.

        Factorised families return one of batch shape ``batch + (parameter_dim,)`` and no event.
        """
        raise NotImplementedError

    @may_override
    def event_shape(self, parameter_dim: int) -> torch.Size:
        """Return the shape of one observation."""
        return torch.Size([parameter_dim])

    @may_override
    def parameter_dim(self, data_dim: int) -> int:
        """Return the number of identifiable parameters for ``data_dim`` numbers or categories."""
        return data_dim

    @may_override
    def total_count_of(self, x: Tensor) -> Tensor | None:
        """Return what :meth:`forward` takes as ``total_count`` for observations x, if anything."""
        return None

    @may_override
    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return observations scaled for the input of an encoder."""
        return x

    @may_override
    def flat_dim(self, parameter_dim: int) -> int:
        """Return the width of what :meth:`standardize` returns."""
        return parameter_dim

    @may_override
    def check_support(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return a boolean tensor: which entries of x lie in the support."""
        inside: Tensor = self.support.check(x)
        return inside

    @may_override
    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the Bhattacharyya distance −log ∫√(p·p′) of two members, in closed form.

        Args:
            eta: parameters, of shape ``batch + (parameter_dim,)``.
            other: parameters of a shape that broadcasts with it.
            total_count: as for :meth:`forward`, where the distance depends on it.

        Returns:
            A tensor of the broadcast ``batch``, in nats.

        Raises:
            NoClosedFormError: for families without a closed form.
        """
        raise NoClosedFormError(
            f"the Bhattacharyya distance of two {self.name} distributions has no closed form here"
        )

    @may_override
    def least_curvature(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        r"""Return m with D_B(η, η′) ≥ m·‖η − η′‖²/8 for all η, η′ within a radius of a centre.

        D_B is the Bhattacharyya distance. In an exponential family by its natural parameters, m is
        the least curvature of the log normaliser there.

        Args:
            centre: parameters, of shape ``(parameter_dim,)``.
            radius: how far others are from them, a number or one for each coordinate.

        Returns:
            One m for each coordinate, of shape ``(parameter_dim,)``, or one for all, of ``()``.

        Raises:
            NoClosedFormError: for families without a closed form.
        """
        raise NoClosedFormError(
            f"the least curvature of a {self.name} family has no closed form here"
        )

    @may_override
    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return E[∇log p(x|η) ∇log p(x|η)ᵀ], the information of one observation about η.

        Args:
            eta: parameters, of shape ``batch + (parameter_dim,)``.
            total_count: as for :meth:`forward`.

        Returns:
            A tensor of shape ``batch + (parameter_dim,)`` for factorised families, its diagonal;
            of ``batch + (parameter_dim, parameter_dim)`` for the others.

        Raises:
            NoClosedFormError: for families without a closed form.
        """
        raise NoClosedFormError(
            f"the Fisher information of a {self.name} distribution has no closed form here"
        )

    @may_override
    def pulled_information(
        self,
        eta: Tensor,
        jacobian: Tensor,
        total_count: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return JᵀI(η)J, the information of one observation about what η is made of.

        Args:
            eta: parameters, of shape ``batch + (parameter_dim,)``.
            jacobian: J, of shape ``batch + (parameter_dim, K)``.
            total_count: as for :meth:`forward`.
            mask: what is observed: of shape ``batch + (parameter_dim,)`` for factorised families,
                ``batch`` for the others.

        Returns:
            A tensor of shape ``batch + (K, K)``.

        Raises:
            NoClosedFormError: for families without a closed form.
        """
        information = self.fisher_information(eta, total_count)
        if self.factorised:
            weights = information if mask is None else information * mask
            return jacobian.mT @ (weights.unsqueeze(-1) * jacobian)
        pulled = jacobian.mT @ (information @ jacobian)
        return pulled if mask is None else pulled * mask[..., None, None]

    @may_override
    def initial_eta(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return parameters whose mean is near x, pulled inside the range that means can have.

        Args:
            x: observations, of shape ``batch + event_shape``.
            parameter_dim: width of η.

        Returns:
            A tensor of shape ``batch + (parameter_dim,)``, finite.
        """
        return self.standardize(x, parameter_dim)

    @may_override
    def eta_of_mean(self, mean: Tensor, least: Tensor) -> Tensor:
        """Return the η of means, brought to where the information is at least about ``least``.

        Args:
            mean: means of observations, of shape ``batch + (parameter_dim,)``.
            least: Fisher information about η that an observation must have, where means decide it;
                of shape ``(parameter_dim,)``.
        """
        return self.initial_eta(mean, mean.shape[-1])

    @may_override
    def with_base(self, x: Tensor, parameter_dim: int, least: Tensor) -> Family | None:
        """Return the family in units of the noise of data x, where it has a way of its own.

        Args:
            x: observations, of shape ``batch + event_shape``.
            parameter_dim: width of η.
            least: Fisher information that an observation must have at its base rate, of shape
                ``(parameter_dim,)``.

        Returns:
            None, for a family whose parameters are shifted and scaled one by one.
        """
        return None

    @may_override
    def in_units(self, shift: Tensor) -> Tensor:
        """Return a shift of the natural parameters as one of what :meth:`forward` takes.

        The same, unless the family is in noise units; see :func:`in_noise_units`.
        """
        return shift

    @may_override
    def capped_rates(self) -> Tensor | None:
        """Return which base rates are not the data's; None for a family not in noise units."""
        return None

    def set_global(self, name: str, value: float | Tensor, *, learn: bool) -> None:
        """Keep the logarithm of a positive global parameter: a buffer, or learned."""
        if isinstance(value, Tensor):
            tensor = value.detach().clone()
            good = tensor.is_floating_point() and bool((tensor.isfinite() & (tensor > 0)).all())
            if not good:
                raise ArgumentError(
                    f"{name} must be positive and finite, in floating point: got {value}"
                )
        else:
            tensor = torch.tensor(check_real(name, value, above=0.0))
        if learn:
            self.register_parameter(f"log_{name}", nn.Parameter(tensor.log()))
        else:
            self.register_buffer(f"log_{name}", tensor.log())

    def get_global(self, name: str) -> Tensor:
        """Return a positive global parameter."""
        logarithm: Tensor = getattr(self, f"log_{name}")
        return logarithm.exp()

    def refuse_total_count(self, total_count: Tensor | None) -> None:
        """Raise if a total count is given to a family that has none."""
        if total_count is not None:
            raise ArgumentError(
                f"total_count was given, but a {self.name} likelihood has none; a library size of "
                "counts is an offset: pass its logarithm as covariates"
            )
