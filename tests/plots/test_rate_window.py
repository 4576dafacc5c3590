import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pyro_idvae import IDVAE, certify, plot_rate_window
from pyro_idvae.errors import ArgumentError

mpl.use("agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def certificate(low=1.0, high=5.0):
    return certify(IDVAE(6, 2, "normal", rate_window=(low, high)).likelihood)


def estimate():
    vae = IDVAE(6, 2, "bernoulli", hidden_dims=[8], encoder_hidden_dims=[8])
    return certify(vae.likelihood, num_samples=50)


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_windows_are_bars_from_low_to_high():
    ax = plot_rate_window(
        {"a": certificate(), "b": certificate(2.0, 3.0)}, measured={"b": (2.4, 0.1)}
    )
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    np.testing.assert_allclose(spans, [(1, 5), (2, 3)], rtol=1e-5)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    point, _, (bars,) = ax.containers[-1]
    assert point.get_xydata().tolist() == [[2.4, 1.0]]
    np.testing.assert_allclose(bars.get_segments()[0][:, 0], [2.2, 2.6])
    assert sorted(text.split(" ")[0] for text in texts(ax)) == ["guaranteed", "measured"]
    assert "nats" in ax.get_xlabel()
    assert ax.get_xlim()[0] == 0
    # The first name is at the top.
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    ax.figure.canvas.draw()


def test_an_estimate_has_a_lower_mark_and_no_window():
    found = estimate()
    ax = plot_rate_window(found)
    assert not ax.patches
    assert ax.containers[0][0].get_xdata()[0] == found.low
    assert texts(ax) == ["estimated lower bound ± 2 standard errors: no guarantee"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bernoulli"]


def test_an_upper_limit_alone_is_an_empty_bar():
    vae = IDVAE(6, 2, "normal", rate_window=(1.0, 5.0))
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[:, 0] = False
    ax = plot_rate_window(certify(vae.model, (torch.zeros(3, 6), None, mask)))
    (bar,) = ax.patches
    assert (bar.get_x(), bar.get_width()) == pytest.approx((0, 5), rel=1e-5)
    assert bar.get_facecolor()[3] == 0
    assert bar.get_hatch() is not None
    assert texts(ax)[0].startswith("at most")


def test_one_certificate_takes_a_bare_pair_and_given_axes():
    _, mine = plt.subplots()
    ax = plot_rate_window(certificate(), measured=(0.1, 0.2), ax=mine)
    assert ax is mine
    # An error bar across 0 is in view.
    assert ax.get_xlim()[0] < -0.3


def test_what_cannot_be_drawn_is_refused():
    one = certificate()
    for certificates, measured, message in (
        ({}, None, "certificates is empty"),
        ({"a": 3.0}, None, r"certificates\['a'\] is a float"),
        ({"a": one}, {"b": (1.0, 0.1)}, r"measured has \['b'\]"),
        ({"a": one, "b": one}, (1.0, 0.1), "give measurements by name"),
        ({"a": one}, {"a": (1.0,)}, "expected a pair"),
        ({"a": one}, {"a": (float("nan"), 0.1)}, r"measured\['a'\]\[0\]=nan"),
        ({"a": one}, {"a": (1.0, -0.1)}, "at least 0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            plot_rate_window(certificates, measured=measured)
