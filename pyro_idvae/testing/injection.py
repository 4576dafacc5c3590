# SPDX-License-Identifier: Apache-2.0
"""The laws of an injection, as test methods to inherit."""

from __future__ import annotations

import torch

from pyro_idvae.testing.checks import relative_error
from pyro_idvae.testing.transform import TransformLaws


class InjectionLaws(TransformLaws):
    """What every :class:`Injection` must obey besides.

    Example:
        >>> from pyro_idvae.testing import InjectionLaws
        >>> from pyro_idvae.transforms import injective_linear
        >>> class TestLinear(InjectionLaws):
        ...     input_dim = 2
        ...     def make(self):
        ...         return injective_linear(2, 5)
        >>> TestLinear().test_jacobian_is_that_of_autograd()
    """

    def test_jacobian_is_that_of_autograd(self) -> None:
        transform = self.transform_of(self.make_double())
        z = self.points(6)
        wanted = torch.vmap(torch.func.jacrev(transform))(z)
        assert relative_error(transform.jacobian(z), wanted) <= 1e-10
        low, high = transform.lipschitz_bounds()
        values = torch.linalg.svdvals(transform.jacobian(self.points(200, scale=5.0)))
        assert values.min().item() >= low * (1 - 1e-10)
        assert values.max().item() <= high * (1 + 1e-10)

    def test_projection_finds_the_point_and_then_the_nearest(self) -> None:
        transform = self.transform_of(self.make_double())
        z = self.points(10)
        x = transform(z).detach()
        assert relative_error(transform.project(x), z) <= 1e-9
        away = x + 0.1 * torch.randn_like(x)
        found = transform.project(away)
        slope = transform.jacobian(found).mT @ (transform(found) - away).unsqueeze(-1)
        assert slope.abs().max().item() <= 1e-5
        distance = (transform(found) - away).norm(dim=-1)
        assert bool((distance <= (x - away).norm(dim=-1) * (1 + 1e-12)).all())
