"""Decoders that are held apart."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import InverseLipschitz
from pyro_idvae.models import VAE, Encoder
from pyro_idvae.testing import ObjectiveTestCase
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from tests.infer.common import data
from tests.infer.objectives.common import close, refuses


class TestInverseLipschitz(ObjectiveTestCase):
    def make(self):
        return InverseLipschitz(2.0)

    def make_neutral(self):
        return InverseLipschitz(2.0, weight=0.0)

    def make_smooth(self):
        return InverseLipschitz(5.0, search_steps=0)

    def check_optimum(self):
        # A direction that would collapse is held at L.
        bed = LinearGaussian(variances=(0.5,), noise=2.0)
        bed.minimise(InverseLipschitz(0.7, weight=1e3, search_steps=0))
        close(bed.model.weight.detach().abs() / bed.noise, [0.7])


def linear_vae(values):
    """Return a VAE with a linear decoder of these singular values."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(len(values), 4)
    with torch.no_grad():
        basis, _ = torch.linalg.qr(torch.randn(4, len(values)))
        other, _ = torch.linalg.qr(torch.randn(len(values), len(values)))
        linear.weight.copy_(basis @ torch.diag(torch.tensor(values)) @ other)
    likelihood = NeuralLikelihood(make_family("normal", scale=1.0), linear)
    return VAE(likelihood, Encoder(4, len(values), hidden_dims=[8]))


def test_the_search_finds_the_direction_that_moves_least():
    vae, x = linear_vae([3.0, 1.0, 0.05]), data()
    found = {
        steps: InverseLipschitz(1.0, search_steps=steps).shortfall(vae.model, vae.guide, x)
        for steps in (0, 2, 20)
    }
    assert found[0] < 0.5
    assert 0.75 < found[2] < found[20]
    assert found[20] == pytest.approx(0.95, abs=1e-3)


def test_a_decoder_that_is_held_apart_by_construction_falls_short_of_nothing():
    vae = linear_vae([2.0, 2.0])
    assert InverseLipschitz(1.99).shortfall(vae.model, vae.guide, data()) == 0.0
    assert InverseLipschitz(2.5).shortfall(vae.model, vae.guide, data()) == pytest.approx(
        0.5, abs=1e-4
    )


@pytest.mark.parametrize("family", ["bernoulli", "poisson", "categorical", "gamma"])
def test_signals_of_other_families(family):
    torch.manual_seed(0)
    size = 3
    network = torch.nn.Linear(2, size)
    vae = VAE(
        NeuralLikelihood(make_family(family), network),
        Encoder(4 if family == "categorical" else size, 2, [8]),
    )
    x = torch.randint(0, 4, (10,)) if family == "categorical" else torch.ones(10, size)
    loss = InverseLipschitz(1e3).loss_and_grads(vae.model, vae.guide, x)
    assert loss > 1e4
    assert float(network.weight.grad.abs().max()) > 0


def test_what_has_no_rows_is_refused():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(ArgumentError, match="draws no latent in a plate"):
        InverseLipschitz().loss(model, guide, torch.zeros(3))


def test_bad_options():
    refuses(InverseLipschitz, "lipschitz=-1", lipschitz=-1)
    refuses(InverseLipschitz, "weight=-1", weight=-1)
    refuses(InverseLipschitz, "distance=0", distance=0)
    refuses(InverseLipschitz, "search_steps=-1", search_steps=-1)
