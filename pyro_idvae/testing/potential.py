# SPDX-License-Identifier: Apache-2.0
"""The laws of a convex potential, as test methods to inherit."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor

from pyro_idvae._abstract import may_override, must_write
from pyro_idvae.errors import ArgumentError
from pyro_idvae.potentials import ConvexPotential
from pyro_idvae.testing.checks import (
    check_raises,
    copies_of,
    parameters_of,
    plain_function,
    relative_error,
)
from pyro_idvae.testing.search import lipschitz_search


class PotentialLaws:
    """What every :class:`ConvexPotential` must obey; subclass it and write :meth:`make`.

    A law about parameters speaks of potentials that have some; of one without, it asks what is left
    of it, such as gradients with respect to the input.

    Example:
        >>> from pyro_idvae.potentials import RidgePotential
        >>> from pyro_idvae.testing import PotentialLaws
        >>> class TestRidge(PotentialLaws):
        ...     def make(self):
        ...         return RidgePotential(3, hidden_dims=[8])
        >>> TestRidge().test_gradient_and_hessian_are_those_of_autograd()
    """

    @must_write
    def make(self) -> ConvexPotential:
        """Return the potential under test; called after seeding."""
        raise NotImplementedError

    @may_override
    def make_double(self) -> ConvexPotential:
        """Return :meth:`make`'s potential with random double parameters."""
        torch.manual_seed(0)
        return self.make().double()

    @may_override
    def points(self, potential: ConvexPotential, *batch: int, scale: float = 1.0) -> Tensor:
        """Return random points of shape ``batch + (dim,)``."""
        generator = torch.Generator().manual_seed(1)
        shape = (*batch, potential.dim)
        return scale * torch.randn(shape, generator=generator, dtype=torch.double)

    def test_gradient_and_hessian_are_those_of_autograd(self) -> None:
        potential = self.make_double()
        for scale in (1e-3, 1.0, 1e3):
            x = self.points(potential, 5, scale=scale)
            gradient, hessian = potential.gradient_and_hessian(x)
            wanted = torch.vmap(torch.func.grad(potential))(x)
            assert relative_error(gradient, wanted) <= 1e-10
            assert relative_error(potential.gradient(x), wanted) <= 1e-10
            wanted = torch.vmap(torch.func.jacrev(torch.func.grad(potential)))(x)
            assert relative_error(hessian, wanted) <= 1e-10
            assert relative_error(potential.hessian(x), wanted) <= 1e-10

    def test_hessian_product(self) -> None:
        potential = self.make_double()
        x = self.points(potential, 5)
        matrix = torch.randn(5, potential.dim, 3, dtype=torch.double)
        wanted = potential.hessian(x) @ matrix
        assert relative_error(potential.hessian_product(x, matrix), wanted) <= 1e-10

    def test_hessian_is_symmetric_and_within_the_bounds(self) -> None:
        potential = self.make_double()
        low, high = potential.strong_convexity().item(), potential.smoothness().item()
        assert 0 < low <= high
        for scale in (1e-3, 1.0, 30.0, 1e4):
            hessian = potential.hessian(self.points(potential, 50, scale=scale))
            assert relative_error(hessian, hessian.mT) <= 1e-12
            eigenvalues = torch.linalg.eigvalsh(hessian)
            assert eigenvalues.min().item() >= low * (1 - 1e-10)
            assert eigenvalues.max().item() <= high * (1 + 1e-10)

    def test_no_pair_of_points_beats_the_bounds(self) -> None:
        potential = self.make_double()
        low, high = lipschitz_search(potential.gradient, potential.dim)
        assert low >= potential.strong_convexity().item() * (1 - 1e-8)
        assert high <= potential.smoothness().item() * (1 + 1e-8)

    def test_midpoint_convexity(self) -> None:
        potential = self.make_double()
        x, y = self.points(potential, 2, 100, scale=3.0)
        low = potential.strong_convexity().item()
        gap = 0.5 * (potential(x) + potential(y)) - potential(0.5 * (x + y))
        assert bool((gap >= low / 8 * (x - y).square().sum(-1) * (1 - 1e-10)).all())

    def test_batch_shapes(self) -> None:
        potential = self.make_double()
        dim = potential.dim
        for batch in ((), (1,), (0,), (4,), (2, 3), (2, 1, 3)):
            x = self.points(potential, *batch)
            gradient, hessian = potential.gradient_and_hessian(x)
            assert potential(x).shape == batch
            assert gradient.shape == (*batch, dim)
            assert hessian.shape == (*batch, dim, dim)
        x = self.points(potential, 2, 3)
        single = torch.stack([potential.gradient(row) for row in x.reshape(-1, dim)])
        assert relative_error(potential.gradient(x).reshape(-1, dim), single) <= 1e-12

    def test_single_precision_agrees_with_double(self) -> None:
        potential = self.make_double()
        x = self.points(potential, 20)
        wanted = potential.gradient(x), potential.hessian(x)
        gradient, hessian = self.in_single(potential).gradient_and_hessian(x.float())
        assert gradient.dtype == hessian.dtype == torch.float32
        assert relative_error(gradient.double(), wanted[0]) <= 1e-5
        assert relative_error(hessian.double(), wanted[1]) <= 1e-5

    @may_override
    def in_single(self, potential: ConvexPotential) -> ConvexPotential:
        """Return the same potential in single precision."""
        return copy.deepcopy(potential).float()

    def test_works_under_every_torch_mode(self) -> None:
        potential = self.make_double()
        x = self.points(potential, 4)
        wanted = potential.gradient(x).detach()
        with torch.no_grad():
            assert relative_error(potential.gradient(x), wanted) <= 1e-12
        with torch.inference_mode():
            assert relative_error(potential.gradient(x), wanted) <= 1e-12
        mapped = torch.vmap(potential.gradient)(x)
        assert relative_error(mapped, wanted) <= 1e-12
        for tensor in potential.dependencies():
            tensor.requires_grad_(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(plain_function(potential.gradient), (x,), check_trace=False)
        assert relative_error(traced(x + 1), potential.gradient(x + 1)) <= 1e-12

    def test_input_and_every_parameter_get_a_gradient(self) -> None:
        potential = self.make_double()
        x = self.points(potential, 4).requires_grad_()
        names, parameters = ["x"], [x]
        for name, parameter in potential.named_parameters():
            names.append(name)
            parameters.append(parameter)
        grads = torch.autograd.grad(
            potential.gradient(x).square().sum(), parameters, allow_unused=True
        )
        missing = [name for name, grad in zip(names, grads, strict=True) if grad is None]
        assert not missing, missing
        wanted = 2 * potential.hessian_product(x, potential.gradient(x).unsqueeze(-1)).squeeze(-1)
        assert grads[0] is not None
        assert relative_error(grads[0], wanted) <= 1e-10

    def test_evaluating_once_changes_nothing(self) -> None:
        potential = self.make_double()
        once, x = potential.evaluated(), self.points(potential, 4)
        assert relative_error(once(x), potential(x)) <= 1e-12
        assert relative_error(once.gradient(x), potential.gradient(x)) <= 1e-12
        assert relative_error(once.hessian(x), potential.hessian(x)) <= 1e-12
        assert torch.equal(once.strong_convexity(), potential.strong_convexity())
        assert torch.equal(once.smoothness(), potential.smoothness())

    def test_dependencies_name_every_parameter(self) -> None:
        potential = self.make_double()
        known = {id(tensor) for tensor in potential.dependencies()}
        assert all(id(parameter) in known for parameter in parameters_of(potential))

    def test_copies_and_pickles(self) -> None:
        potential = self.make_double()
        x = self.points(potential, 4)
        for other in copies_of(potential):
            assert torch.equal(other.gradient(x), potential.gradient(x))
        if parameters_of(potential):
            torch.manual_seed(99)
            other = self.make().double()
            other.load_state_dict(potential.state_dict())
            assert torch.equal(other.gradient(x), potential.gradient(x))

    def test_bad_input_is_refused(self) -> None:
        """Another length, whole numbers, and another dtype than that of the parameters."""
        potential = self.make_double()
        dim = potential.dim
        bad = [
            torch.zeros(3, dim + 1, dtype=torch.double),
            torch.zeros(3, dim, dtype=torch.long),
        ]
        if parameters_of(potential):
            bad.append(torch.zeros(3, dim, dtype=torch.float32))
        for x in bad:
            check_raises(ArgumentError, "x has", potential.gradient, x)
