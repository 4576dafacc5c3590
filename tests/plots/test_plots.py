import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pyro_idvae import IDVAE, FitResult, fit, from_guide, plot_losses, plot_prior_posterior
from pyro_idvae.arviz_io import Variable, to_arviz
from pyro_idvae.errors import ArgumentError

mpl.use("agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def draws(**options):
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    return from_guide(vae.model, vae.guide, torch.randn(5, 4), num_samples=40, **options)


def test_prior_and_posterior_share_their_panels():
    axes = plot_prior_posterior({"a": draws(), "b": draws()}, num_data=3, num_latents=1)
    assert axes.shape == (3, 1)
    for ax in axes.flat:
        assert len(ax.lines) == 2
        assert len(ax.collections) == 1
    assert axes[0, 0].get_ylabel() == "data 0"
    assert axes[-1, 0].get_xlabel() == "latent[0]"
    legend = axes[0, 0].figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["prior", "a", "b"]
    axes[0, 0].figure.canvas.draw()


def test_the_curve_is_the_draws_density():
    data = draws()
    axes = plot_prior_posterior(data)
    from pyro_idvae.arviz_io import density, groups_of

    values = groups_of(data)["posterior"]["latent"].values[0, :, 2, 1]
    x, y = axes[2, 1].lines[0].get_data()
    grid, height = density(values)
    np.testing.assert_allclose(x, grid)
    np.testing.assert_allclose(y, height)


def test_labels_and_given_axes():
    _, mine = plt.subplots(2, 2)
    names = {"data": ["one", "two", "three", "four", "five"]}
    axes = plot_prior_posterior(draws(coords=names), num_data=2, axes=mine)
    assert axes[1, 0].get_ylabel() == "two"
    assert axes[0, 0] is mine[0, 0]


def test_global_latents_have_one_row():
    rng = np.random.default_rng(0)
    values = Variable(rng.normal(size=(2, 100)), ())
    data = to_arviz({"posterior": {"mean": values}, "prior": {"mean": values}})
    axes = plot_prior_posterior(data)
    assert axes.shape == (1, 1)
    assert axes[0, 0].get_ylabel() == "all data"


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ArgumentError, match="var_name='z'"):
        plot_prior_posterior(draws(), var_name="z")
    rng = np.random.default_rng(0)
    data = to_arviz({"posterior": {"m": Variable(rng.normal(size=(2, 100)), ())}})
    with pytest.raises(ArgumentError, match="expected prior and posterior"):
        plot_prior_posterior(data)
    with pytest.raises(ArgumentError, match="no epochs"):
        plot_losses(FitResult())
    with pytest.raises(ArgumentError, match="no epochs"):
        plot_losses({})


def test_losses_are_drawn_as_elbos():
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    result = fit(
        vae.model, vae.guide, torch.randn(30, 4), num_epochs=5, validation=0.2, progress=False
    )
    ax = plot_losses(result)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(labels) == ["best epoch, kept", "training", "validation"]
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["training"], -np.array(result.losses))
    assert "nats" in ax.get_ylabel()
    _, mine = plt.subplots()
    assert plot_losses({"a": result, "b": result}, ax=mine) is mine
    assert len(mine.get_legend().get_texts()) == 5
