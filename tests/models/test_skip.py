"""Networks that read their input in every layer."""

import pytest
import torch

from pyro_idvae import fit
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.models import VAE, Encoder, SkipMLP


def test_the_formula():
    torch.manual_seed(0)
    network, z = SkipMLP([2, 3, 4, 5], torch.nn.Tanh), torch.randn(7, 2)
    (w1, b1), (w2, b2), (w3, b3) = ((layer.weight, layer.bias) for layer in network.layers)
    u2, u3 = (skip.weight for skip in network.skips)
    first = torch.tanh(z @ w1.T + b1)
    second = torch.tanh(first @ w2.T + z @ u2.T + b2)
    torch.testing.assert_close(network(z), second @ w3.T + z @ u3.T + b3)
    assert network(torch.zeros(2, 4, 2)).shape == (2, 4, 5)


def test_it_is_a_decoder():
    torch.manual_seed(0)
    likelihood = NeuralLikelihood(make_family("normal"), SkipMLP([2, 8, 8, 4]))
    vae = VAE(likelihood, Encoder(4, 2, hidden_dims=[8]))
    x = torch.randn(30, 2) @ torch.randn(2, 4)
    result = fit(vae.model, vae.guide, x, num_epochs=30, seed=0, progress=False)
    assert result.losses[-1] < result.losses[0]
    assert all(skip.weight.grad is not None for skip in likelihood.network.skips)


def test_bad_input():
    with pytest.raises(ArgumentError, match="a hidden layer at least"):
        SkipMLP([2, 5])
    with pytest.raises(ArgumentError, match="widths=3"):
        SkipMLP(3)
    with pytest.raises(ArgumentError, match="activation is a int"):
        SkipMLP([2, 3, 4], activation=3)
    with pytest.raises(ShapeError, match="z has shape"):
        SkipMLP([2, 3, 4])(torch.zeros(5, 3))
