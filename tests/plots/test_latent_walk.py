import numpy as np
import pytest
import torch

from pyro_idvae import IDVAE, plot_latent_walk
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.models import mlp


def test_rows_are_the_means_along_one_latent():
    likelihood = IDVAE(6, 3, "normal", hidden_dims=[8], encoder_hidden_dims=[4]).likelihood
    start = torch.tensor([0.5, -1.0, 2.0])
    axes = plot_latent_walk(likelihood, start, image_shape=(2, 3), dims=[2, 0], num_steps=3)
    assert axes.shape == (2, 3)
    z = start.clone()
    z[0] = 3.0
    wanted = likelihood.condition(z).mean.detach().numpy().reshape(2, 3)
    np.testing.assert_allclose(axes[1, 2].images[0].get_array(), wanted, rtol=1e-5)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["z[2]", "z[0]"]
    assert [ax.get_xlabel() for ax in axes[1]] == ["-3.0", "0.0", "3.0"]
    assert len({ax.images[0].get_clim() for ax in axes.flat}) == 1


def test_an_ignored_latent_is_a_row_of_equal_images():
    network = mlp([2, 4, 6])
    with torch.no_grad():
        network[0].weight[:, 1] = 0
    decoder = NeuralLikelihood(make_family("bernoulli"), network)
    axes = plot_latent_walk(decoder, torch.zeros(2), image_shape=(2, 3))
    moving, still = ([ax.images[0].get_array() for ax in row] for row in axes)
    assert all(np.array_equal(still[0], image) for image in still)
    assert not np.array_equal(moving[0], moving[-1])


def test_bad_input_is_refused():
    likelihood = IDVAE(6, 3, "normal", hidden_dims=[8], encoder_hidden_dims=[4]).likelihood
    with pytest.raises(ArgumentError, match="3 latent dimensions"):
        plot_latent_walk(likelihood, torch.zeros(3), image_shape=(2, 3), dims=[3])
    with pytest.raises(ShapeError, match="has 4 pixels but an observation 6"):
        plot_latent_walk(likelihood, torch.zeros(3), image_shape=(2, 2))
    with pytest.raises(ShapeError, match="start has shape"):
        plot_latent_walk(likelihood, torch.zeros(2, 3), image_shape=(2, 3))
