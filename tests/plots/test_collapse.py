import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from pyro_idvae import IDVAE, collapse_report, from_guide, plot_collapse
from pyro_idvae.errors import ArgumentError

mpl.use("Agg")


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    vae = IDVAE(5, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    return collapse_report(from_guide(vae.model, vae.guide, torch.randn(3, 5), num_samples=60))


def report(measured, upper=1.2):
    table = pd.DataFrame(
        {
            "kl": [0.01, 0.06, 1.0, -0.001, 0.01],
            "kl_lower": [0.0, 0.0, 0.9, 0.0, 0.0],
            "kl_upper": [0.02, 0.08, upper, 0.01, 0.02],
            "limit": [0.03, 0.5, upper, 0.02, 0.7],
            "verdict": ["collapsed", "undecided", "informative", "collapsed", "joint"],
        },
        index=["z[0]", "z[1]", "z[2]", "w", "v"],
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
    return dataclasses.replace(measured, table=table, vector=vector, epsilon=0.05)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_every_latent_has_its_interval_and_its_limit(measured):
    ax = plot_collapse(report(measured))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["all, J", "z[0]", "z[1]", "z[2]", "w", "v"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    words = ["collapsed", "informative", "joint", "undecided", "ε = 0.05", "limit that decides"]
    assert legend == words
    spans = {
        (segment[0, 1], segment[0, 0], segment[1, 0])
        for lines in ax.collections
        for segment in lines.get_segments()
    }
    assert (3, 0.9, 1.2) in spans
    assert (2, 0.0, 0.08) in spans
    assert (2, 0.0, 0.5) in spans
    strokes = [line.get_xydata() for line in ax.lines if line.get_marker() == "|"]
    assert sorted(map(tuple, np.concatenate(strokes).tolist()), key=lambda p: p[1]) == [
        (1.2, 0),
        (0.03, 1),
        (0.5, 2),
        (1.2, 3),
        (0.02, 4),
        (0.7, 5),
    ]
    ax.figure.canvas.draw()


def test_every_verdict_of_a_report_has_a_colour(measured):
    ax = plot_collapse(measured)
    shown = sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() in "oD")
    assert shown == len(measured.table) + 1


def test_the_legend_is_off_intervals_and_titles(measured):
    ax = plot_collapse(report(measured))
    ax.set_title("a title")
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert box.x0 >= ax.get_window_extent().x1 - 1
    assert box.x1 <= ax.figure.bbox.x1


def test_given_axes_are_used(measured):
    _, ax = plt.subplots()
    assert plot_collapse(report(measured), ax=ax) is ax
    assert ax.get_xlabel() == "divergence from the prior (nats)"


def test_an_infinite_divergence_runs_out_of_the_picture(measured):
    ax = plot_collapse(report(measured, float("inf")))
    assert ax.get_xlim()[1] < 10
    ax.figure.canvas.draw()


def test_something_else_is_refused():
    with pytest.raises(ArgumentError, match="report is a dict"):
        plot_collapse({})
