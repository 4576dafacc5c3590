import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import xarray as xr

from pyro_idvae import CollapseReport, plot_collapse
from pyro_idvae.errors import ArgumentError

mpl.use("Agg")


def report(upper=1.2):
    table = pd.DataFrame(
        {
            "kl": [0.01, 0.06, 1.0, -0.001],
            "kl_lower": [0.0, 0.0, 0.9, 0.0],
            "kl_upper": [0.02, 0.08, upper, 0.01],
            "verdict": ["collapsed", "undecided", "informative", "collapsed"],
        },
        index=["z[0]", "z[1]", "z[2]", "w"],
    )
    vector = pd.Series(
        {
            "quantity": "J",
            "estimate": upper,
            "lower": upper,
            "upper": upper,
            "verdict": "informative",
        }
    )
    return CollapseReport(table, vector, xr.Dataset(), "informative", 0.05, 0.95, "nuts", 3)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_every_latent_has_its_interval():
    ax = plot_collapse(report())
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["all, J", "z[0]", "z[1]", "z[2]", "w"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["collapsed", "informative", "undecided", "ε = 0.05"]
    spans = {
        (segment[0, 1], segment[0, 0], segment[1, 0])
        for lines in ax.collections
        for segment in lines.get_segments()
    }
    assert (3, 0.9, 1.2) in spans
    assert len(spans) == 5
    ax.figure.canvas.draw()


def test_given_axes_are_used():
    _, ax = plt.subplots()
    assert plot_collapse(report(), ax=ax) is ax
    assert ax.get_xlabel() == "divergence from the prior (nats)"


def test_an_infinite_divergence_runs_out_of_the_picture():
    ax = plot_collapse(report(float("inf")))
    assert ax.get_xlim()[1] < 10
    ax.figure.canvas.draw()


def test_something_else_is_refused():
    with pytest.raises(ArgumentError, match="report is a dict"):
        plot_collapse({})
