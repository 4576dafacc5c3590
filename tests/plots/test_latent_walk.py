import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pyro_idvae import IDVAE, plot_latent_walk
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.models import mlp

mpl.use("agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def likelihood_of(family, data_dim=6, latent_dim=3):
    vae = IDVAE(data_dim, latent_dim, family, hidden_dims=[8], encoder_hidden_dims=[4])
    return vae.likelihood


def test_rows_are_the_means_along_one_latent():
    likelihood = likelihood_of("normal")
    start = torch.tensor([0.5, -1.0, 2.0])
    axes = plot_latent_walk(likelihood, start, image_shape=(2, 3), dims=[2, 0], num_steps=3)
    assert axes.shape == (2, 3)
    z = start.clone()
    z[0] = 3.0
    wanted = likelihood.condition(z).mean.detach().numpy().reshape(2, 3)
    np.testing.assert_allclose(axes[1, 2].images[0].get_array(), wanted, rtol=1e-5)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["latent[2]", "latent[0]"]
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
    lines = plot_latent_walk(decoder, torch.zeros(2))
    assert [max(np.ptp(line.get_ydata()) for line in ax.lines) > 0 for ax in lines] == [True, False]


def test_images_of_many_latents_stand_in_several_columns():
    likelihood = likelihood_of("normal", data_dim=30, latent_dim=14)
    axes = plot_latent_walk(likelihood, torch.zeros(14), image_shape=(5, 6), num_steps=2)
    assert axes.shape == (14, 2)
    grid = axes[0, 0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (7, 4)
    assert len({ax.get_subplotspec().num1 for ax in axes.flat}) == 28
    assert [bool(line[0].get_xlabel()) for line in axes] == [*[False] * 6, True] * 2
    assert axes[0, 0].figure.get_size_inches()[1] < 8


def test_data_that_are_no_images_are_lines():
    likelihood = likelihood_of("normal")
    names = ["mass", "age", "height", "size", "length", "dose"]
    axes = plot_latent_walk(likelihood, torch.ones(3), dims=[1], feature_names=names, name="z")
    (ax,) = axes
    assert ax.get_xlabel() == "z[1]"
    at, mean = {line.get_label(): line.get_data() for line in ax.lines}["size"]
    z = torch.tensor([1.0, float(at[5]), 1.0])
    assert mean[5] == pytest.approx(likelihood.condition(z).mean[3].item(), rel=1e-4)
    legend = ax.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == names
    assert ax.get_yscale() == "linear"
    ax.figure.canvas.draw()


@pytest.mark.parametrize("family", ["poisson", "negativebinomial", "gamma", "multinomial"])
def test_counts_and_positive_data_are_on_a_log_scale(family):
    options = {"total_count": torch.tensor(50.0)} if family == "multinomial" else {}
    axes = plot_latent_walk(likelihood_of(family, data_dim=20), torch.zeros(3), **options)
    assert {ax.get_yscale() for ax in axes} == {"log"}
    for ax in axes:
        grey = ax.collections[0].get_segments()
        assert len(ax.lines) + len(grey) == 20
    assert axes[0].figure.legends[0].get_title().get_text() == "8 of 20 features named"
    axes[0].figure.canvas.draw()


@pytest.mark.parametrize("family", ["bernoulli", "beta", "laplace"])
def test_other_data_are_on_a_linear_scale(family):
    axes = plot_latent_walk(likelihood_of(family), torch.zeros(3))
    assert {ax.get_yscale() for ax in axes} == {"linear"}


def test_of_categories_the_lines_are_probabilities():
    axes = plot_latent_walk(likelihood_of("categorical"), torch.zeros(3))
    for ax in axes:
        total = sum(line.get_ydata() for line in ax.lines)
        np.testing.assert_allclose(total, 1.0, rtol=1e-5)
    assert axes[0].figure.get_supylabel() == "probability"


def test_the_features_that_move_most_are_named():
    network = mlp([1, 4, 12])
    decoder = NeuralLikelihood(make_family("normal"), network)
    with torch.no_grad():
        network[-1].weight[:] = 0
        network[-1].weight[[3, 7, 8]] = 5.0
    (ax,) = plot_latent_walk(decoder, torch.zeros(1))
    assert {"x[3]", "x[7]", "x[8]"} <= {line.get_label() for line in ax.lines}
    assert len(ax.lines) == 8


def test_others_figures_keep_their_labels():
    likelihood = likelihood_of("normal")
    figure, mine = plt.subplots(1, 3)
    axes = plot_latent_walk(likelihood, torch.zeros(3), axes=mine)
    assert axes[1] is mine[1]
    assert axes[0].get_ylabel() == "mean of each feature"
    images, grid = plt.subplots(3, 2)
    plot_latent_walk(likelihood, torch.zeros(3), image_shape=(2, 3), num_steps=2, axes=grid)
    for given in (figure, images):
        assert given.legends == []
        assert given.get_supxlabel() == given.get_supylabel() == given.get_suptitle() == ""


def test_bad_input_is_refused():
    likelihood = likelihood_of("normal")
    for error, message, options in (
        (ArgumentError, "3 latent dimensions", {"dims": [3]}),
        (ArgumentError, "limits=", {"limits": (1.0, 1.0)}),
        (ArgumentError, "num_steps=1", {"num_steps": 1}),
        (ShapeError, "has 4 pixels but an observation 6", {"image_shape": (2, 2)}),
        (ShapeError, "feature_names has 1 names but x 6", {"feature_names": ["a"]}),
        (ShapeError, "axes has 2 axes: expected 3", {"axes": plt.subplots(2)[1]}),
    ):
        with pytest.raises(error, match=message):
            plot_latent_walk(likelihood, torch.zeros(3), **options)
    with pytest.raises(ShapeError, match="start has shape"):
        plot_latent_walk(likelihood, torch.zeros(2, 3))
