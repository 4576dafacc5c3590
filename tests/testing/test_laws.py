"""The laws bite: what is wrong on purpose is found out, and what is right passes all of them."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from pyro_idvae.distributions import BernoulliFamily, Family, InjectiveNormal, PoissonFamily
from pyro_idvae.errors import ArgumentError
from pyro_idvae.testing import (
    ConditionalTransformLaws,
    FamilyLaws,
    InjectionLaws,
    LikelihoodLaws,
    PotentialLaws,
    TransformLaws,
    run_laws,
)
from pyro_idvae.transforms import Injection
from tests.testing import table


class Stretched(Injection):
    """z ↦ (z, s·z), without a parameter."""

    def __init__(self, dim, stretch=1.0):
        super().__init__(dim, 2 * dim)
        self.stretch = stretch

    def _call(self, x):
        return torch.cat([x, self.stretch * x], -1)

    def _inverse(self, y):
        return y[..., : self.latent_dim]

    def jacobian(self, z):
        eye = torch.eye(self.latent_dim, dtype=z.dtype)
        both = torch.cat([eye, self.stretch * eye])
        return both.expand(*z.shape[:-1], self.data_dim, self.latent_dim)

    def lipschitz_bounds(self):
        bound = (1 + self.stretch**2) ** 0.5
        return bound, bound


def laws_of(case):
    return {name for name in dir(case) if name.startswith("test_")}


@pytest.mark.parametrize("stretch", [1.0, 0.0])
def test_a_map_without_parameters_passes_every_law(stretch):
    """An isometry too, whose log-determinant is 0."""

    class TestStretched(InjectionLaws):
        input_dim = 2

        def make(self):
            return Stretched(2, stretch)

    assert set(run_laws(TestStretched)) == laws_of(InjectionLaws)


def test_a_likelihood_around_it_passes_every_law():
    class TestNormal(LikelihoodLaws):
        def make(self):
            return InjectiveNormal(Stretched(1))

    assert set(run_laws(TestNormal)) == laws_of(LikelihoodLaws)


def test_run_laws_runs_each_on_its_own_and_refuses_none():
    seen = []

    class TestCounting(PotentialLaws):
        def make(self):
            seen.append(id(self))
            return table.POTENTIALS["quadratic"]()

    assert run_laws(TestCounting) == sorted(laws_of(PotentialLaws))
    with pytest.raises(ArgumentError, match="has no laws"):
        run_laws(int)


def broken(base, **changes):
    return type("Broken", (base,), changes)


class Shifting(Family):
    """A softmax of as many numbers as categories: a common shift of them is lost."""

    support = constraints.nonnegative_integer
    factorised = False

    def forward(self, eta, total_count=None):
        return dist.Categorical(logits=eta)

    def event_shape(self, parameter_dim):
        return torch.Size([])

    def check_support(self, x, parameter_dim):
        return super().check_support(x, parameter_dim) & (x < parameter_dim)


class Doubled(Family):
    """A Normal whose closed forms are those of twice the information."""

    def forward(self, eta, total_count=None):
        return dist.Normal(eta, 1.0)

    def fisher_information(self, eta, total_count=None):
        return torch.full_like(eta, 2.0)

    def bhattacharyya(self, eta, other):
        return (eta - other).square().sum(-1) / 4

    def initial_eta(self, x, parameter_dim):
        return 0.1 / x


class OffByOne(Family):
    """Bernoulli with the information of a Normal, wrong where outcomes can be summed."""

    support = constraints.boolean

    def forward(self, eta, total_count=None):
        return dist.Bernoulli(logits=eta)

    def fisher_information(self, eta, total_count=None):
        return torch.full_like(eta, 0.25)

    def initial_eta(self, x, parameter_dim):
        return x.logit()


class Wide(Family):
    def forward(self, eta, total_count=None):
        return dist.Normal(eta, 1.0)

    def flat_dim(self, parameter_dim):
        return parameter_dim + 1


class Absent(Family):
    support = constraints.positive

    def forward(self, eta, total_count=None):
        return dist.Exponential(eta.exp())


@pytest.mark.parametrize(
    ("family", "law"),
    [
        (Shifting, "test_different_parameters_are_different_distributions"),
        (Doubled, "test_fisher_information"),
        (Doubled, "test_bhattacharyya_distance"),
        (Doubled, "test_initial_eta_is_near_the_data"),
        (OffByOne, "test_fisher_information"),
        (OffByOne, "test_initial_eta_is_finite_wherever_data_can_lie"),
        (Wide, "test_shapes"),
        (Absent, "test_what_stands_for_a_missing_value_lies_in_the_support"),
    ],
)
def test_a_wrong_family_is_found_out(family, law):
    case = broken(FamilyLaws, make=lambda self: family())
    with pytest.raises(AssertionError):
        getattr(case(), law)()


class Stale(Injection):
    """Keeps its first output, whatever the parameters become."""

    def __init__(self):
        super().__init__(2, 2)
        self.weight = torch.nn.Parameter(torch.tensor(1.3))
        self.memory = {}

    def _call(self, x):
        key = x.data_ptr()
        if key not in self.memory:
            self.memory[key] = self.weight.exp() * x
        return self.memory[key]

    def _inverse(self, y):
        return y / self.weight.exp()

    def jacobian(self, z):
        eye = self.weight.exp() * torch.eye(2, dtype=z.dtype)
        return eye.expand(*z.shape[:-1], 2, 2)

    def lipschitz_bounds(self):
        return self.weight.exp().item(), self.weight.exp().item()

    def __deepcopy__(self, memo):
        other = Stale().double()
        other.load_state_dict(self.state_dict())
        return other


class Early:
    """Conditions at once, as a conditional transform should not."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def double(self):
        return Early(self.inner.double())

    def condition(self, context):
        conditioned = self.inner.condition(context)
        conditioned.potential = conditioned.potential.evaluated()
        return conditioned


@pytest.mark.parametrize(
    "law",
    [
        "test_nothing_is_stale_after_a_parameter_update",
        "test_three_optimiser_steps_on_its_inverse",
    ],
)
def test_a_stale_memory_is_found_out(law):
    case = broken(TransformLaws, input_dim=2, make=lambda self: Stale())
    with pytest.raises((AssertionError, RuntimeError)):
        getattr(case(), law)()


@pytest.mark.parametrize(
    "law", ["test_conditioning_is_deferred", "test_three_optimiser_steps_on_one_transform"]
)
def test_a_context_evaluated_too_early_is_found_out(law):
    class TestEarly(ConditionalTransformLaws):
        input_dim, context_dim = 3, 2

        def make(self):
            return table.conditional()

        def transform_of(self, made):
            return Early(made).condition(self.contexts(made))

    case = TestEarly()
    if law == "test_conditioning_is_deferred":
        case.make_double = lambda: Early(table.conditional().double())
        case.contexts = lambda made, *batch: torch.randn(*batch, 2, dtype=torch.double)
    with pytest.raises((AssertionError, RuntimeError)):
        getattr(case, law)()


@pytest.mark.parametrize("family", [BernoulliFamily, PoissonFamily])
def test_sums_and_draws_agree_about_the_closed_forms(family, monkeypatch):
    """Where both are possible: without enumeration the laws draw, and still pass."""
    case = broken(FamilyLaws, make=lambda self: family())()

    def draws(family, eta):
        return case.distribution(family, eta).sample((20_000,)), None

    monkeypatch.setattr(case, "_outcomes", draws)
    case.test_fisher_information()
    case.test_bhattacharyya_distance()
