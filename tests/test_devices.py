"""Tensors are made where the tensors are that they meet: on torch's meta device, and on a GPU.

The meta device holds shapes and no numbers: a tensor made on the processor that meets one of it is
an error, as on a GPU.
"""

import pyro
import pytest
import torch
from pyro import poutine

import pyro_idvae as idvae
from pyro_idvae.programs.sites import latent_sites, observed_sites
from tests.testing.table import (
    BIJECTIONS,
    INJECTIONS,
    LIKELIHOODS,
    POTENTIALS,
    SEQUENCE_LIKELIHOODS,
)


@pytest.fixture
def unchecked():
    """Checks of values ask for numbers."""
    before = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    with pyro.validation_enabled(False):
        yield
    torch.distributions.Distribution.set_default_validate_args(before)


def on_meta(*shape):
    return torch.zeros(*shape, device="meta")


@pytest.mark.parametrize("name", POTENTIALS)
def test_potentials_make_tensors_where_their_points_are(name):
    potential = POTENTIALS[name]().to("meta")
    x = on_meta(7, potential.dim)
    assert potential(x).device.type == "meta"
    assert potential.gradient(x).device.type == "meta"
    assert all(part.device.type == "meta" for part in potential.gradient_and_hessian(x))
    assert potential.hessian_product(x, on_meta(potential.dim, 2)).device.type == "meta"


@pytest.mark.parametrize("name", [*BIJECTIONS, *INJECTIONS])
def test_maps_make_tensors_where_their_points_are(name, unchecked):
    case = {**BIJECTIONS, **INJECTIONS}[name]
    transform = case.make()
    if isinstance(transform, torch.nn.Module):
        transform = transform.to("meta")
    assert transform(on_meta(7, case.input_dim)).device.type == "meta"


@pytest.mark.parametrize("name", [n for n in LIKELIHOODS if not n.startswith("multinomial")])
def test_likelihoods_make_tensors_where_their_latents_are(name, unchecked):
    case = LIKELIHOODS[name]
    likelihood = case.make().to("meta")
    given = {key: value.to("meta") for key, value in case.options.items()}
    member = likelihood.condition(on_meta(7, likelihood.latent_dim), **given)
    x = on_meta(7, *likelihood.event_shape)
    assert member.log_prob(x).device.type == "meta"


@pytest.mark.parametrize("name", SEQUENCE_LIKELIHOODS)
def test_likelihoods_of_sequences_do_too(name, unchecked):
    likelihood = SEQUENCE_LIKELIHOODS[name]().to("meta")
    tokens = torch.zeros(7, 5, dtype=torch.long, device="meta")
    member = likelihood.condition(on_meta(7, likelihood.latent_dim), num_tokens=5)
    assert member.log_prob(tokens).device.type == "meta"


PAIRS = {
    "normal": lambda: idvae.IDVAE(5, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8]),
    "bernoulli": lambda: idvae.IDVAE(5, 2, "bernoulli", hidden_dims=[8], encoder_hidden_dims=[8]),
    "poisson": lambda: idvae.IDVAE(5, 2, "poisson", hidden_dims=[8], encoder_hidden_dims=[8]),
    "mixture": lambda: idvae.IDMVAE(5, 2, 3, hidden_dims=[8], encoder_hidden_dims=[8]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_make_tensors_where_their_data_are(name, unchecked):
    pair = PAIRS[name]().to("meta")
    x = on_meta(7, 5)
    guide = poutine.trace(pair.guide).get_trace(x)
    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(x)
    for sites in (latent_sites(guide), latent_sites(model), observed_sites(model)):
        for site in sites.values():
            assert site["fn"].log_prob(site["value"]).device.type == "meta", site["name"]
