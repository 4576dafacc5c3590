"""What find_witness refuses, and why."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import IDVAE, find_witness
from pyro_idvae.distributions import InjectiveNormal, NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.transforms import brenier_injection

X = torch.randn(5)


def observed(loc, x):
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def normal(x):
    observed(pyro.sample("m", dist.Normal(0.0, 1.0)), x)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(bad):
    likelihood = InjectiveNormal(brenier_injection(2, 4, hidden_dims=[8]))
    name, weight = next(iter(likelihood.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = bad
    with pytest.raises(ArgumentError, match=rf"the likelihood's weights are not finite.*{name}"):
        find_witness(likelihood)


def test_weights_of_a_model_that_are_not_finite_are_named():
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    name, weight = next(iter(vae.model.named_parameters()))
    with torch.no_grad():
        weight.view(-1)[0] = math.nan
    for model in (vae.model, vae.model.forward):
        with pytest.raises(ArgumentError, match=rf"the model's weights are not finite.*{name}"):
            find_witness(model, torch.randn(5, 4))

    def with_param(x):
        observed(pyro.sample("m", dist.Normal(0.0, 1.0)) * pyro.param("w", torch.tensor(1.0)), x)

    pyro.param("w", torch.tensor(math.nan))
    with pytest.raises(ArgumentError, match=r"the model's weights are not finite: \['w'\]"):
        find_witness(with_param, X)


def test_a_likelihood_that_overflows_everywhere_is_said_to():
    class Overflowing(torch.nn.Module):
        def forward(self, z):
            return z.sum(-1, keepdim=True) * math.inf

    likelihood = NeuralLikelihood(
        make_family("normal"), Overflowing(), latent_dim=2, parameter_dim=1
    )
    with pytest.raises(DataError, match="no two latent values have a finite distance"):
        find_witness(likelihood, num_steps=1)


def test_models_without_what_it_takes():
    def no_latent(x):
        observed(torch.zeros(()), x)

    def no_data(x):
        pyro.sample("m", dist.Normal(0.0, 1.0))

    def factor(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.factor("extra", -m.square())
        observed(m, x)

    def discrete(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def counted(x):
        observed(pyro.sample("n", dist.Poisson(3.0)), x)

    def moving(x):
        top = pyro.sample("top", dist.LogNormal(0.0, 1.0))
        observed(pyro.sample("u", dist.Uniform(0.0, top)), x)

    def fixed(x):
        observed(pyro.sample("m", dist.Delta(torch.tensor(1.0))), x)

    for model, words in (
        (no_latent, "no latent sites"),
        (no_data, r"no observed site, only the latents \['m'\]"),
        (factor, r"\['extra'\] of pyro.factor"),
        (discrete, r"latent sites \['y'\] are discrete"),
        (counted, r"latent sites \['n'\] are discrete"),
        (moving, "support of the site 'u' depends on other latents"),
        (fixed, "leaves every latent at one value"),
    ):
        with pytest.raises(ArgumentError, match=words):
            find_witness(model, X)


def test_arguments_out_of_range():
    likelihood = InjectiveNormal(brenier_injection(2, 4, hidden_dims=[8]))
    with pytest.raises(ArgumentError, match="model is a function and x=None"):
        find_witness(normal)
    with pytest.raises(ArgumentError, match="x was given with a likelihood"):
        find_witness(likelihood, X)
    for arguments in ((likelihood,), (normal, X)):
        for options, words in (
            ({"radius": -1.0}, "radius=-1"),
            ({"num_starts": 0}, "num_starts=0"),
            ({"num_steps": 0}, "num_steps=0"),
            ({"learning_rate": 0.0}, "learning_rate=0"),
            ({"min_separation": 7.0}, "min_separation=7"),
        ):
            with pytest.raises(ArgumentError, match=words):
                find_witness(*arguments, **options)


def test_a_model_without_finite_distances_is_said_to_have_none():
    def point(x):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Delta(m.expand(len(x))), obs=x)

    with pytest.raises(DataError, match="no two settings in the bulk of the prior"):
        find_witness(point, X, num_steps=2)
