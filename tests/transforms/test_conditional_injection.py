"""Maps that depend on a context, and have one floor for all of them."""

import math

import pytest
import torch

from pyro_idvae.errors import (
    ArgumentError,
    NoCertificateError,
    NotInjectiveError,
    ShapeError,
)
from pyro_idvae.testing import InjectionLaws, lipschitz_search
from pyro_idvae.transforms import (
    ConditionalInjection,
    InjectiveLinear,
    brenier,
    conditional_brenier,
    conditional_injection,
)
from tests.testing import table

CONTEXT = 3


def wild(**options):
    torch.manual_seed(0)
    return table.depending_injection(**options).double()


class TestAtContext(InjectionLaws):
    input_dim = 2

    def make(self):
        return table.CONDITIONAL_INJECTIONS["conditional injection"]()

    def transform_of(self, made):
        return made.condition(torch.tensor([0.3, -1.0, 2.0]).to(made.beta.raw_basis))


class TestWithoutLastMap(TestAtContext):
    def make(self):
        return table.CONDITIONAL_INJECTIONS["conditional injection without g2"]()


@pytest.mark.parametrize("output", [(8,), None])
def test_the_floor_holds_for_every_context(output):
    injection = wild(output_hidden_dims=output, strong_convexity=0.7, min_singular_value=0.8)
    torch.manual_seed(1)
    for scale in (0.1, 1.0, 30.0):
        at = injection.condition(scale * torch.randn(CONTEXT, dtype=torch.double))
        low, high = at.lipschitz_bounds()
        assert low >= injection.floor() * (1 - 1e-9)
        least, most = lipschitz_search(at, 2, num_steps=60)
        assert least >= low * (1 - 1e-6)
        assert most <= high * (1 + 1e-6)
    wanted = 0.7 * 0.8 * (0.7 if output else 1.0)
    assert injection.floor() >= wanted * (1 - 1e-6)


def test_contexts_and_points_broadcast():
    injection = wild()
    h, z = torch.randn(4, CONTEXT).double(), torch.randn(6, 4, 2).double()
    together = injection.condition(h)(z)
    assert together.shape == (6, 4, 5)
    alone = torch.stack([injection.condition(h[i])(z[:, i]) for i in range(4)], 1)
    torch.testing.assert_close(together, alone)
    one = injection.condition(h)(z[0, 0])
    assert one.shape == (4, 5)


def test_a_ceiling_is_kept_for_every_context():
    injection = wild(smoothness=4.0)
    assert math.isfinite(injection.ceiling())
    for scale in (0.1, 30.0):
        _, high = injection.condition(scale * torch.randn(9, CONTEXT).double()).lipschitz_bounds()
        assert high <= injection.ceiling() * (1 + 1e-9)
    with pytest.raises(NoCertificateError, match="smoothness"):
        wild().ceiling()


def test_all_parameters_are_trained_through_what_is_conditioned():
    injection = wild()
    h, z = torch.randn(4, CONTEXT).double(), torch.randn(4, 2).double()
    at = injection.condition(h)
    assert not list(at.parameters())
    for _ in range(3):  # one conditioned map serves while the parameters train
        injection.zero_grad()
        at(z).square().sum().backward()
        assert all(p.grad is not None for p in injection.parameters())
        with torch.no_grad():
            for parameter in injection.parameters():
                parameter.sub_(1e-3 * parameter.grad)


def test_the_shift_may_be_given_with_each_call():
    injection = wild(output_hidden_dims=None, shift=None)
    z, h = torch.randn(4, 2).double(), torch.randn(4, CONTEXT).double()
    plain = injection.condition(h)(z)
    shift = torch.randn(4, 5).double()
    torch.testing.assert_close(injection.condition(h, shift)(z), plain + shift)
    own = wild()
    torch.testing.assert_close(own.condition(h, own.shift(h))(z), own.condition(h)(z))
    with pytest.raises(ShapeError, match="shift"):
        own.condition(h, shift[:, :4])


@pytest.mark.parametrize(
    ("wrong", "error", "named"),
    [
        (lambda: conditional_injection(6, 5, 3), NotInjectiveError, "latent_dim=6"),
        (lambda: conditional_injection(2, 5, 0), ArgumentError, "context_dim=0"),
        (
            lambda: conditional_injection(2, 5, 3, strong_convexity=0.0),
            ArgumentError,
            "strong_convexity=0.0",
        ),
        (lambda: conditional_injection(2, 5, 3, order=1), ArgumentError, "order"),
        (
            lambda: ConditionalInjection(brenier(2), InjectiveLinear(2, 5), None, None),
            ArgumentError,
            "g1 is a Brenier",
        ),
        (
            lambda: ConditionalInjection(
                conditional_brenier(3, 2), InjectiveLinear(2, 5), torch.nn.Linear(2, 5), None
            ),
            ShapeError,
            "g1 has dimension 3",
        ),
        (
            lambda: ConditionalInjection(
                conditional_brenier(2, 2), InjectiveLinear(2, 5), torch.nn.Linear(2, 5), brenier(4)
            ),
            ShapeError,
            "g2 has dimension 4",
        ),
        (
            lambda: ConditionalInjection(
                conditional_brenier(2, 2), InjectiveLinear(2, 5), 3.0, None
            ),
            ArgumentError,
            "shift",
        ),
        (
            lambda: conditional_injection(2, 5, 3).condition(torch.zeros(4, 2)),
            ShapeError,
            "context has shape",
        ),
    ],
)
def test_wrong_parts_are_named(wrong, error, named):
    with pytest.raises(error, match=named):
        wrong()
