import pytest
import torch

from pyro_idvae import find_witness
from pyro_idvae.distributions import (
    InjectiveBernoulli,
    InjectiveCategorical,
    InjectiveMultinomial,
    InjectiveNormal,
    InjectiveStudentT,
    NeuralLikelihood,
    make_family,
)
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.models import mlp
from pyro_idvae.transforms import brenier_injection, injective_linear


@pytest.mark.parametrize("family", ["normal", "bernoulli", "poisson", "categorical"])
def test_a_dead_direction_of_a_relu_network_is_found(family):
    torch.manual_seed(0)
    network = mlp([3, 32, 32, 6])
    dead = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5]), dim=0)
    with torch.no_grad():
        weight = network[0].weight
        weight -= (weight @ dead).unsqueeze(-1) * dead
    witness = find_witness(NeuralLikelihood(make_family(family), network))
    assert witness.ratio < 0.02
    assert abs(float(witness.direction @ dead.double())) > 0.99
    assert (witness.other - witness.z).norm() >= 0.5 - 1e-5
    for value in (witness.z, witness.other):
        assert value.norm() <= 3**0.5 + 2 + 1e-4
    assert "apart" in str(witness)


def test_an_injective_decoder_never_goes_below_its_floor():
    for seed in range(3):
        torch.manual_seed(seed)
        f = brenier_injection(2, 6, hidden_dims=[16], lipschitz_bounds=(0.8, 4.0)).double()
        witness = find_witness(InjectiveNormal(f, scale=2.0), seed=seed)
        assert 0.8 * (1 - 1e-9) <= witness.ratio <= 4.0


def test_the_weakest_direction_of_a_linear_map_is_its_smallest_singular_value():
    torch.manual_seed(0)
    f = injective_linear(3, 5, min_singular_value=0.1).double()
    with torch.no_grad():
        f.raw_singular.copy_(torch.tensor([-5.0, 1.0, 2.0]))
    witness = find_witness(InjectiveNormal(f))
    assert witness.ratio == pytest.approx(f.lipschitz_bounds()[0], rel=1e-3)
    assert abs(float(witness.direction[0])) > 0.999


def test_the_same_seed_finds_the_same_pair():
    torch.manual_seed(0)
    likelihood = InjectiveBernoulli(brenier_injection(2, 5, hidden_dims=[8]))
    first, second = (find_witness(likelihood, num_steps=20, seed=3) for _ in range(2))
    assert torch.equal(first.z, second.z)
    assert first.ratio > 0


def test_bad_arguments_are_named():
    f = brenier_injection(2, 4, hidden_dims=[8])
    with pytest.raises(ArgumentError, match="model is a BrenierInjection and x=None"):
        find_witness(f)
    with pytest.raises(ArgumentError, match="min_separation=3"):
        find_witness(InjectiveNormal(f), radius=1.0, min_separation=3.0)
    with pytest.raises(NoCertificateError, match="no closed form"):
        find_witness(InjectiveStudentT(f))


def test_a_multinomial_is_judged_by_one_of_its_draws():
    f = brenier_injection(2, 4, hidden_dims=[8])
    many, one = (
        find_witness(kind(f), num_steps=20) for kind in (InjectiveMultinomial, InjectiveCategorical)
    )
    assert torch.equal(many.z, one.z)
    assert many.distance == one.distance
