import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from pyro_idvae import Calibration, plot_calibration
from pyro_idvae.diagnostics.estimators.rank_bands import rank_p_value
from pyro_idvae.errors import ArgumentError

mpl.use("Agg")

NUMBER, DRAWS = 300, 49


def calibration(*shifts, names=None):
    """Ranks of truths that lie a shift, of the ranks' range, away from uniform ones."""
    rng = np.random.default_rng(0)
    uniform = rng.uniform(size=(NUMBER, len(shifts)))
    ranks = np.clip(uniform + np.array(shifts), 0, 1 - 1e-9) * (DRAWS + 1)
    names = [f"z[{place}]" for place in range(len(shifts))] if names is None else names
    return Calibration.of(ranks.astype(int), DRAWS, names, level=0.05, method="guide", by_row=True)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def lines_of(ax):
    return [line for line in ax.lines if len(line.get_xdata()) == DRAWS + 2]


def test_a_line_is_the_share_of_truths_below():
    found = calibration(0.0, 0.2)
    ax = plot_calibration(found)
    lines = lines_of(ax)
    assert len(lines) == 2
    for line, place in zip(lines, (0, 1), strict=True):
        x, y = line.get_data()
        np.testing.assert_allclose(x, np.arange(DRAWS + 2) / (DRAWS + 1))
        wanted = [(found.ranks[:, place] < k).mean() - k / (DRAWS + 1) for k in range(DRAWS + 2)]
        np.testing.assert_allclose(y, wanted, atol=1e-12)


def test_lines_leave_the_band_where_the_test_rejects():
    """The picture is the test: a line is outside if p is below the level of one quantity."""
    for shifts in ((0.0, 0.0, 0.0), (0.0, 0.09, -0.15), (0.06, 0.07, 0.08)):
        found = calibration(*shifts)
        band = found.band()
        for place, counts in enumerate(found.counts()):
            outside = ((counts < band.lower) | (counts > band.upper)).any()
            p = rank_p_value(found.ranks[:, place], DRAWS)
            assert outside == (p <= found.level / 3)
        (polygon,) = plot_calibration(found).collections
        heights = polygon.get_paths()[0].vertices[:, 1]
        shares = np.arange(1, DRAWS + 1) / (DRAWS + 1)
        assert heights.max() == pytest.approx((band.upper / NUMBER - shares).max())
        assert heights.min() == pytest.approx((band.lower / NUMBER - shares).min())


def test_what_is_rejected_has_a_colour_and_its_departure():
    found = calibration(0.0, 0.1, -0.15, names=["a", "b", "c"])
    ax = plot_calibration(found)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:2] == ["chance (95 %, all quantities)", "other quantities"]
    assert found.table.loc["c", "p"] < found.table.loc["b", "p"]
    assert labels[2].startswith("c: too high")
    assert labels[3].startswith("b: too low")
    colours = [line.get_color() for line in lines_of(ax)]
    assert colours == ["0.45", "C0", "C1"]
    assert ax.get_title() == "guide: miscalibrated"
    ax.figure.canvas.draw()


def test_what_is_not_rejected_is_grey():
    ax = plot_calibration(calibration(0.0, 0.0))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["chance (95 %, all quantities)", "quantities"]
    assert {line.get_color() for line in lines_of(ax)} == {"0.45"}


def test_given_axes_are_used_and_the_legend_is_off_the_lines():
    found = calibration(0.0, 0.2)
    _, ax = plt.subplots()
    assert plot_calibration(found, ax=ax) is ax
    ax = plot_calibration(found)
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert box.x0 >= ax.get_window_extent().x1 - 1
    assert box.x1 <= ax.figure.bbox.x1


def test_something_else_is_refused():
    with pytest.raises(ArgumentError, match="calibration is a dict: expected a Calibration"):
        plot_calibration({})
