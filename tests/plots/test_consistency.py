import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from pyro_idvae import consistency, plot_consistency
from pyro_idvae.errors import ArgumentError, ShapeError

mpl.use("Agg")


def report(size=3, **more):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(8 * (size + 1), size))
    b = z[:, ::-1] + 0.3 * rng.normal(size=z.shape)
    return consistency({"a": z, "b": b, "c": rng.normal(size=z.shape), **more})


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_measures_and_pairs_are_where_they_belong():
    found = report()
    ax = plot_consistency(found)[0]
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["MCC", "R², permutation\nand scales", "R², rotation", "R², affine map"]
    for place, measure in enumerate(found.table.index):
        points, mean, fitted, chance = ax.lines[4 * place : 4 * place + 4]
        np.testing.assert_array_equal(points.get_xdata(), found.pairs[measure])
        row = found.table.loc[measure]
        for line, column in ((mean, "mean"), (fitted, "in_sample"), (chance, "by_chance")):
            assert line.get_xdata()[0] == row[column]
        ends = ax.collections[place].get_segments()[0][:, 0]
        np.testing.assert_allclose(ends, row[["lower", "upper"]])
    low, high = ax.get_xlim()
    assert low < found.pairs[list(found.table.index)].min(axis=None)
    assert high > 1


@pytest.mark.parametrize("pair", [None, ("a", "b"), ("b", "a"), ["c", "a"]])
def test_correlations_are_those_of_the_pair(pair):
    found = report()
    ax = plot_consistency(found, pair=pair)[1]
    first, second = pair or ("a", "b")
    assert ax.get_ylabel() == f"latents of {first}"
    assert ax.get_xlabel() == f"latents of {second}, partners on the diagonal"
    image = ax.images[0].get_array()
    rows, columns = (
        [t.get_text() for t in ticks()] for ticks in (ax.get_yticklabels, ax.get_xticklabels)
    )
    table = found.correlations.get((first, second))
    if table is None:
        table = found.correlations[second, first].T
    np.testing.assert_allclose(image, table.loc[rows, columns].abs())
    if {first, second} == {"a", "b"}:
        assert (np.diag(image) > 0.9).all()
    assert len(ax.texts) == 9


def test_many_latents_have_no_numbers_in_their_cells():
    ax = plot_consistency(report(size=26))[1]
    assert not ax.texts
    assert not ax.get_xticklabels()


def test_a_run_without_variance():
    found = report(d=np.zeros((32, 3)))
    axes = plot_consistency(found, pair=("a", "d"))
    assert axes[1].texts[0].get_text() == "no latent with variance"
    axes[0].figure.canvas.draw()


def test_given_axes_are_used_and_the_legend_is_off_the_points():
    found = report()
    _, axes = plt.subplots(1, 2)
    assert list(plot_consistency(found, axes=axes)) == list(axes)
    axes = plot_consistency(found)
    axes[0].figure.canvas.draw()
    box = axes[0].get_legend().get_window_extent()
    assert box.y0 >= axes[0].get_window_extent().y1 - 1
    assert box.x0 >= 0
    assert box.x1 <= axes[1].get_window_extent().x0
    assert box.y1 <= axes[0].figure.bbox.y1


def test_something_else_is_refused():
    with pytest.raises(ArgumentError, match="report is a dict: expected a Consistency"):
        plot_consistency({})
    with pytest.raises(ShapeError, match="axes has 1 axes: expected 2"):
        plot_consistency(report(), axes=plt.subplots()[1])
