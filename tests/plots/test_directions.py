import matplotlib as mpl
import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import collapse_report, from_guide, mcmc, plot_directions
from pyro_idvae.errors import ArgumentError

mpl.use("Agg")
OPTIONS = {"kernel": "vectorized", "num_samples": 200, "seed": 0, "progress": False}


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(1.5 * (z[:, 0] - z[:, 1]) + z[:, 2], 1.0), obs=x)


@pytest.fixture(scope="module")
def report():
    return collapse_report(mcmc(model, 2.5 * torch.randn(30), **OPTIONS))


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_dead_directions_are_on_top_with_their_limits(report):
    ax = plot_directions(report)
    dead = (report.directions["verdict"] == "collapsed").sum()
    assert dead == 2
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert [name.startswith("nothing known: ") for name in names][:dead] == [True] * dead
    assert [label.get_text() for label in ax.get_xticklabels()] == ["z[0]", "z[1]", "z[2]"]
    loadings = ax.images[0].get_array()
    seen = torch.tensor([1.5, -1.5, 1.0])
    assert abs(loadings[:dead] @ seen.numpy()).max() < 0.1
    ax.figure.canvas.draw()


def test_given_axes_and_fewer_directions(report):
    _, ax = plt.subplots()
    assert plot_directions(report, num_directions=1, ax=ax) is ax
    assert len(ax.get_yticks()) == 1


def test_what_has_no_directions_is_refused(report):
    with pytest.raises(ArgumentError, match="report is a dict"):
        plot_directions({})
    with pytest.raises(ArgumentError, match="num_directions=0"):
        plot_directions(report, num_directions=0)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x), 3), 1.0).to_event(1))

    with pytest.raises(ArgumentError, match="has no directions"):
        plot_directions(collapse_report(from_guide(model, guide, torch.randn(5))))
