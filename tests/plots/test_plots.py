import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pyro_idvae import IDVAE, FitResult, fit, from_guide, plot_losses, plot_prior_posterior
from pyro_idvae.arviz_io import Variable, groups_of, to_arviz
from pyro_idvae.errors import ArgumentError
from pyro_idvae.plots.marginals import curve

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
    values = groups_of(data)["posterior"]["latent"].values[0, :, 2, 1]
    x, y = axes[2, 1].lines[0].get_data()
    grid, height = curve(values)
    np.testing.assert_allclose(x, grid)
    np.testing.assert_allclose(y, height)
    assert y[0] == y[-1] == 0


def test_a_narrow_posterior_does_not_hide_its_prior():
    rng = np.random.default_rng(0)
    prior = Variable(rng.normal(size=(1, 300)), ())
    narrow = Variable(1e-3 * rng.normal(size=(1, 300)), ())
    ax = plot_prior_posterior(to_arviz({"posterior": {"m": narrow}, "prior": {"m": prior}}))[0, 0]
    assert ax.get_title(loc="right").startswith("prior ×")
    fill = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert fill.max() > 0.1 * ax.get_ylim()[1]
    point = Variable(np.zeros((1, 300)), ())
    ax = plot_prior_posterior(to_arviz({"posterior": {"m": point}, "prior": {"m": prior}}))[0, 0]
    assert set(ax.lines[0].get_xdata()) == {0.0}


def test_what_is_left_out_is_counted_and_draws_are_named():
    axes = plot_prior_posterior(draws(), num_data=2, num_latents=1)
    legend = axes[0, 0].figure.legends[0]
    assert legend.get_title().get_text() == "2 of 5 data points shown\n1 of 2 latents shown"
    assert [text.get_text() for text in legend.get_texts()] == ["prior", "guide"]
    whole = plot_prior_posterior(draws(), num_data=5)[0, 0].figure.legends[0]
    assert whole.get_title().get_text() == ""


def test_labels_and_given_axes():
    _, mine = plt.subplots(2, 2)
    names = {"data": ["one", "two", "three", "four", "five"]}
    axes = plot_prior_posterior(draws(coords=names), num_data=2, axes=mine)
    assert axes[1, 0].get_ylabel() == "two"
    assert axes[0, 0] is mine[0, 0]
    # Legends of a figure are for figures of our own.
    assert axes[0, 0].figure.legends == []
    assert [text.get_text() for text in axes[0, 1].get_legend().get_texts()] == ["prior", "guide"]


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
    texts = [text.get_text() for text in mine.get_legend().get_texts()]
    assert texts == ["a", "b", "training", "validation", "best epoch, kept"]


@pytest.mark.parametrize("count", [1, 4])
def test_the_legend_of_losses_is_off_lines_and_titles(count):
    rng = np.random.default_rng(0)
    fits = {
        f"a model of some name {i}": FitResult(
            losses=list(90 + rng.normal(size=30)),
            validation_losses=list(90 + rng.normal(size=30)),
            best_epoch=5,
        )
        for i in range(count)
    }
    ax = plot_losses(fits if count > 1 else fits.popitem()[1])
    ax.set_title("a title")
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert not box.overlaps(ax.get_window_extent())
    assert not box.overlaps(ax.title.get_window_extent())
    assert box.x1 <= ax.figure.bbox.x1
    assert ax.get_window_extent().width > 0.4 * ax.figure.bbox.width
