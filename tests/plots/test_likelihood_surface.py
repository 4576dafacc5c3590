import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import IDVAE, plot_likelihood_surface
from pyro_idvae.errors import ArgumentError
from pyro_idvae.models import GaussianMixture

mpl.use("agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


X = torch.tensor([1.5, -0.5])


def model(x, weight=1.0):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(weight * z, 1.0), obs=x)


def test_a_line_is_the_log_likelihood_of_the_row():
    ax = plot_likelihood_surface(model, X, row=1, num_points=13)
    z, height = ax.lines[0].get_data()
    wanted = dist.Normal(torch.as_tensor(np.array(z)), 1.0).log_prob(X[1]).numpy()
    np.testing.assert_allclose(height, wanted - wanted.max(), atol=1e-4)
    assert ax.get_xlabel() == "z"
    assert "nats" in ax.get_ylabel()


def test_what_is_not_identified_is_flat():
    ax = plot_likelihood_surface(lambda x: model(x, 0.0), X, num_points=5)
    assert np.ptp(ax.lines[0].get_ydata()) == 0
    low, high = ax.get_ylim()
    assert high - low >= 1


def test_two_dimensions_of_a_vae():
    torch.manual_seed(0)
    vae = IDVAE(4, 3, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    x = torch.randn(3, 4)
    ax = plot_likelihood_surface(vae.model, x, row=2, dims=(2, 0), num_points=7)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent[2]", "latent[0]")
    ax.figure.canvas.draw()
    assert ax.figure.axes[1].get_ylabel().startswith("log p(x | latent)")


def test_a_global_latent_with_the_others_held():
    x = torch.randn(30)
    held = {"mu": torch.zeros(2), "sigma": torch.ones(2)}
    options = {"site": "theta", "limits": (0.1, 0.9), "num_points": 5}
    flat = plot_likelihood_surface(GaussianMixture(), x, at=held, **options)
    assert np.ptp(flat.lines[0].get_ydata()) < 1e-4
    apart = {"mu": torch.tensor([-1.0, 1.0]), "sigma": torch.ones(2)}
    curved = plot_likelihood_surface(GaussianMixture(), x, at=apart, **options)
    assert np.ptp(curved.lines[0].get_ydata()) > 1


def test_bad_arguments_are_named():
    for options, message in (
        ({"site": "y"}, "site='y'"),
        ({"row": 2}, "row=2"),
        ({"dims": (1,)}, "has 1 dimensions"),
        ({"limits": (1.0, 0.0)}, "limits="),
        ({"num_points": 1}, "num_points=1"),
    ):
        with pytest.raises(ArgumentError, match=message):
            plot_likelihood_surface(model, X, **options)
    _, ax = plt.subplots()
    assert plot_likelihood_surface(model, X, num_points=3, ax=ax) is ax
