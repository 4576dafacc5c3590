# SPDX-License-Identifier: Apache-2.0
"""Parameters that count standard deviations of the noise, at the base rates of the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_idvae.distributions.family import Family


class NoiseUnits(Family):
    r"""A factorised family by v, in units of its own noise.

    .. math:: \eta = \eta_0 + D\,v, \qquad D = I(\eta_0)^{-1/2}

    with η₀ the parameters of the data's base rates and I the Fisher information of an observation.
    A unit of v moves the data by one standard deviation of their noise, near the base rates: the
    information about v is 1 at v = 0, whatever the family. D is made of the global parameters as
    they are, so that a learned dispersion does not change what a unit is.

    Made by :func:`in_noise_units`.

    Args:
        family: by η.
        base_eta: η₀, of shape ``(parameter_dim,)``.
        capped: which of the base rates are not the data's.
        least: information that D is limited by, of shape ``(parameter_dim,)``.
    """

    base_eta: Tensor
    capped: Tensor
    least: Tensor

    def __init__(self, family: Family, base_eta: Tensor, capped: Tensor, least: Tensor) -> None:
        super().__init__()
        self.family = family
        self.name, self.support = family.name, family.support
        self.fill, self.integer_data = family.fill, family.integer_data
        self.total_count = getattr(family, "total_count", None)
        self.register_buffer("base_eta", base_eta)
        self.register_buffer("least", least)
        self.register_buffer("capped", capped)

    def capped_rates(self) -> Tensor:
        """Return which base rates are not the data's."""
        return self.capped

    def unit(self) -> Tensor:
        """Return D, of shape ``(parameter_dim,)``."""
        information = self.family.fisher_information(self.base_eta)
        return torch.maximum(information, self.least).rsqrt()

    def _eta(self, v: Tensor) -> Tensor:
        return self.base_eta + self.unit() * v

    def forward(self, eta: Tensor, total_count: Tensor | None = None) -> Any:
        """Return the distribution for v = ``eta``."""
        return self.family(self._eta(eta), total_count)

    def in_units(self, shift: Tensor) -> Tensor:
        """Return D⁻¹·shift."""
        return shift / self.unit()

    def bhattacharyya(
        self, eta: Tensor, other: Tensor, total_count: Tensor | None = None
    ) -> Tensor:
        """Return the distance of two members, by their v."""
        counts = () if total_count is None else (total_count,)
        return self.family.bhattacharyya(self._eta(eta), self._eta(other), *counts)

    def least_curvature(self, centre: Tensor, radius: float | Tensor) -> Tensor:
        """Return D² times the family's."""
        unit = self.unit()
        return unit.square() * self.family.least_curvature(self._eta(centre), unit * radius)

    def fisher_information(self, eta: Tensor, total_count: Tensor | None = None) -> Tensor:
        """Return D²·I(η)."""
        information = self.family.fisher_information(self._eta(eta), total_count)
        return self.unit().square() * information

    def initial_eta(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the v of parameters near x."""
        eta = self.family.initial_eta(x, parameter_dim)
        return (eta - self.base_eta) / self.unit()

    def eta_of_mean(self, mean: Tensor, least: Tensor) -> Tensor:
        """Return the v of means."""
        return (self.family.eta_of_mean(mean, least) - self.base_eta) / self.unit()

    def event_shape(self, parameter_dim: int) -> torch.Size:
        """Return the family's."""
        return self.family.event_shape(parameter_dim)

    def parameter_dim(self, data_dim: int) -> int:
        """Return the family's."""
        return self.family.parameter_dim(data_dim)

    def total_count_of(self, x: Tensor) -> Tensor | None:
        """Return the family's."""
        return self.family.total_count_of(x)

    def standardize(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the family's."""
        return self.family.standardize(x, parameter_dim)

    def flat_dim(self, parameter_dim: int) -> int:
        """Return the family's."""
        return self.family.flat_dim(parameter_dim)

    def check_support(self, x: Tensor, parameter_dim: int) -> Tensor:
        """Return the family's."""
        return self.family.check_support(x, parameter_dim)
