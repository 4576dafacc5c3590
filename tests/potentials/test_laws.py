import pytest
import torch

from pyro_idvae.potentials import (
    ICNN,
    PartiallyConvexPotential,
    QuadraticPotential,
    RidgePotential,
)
from pyro_idvae.testing import PotentialLaws


class TestQuadratic(PotentialLaws):
    def make(self):
        return QuadraticPotential(4)


class TestQuadraticWindow(PotentialLaws):
    def make(self):
        return QuadraticPotential(4, strong_convexity=0.5, smoothness=3.0)


class TestRidge(PotentialLaws):
    def make(self):
        return RidgePotential(3, hidden_dims=[32])


class TestRidgeOfOneDimension(PotentialLaws):
    def make(self):
        return RidgePotential(1)


class TestRidgeNarrowerThanTheData(PotentialLaws):
    def make(self):
        return RidgePotential(8, hidden_dims=[3], strong_convexity=1e-3)


class TestRidgeWindow(PotentialLaws):
    def make(self):
        return RidgePotential(3, hidden_dims=[32], strong_convexity=0.5, smoothness=2.0)


class TestICNN(PotentialLaws):
    def make(self):
        return ICNN(3, hidden_dims=[16, 12, 8])


class TestICNNOfOneLayer(PotentialLaws):
    def make(self):
        return ICNN(3, hidden_dims=[16])


class TestICNNWindow(PotentialLaws):
    def make(self):
        return ICNN(3, hidden_dims=[16, 12], strong_convexity=0.5, smoothness=2.0)


def randomised(smoothness):
    potential = PartiallyConvexPotential(3, 2, hidden_dims=[16], smoothness=smoothness)
    for parameter in potential.network.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    return potential


class ConditionedLaws(PotentialLaws):
    """One context: the potential is then a convex potential like any other."""

    smoothness = None

    def make_double(self):
        torch.manual_seed(0)
        potential = randomised(self.smoothness).double()
        conditioned = potential.condition(torch.tensor([0.3, -1.0], dtype=torch.double))
        for name in ("weight", "gain", "bias", "out", "alpha", "offset"):
            setattr(conditioned, name, getattr(conditioned, name).detach())
        return conditioned

    def test_single_precision_agrees_with_double(self):
        torch.manual_seed(0)
        potential = randomised(self.smoothness).double()
        context = torch.tensor([0.3, -1.0], dtype=torch.double)
        x = self.points(potential.condition(context), 20)
        wanted = potential.gradient(x, context)
        found = potential.float().gradient(x.float(), context.float())
        assert torch.allclose(found.double(), wanted, rtol=1e-4, atol=1e-4)

    def test_every_parameter_gets_a_gradient(self):
        potential = randomised(self.smoothness)
        potential.gradient(torch.randn(4, 3), torch.randn(4, 2)).square().sum().backward()
        missing = [n for n, p in potential.named_parameters() if p.grad is None]
        assert not missing
        assert not list(potential.condition(torch.zeros(2)).parameters())

    def test_copies_and_pickles(self):
        import copy
        import pickle

        potential = randomised(self.smoothness)
        x, context = torch.randn(4, 3), torch.randn(4, 2)
        for other in (copy.deepcopy(potential), pickle.loads(pickle.dumps(potential))):
            assert torch.equal(other.gradient(x, context), potential.gradient(x, context))


class TestPartiallyConvex(ConditionedLaws):
    pass


class TestPartiallyConvexWindow(ConditionedLaws):
    smoothness = 3.0


def test_the_bounds_of_a_conditioned_potential_take_the_context():
    potential = randomised(None).double()
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
