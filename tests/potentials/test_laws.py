import copy

import pytest
import torch

from pyro_idvae.errors import ArgumentError
from pyro_idvae.potentials import ICNN, QuadraticPotential, RidgePotential
from pyro_idvae.testing import PotentialLaws
from tests.testing.table import CONDITIONAL_POTENTIALS, POTENTIALS


class TestPotentials(PotentialLaws):
    @pytest.fixture(autouse=True, params=POTENTIALS)
    def _case(self, request):
        self.make = POTENTIALS[request.param]


class TestConditioned(PotentialLaws):
    """At one context: the potential is then a convex potential like any other."""

    @pytest.fixture(autouse=True, params=CONDITIONAL_POTENTIALS)
    def _case(self, request):
        self.make_conditional = CONDITIONAL_POTENTIALS[request.param]

    def make(self):
        potential = self.make_conditional().double()
        return potential.condition(torch.tensor([0.3, -1.0], dtype=torch.double))

    def in_single(self, potential):
        single = copy.deepcopy(potential._potential[0]).float()
        return single.condition(potential.context.float())

    def test_every_parameter_of_the_whole_gets_a_gradient(self):
        potential = self.make_conditional()
        potential.gradient(torch.randn(4, 3), torch.randn(4, 2)).square().sum().backward()
        missing = [n for n, p in potential.named_parameters() if p.grad is None]
        assert not missing
        assert not list(potential.condition(torch.zeros(2)).parameters())

    def test_another_dtype_is_refused(self):
        with pytest.raises(ArgumentError, match="x has dtype torch.float32"):
            self.make()(torch.zeros(2, 3))
        with pytest.raises(ArgumentError, match="context has dtype torch.float64"):
            self.make_conditional().condition(torch.zeros(2, dtype=torch.double))

    def test_the_network_is_evaluated_once_a_call_and_not_before(self):
        potential = self.make_conditional()
        calls = []
        potential.network.register_forward_hook(lambda *_: calls.append(1))
        x = torch.randn(4, 3)
        conditioned = potential.condition(torch.randn(4, 2))
        assert not calls
        for method in (conditioned, conditioned.gradient, conditioned.gradient_and_hessian):
            calls.clear()
            method(x)
            assert len(calls) == 1
        once = conditioned.evaluated()
        calls.clear()
        once.gradient(x)
        assert once.smoothness().shape == (4,)
        assert not calls


def test_the_bounds_of_a_conditioned_potential_take_the_context():
    potential = CONDITIONAL_POTENTIALS["partially convex"]().double()
    context = torch.randn(5, 2, dtype=torch.double)
    x = torch.randn(5, 3, dtype=torch.double)
    low, high = potential.strong_convexity(context), potential.smoothness(context)
    assert low.shape == high.shape == (5,)
    assert len(set(high.tolist())) == 5
    eigenvalues = torch.linalg.eigvalsh(potential.hessian(x, context))
    assert (eigenvalues[:, 0] >= low).all()
    assert (eigenvalues[:, -1] <= high).all()
    value = potential(x, context)
    gradient, hessian = potential.gradient_and_hessian(x, context)
    assert value.shape == (5,)
    assert torch.equal(gradient, potential.gradient(x, context))
    assert hessian.shape == (5, 3, 3)


@pytest.mark.parametrize("make", [QuadraticPotential, RidgePotential, ICNN])
def test_a_window_is_kept_while_the_parameters_move(make):
    potential = make(5, strong_convexity=0.7, smoothness=2.5).double()
    for _ in range(3):
        with torch.no_grad():
            for parameter in potential.parameters():
                parameter.add_(torch.randn_like(parameter))
        high = potential.smoothness().item()
        assert high == pytest.approx(2.5, rel=1e-12)
        assert potential.strong_convexity().item() >= 0.7
        eigenvalues = torch.linalg.eigvalsh(potential.hessian(torch.randn(50, 5).double() * 9))
        assert eigenvalues.max() <= 2.5 * (1 + 1e-12)


def test_equal_floor_and_ceiling_make_a_linear_map():
    potential = RidgePotential(3, strong_convexity=2.0, smoothness=2.0).double()
    x = torch.randn(4, 3).double()
    assert torch.allclose(potential.gradient(x), 2 * x)


@pytest.mark.parametrize("width", [2, 16, 64, 512])
@pytest.mark.parametrize("dim", [1, 2, 8, 32])
def test_the_ceiling_of_a_ridge_is_no_empty_word(dim, width):
    """The bound is at most 1.6 times the largest stretch an adversary finds."""
    from pyro_idvae.testing import lipschitz_search

    potential = RidgePotential(dim, hidden_dims=[width]).double()
    _, found = lipschitz_search(potential.gradient, dim, num_starts=16, num_steps=150)
    assert potential.smoothness().item() <= 1.6 * found


def test_the_gram_iteration_bounds_from_above_and_closely():
    from pyro_idvae.potentials.spectrum import EXACT_SIZE, largest_eigenvalue

    factor = torch.randn(EXACT_SIZE + 50, 400, dtype=torch.double)
    matrix = factor @ factor.mT
    exact = torch.linalg.eigvalsh(matrix)[-1]
    bound = largest_eigenvalue(matrix)
    assert exact <= bound <= 1.03 * exact
