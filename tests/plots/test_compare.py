import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from pyro_idvae import plot_compare
from pyro_idvae.arviz_io import Variable, density, groups_of, to_arviz
from pyro_idvae.errors import ArgumentError, ShapeError

mpl.use("agg")

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def data(*, latents=3, rows=2, chains=1, prior=True, coords=None, scale=1.0):
    values = scale * RNG.normal(size=(chains, 60, rows, latents))
    z = Variable(values, ("data", "z_dim_0"))
    groups = {"posterior": {"z": z}}
    if prior:
        groups["prior"] = {"z": Variable(RNG.normal(size=values.shape), z.dims)}
    return to_arviz(groups, coords=coords)


def of(values, **dims):
    return to_arviz({"posterior": {"z": Variable(values, **dims)}})


def test_marginals_stand_on_the_diagonal_and_pairs_below():
    svi, nuts = data(), data(chains=2)
    axes = plot_compare(svi, nuts, row=1)
    assert axes.shape == (3, 3)
    values = groups_of(nuts)["posterior"]["z"].values[:, :, 1]
    for i, j in np.ndindex(3, 3):
        ax = axes[i, j]
        assert ax.axison == (j <= i)
        if i == j:
            line = ax.lines[1].get_xydata()
            grid, height = density(values[..., i])
            np.testing.assert_allclose(line[1:-1], np.c_[grid, height])
            assert (line[[0, -1], 1] == 0).all()
            # The prior.
            assert len(ax.collections) == 1
        elif j < i:
            points, other = (c for c in ax.collections if len(c.get_offsets()) > 1)
            assert len(points.get_offsets()) == 60
            np.testing.assert_allclose(
                other.get_offsets(), values[..., [j, i]].reshape(-1, 2), rtol=1e-6
            )
            assert len(ax.collections) == 4
            assert ax.get_xlim() == axes[j, j].get_xlim()
    assert [ax.get_xlabel() for ax in axes[-1]] == ["z[0]", "z[1]", "z[2]"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["", "z[1]", "z[2]"]
    legend = axes[0, -1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["SVI", "NUTS", "prior"]
    assert legend.get_title().get_text().startswith("data 1")
    axes[0, 0].figure.canvas.draw()


def test_a_contour_holds_its_share_of_the_draws():
    chol = np.array([[1.0, 0.0], [0.9, 0.3]])
    values = (RNG.normal(size=(1, 900, 2)) @ chol.T)[:, :, None]
    both = of(values, dims=("data", "z_dim_0"))
    axes = plot_compare(both, both)
    contour = axes[1, 0].collections[1]
    shares = [
        np.mean(sum(path.contains_points(values[0, :, 0]) for path in [outline]) > 0)
        for outline in contour.get_paths()
    ]
    np.testing.assert_allclose(shares, [0.9, 0.5], atol=0.05)


def test_one_latent_is_one_panel():
    svi = of(RNG.normal(size=(1, 50, 3)), dims=("data",))
    axes = plot_compare(svi, svi, row=-1, labels=("guide", "exact"))
    assert axes.shape == (1, 1)
    assert axes[0, 0].get_xlabel() == "z"
    legend = axes[0, 0].figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["guide", "exact"]
    assert legend.get_title().get_text() == "data 2"
    _, ax = plt.subplots()
    assert plot_compare(svi, svi, axes=ax)[0, 0] is ax


def test_names_limits_and_global_latents():
    names = {"data": ["one", "two"]}
    axes = plot_compare(data(coords=names), data(coords=names, prior=False), num_latents=2)
    assert axes.shape == (2, 2)
    assert axes[0, 1].get_legend().get_title().get_text().startswith("one")
    everywhere = of(RNG.normal(size=(1, 50, 2)), dims=("z_dim_0",))
    axes = plot_compare(everywhere, everywhere, row=7)
    assert axes[0, 1].get_legend().get_title().get_text().startswith("all data")


def test_a_point_is_a_line():
    svi, nuts = data(latents=2, scale=0.0), data(latents=2)
    axes = plot_compare(svi, nuts)
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_xdata(), [0, 0])
    # Points of both, contours of one.
    assert len(axes[1, 0].collections) == 3
    axes[0, 0].figure.canvas.draw()


def test_what_cannot_be_drawn_is_refused():
    svi = data()
    for options, error, message in (
        ({"var_name": "y"}, ArgumentError, "var_name='y'"),
        ({"row": 2}, ArgumentError, "row=2: 'z' has 2 data points"),
        ({"num_latents": 0}, ArgumentError, "num_latents=0"),
        ({"axes": plt.subplots(2)[1]}, ShapeError, "axes has 2 axes"),
    ):
        with pytest.raises(error, match=message):
            plot_compare(svi, data(), **options)
    with pytest.raises(ArgumentError, match="nuts has the groups"):
        plot_compare(svi, to_arviz({}))
    with pytest.raises(ShapeError, match="3 dimensions in svi but 2 in nuts"):
        plot_compare(svi, data(latents=2))
