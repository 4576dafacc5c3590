import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from pyro_idvae import plot_compare
from pyro_idvae.arviz_io import Variable, groups_of, to_arviz
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.plots.marginals import curve

mpl.use("agg")

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def data(*, latents=3, rows=2, chains=1, prior=True, coords=None, scale=1.0, method=None):
    values = scale * RNG.normal(size=(chains, 60, rows, latents))
    z = Variable(values, ("data", "z_dim_0"))
    groups = {"posterior": {"z": z}}
    if prior:
        groups["prior"] = {"z": Variable(RNG.normal(size=values.shape), z.dims)}
    attrs = {} if method is None else {"inference_method": method}
    return to_arviz(groups, coords=coords, attrs=attrs)


def of(values, prior=None, dims=()):
    groups = {"posterior": {"z": Variable(values, dims)}}
    if prior is not None:
        groups["prior"] = {"z": Variable(prior, dims)}
    return to_arviz(groups)


def legend_texts(axes):
    return [text.get_text() for text in axes[0, -1].get_legend().get_texts()]


def title(axes):
    return axes[0, -1].get_legend().get_title().get_text()


def test_marginals_stand_on_the_diagonal_and_pairs_below():
    svi, nuts = data(), data(chains=2)
    axes = plot_compare(svi, nuts, row=1, labels=("one", "other"))
    assert axes.shape == (3, 3)
    values = groups_of(nuts)["posterior"]["z"].values[:, :, 1]
    for i, j in np.ndindex(3, 3):
        ax = axes[i, j]
        assert ax.axison == (j <= i)
        if i == j:
            np.testing.assert_allclose(ax.lines[1].get_xydata(), np.c_[curve(values[..., i])])
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
    assert legend_texts(axes) == ["one", "other", "prior"]
    assert title(axes).startswith("data 1")
    axes[0, 0].figure.canvas.draw()


@pytest.mark.parametrize(
    ("methods", "labels"),
    [
        (("svi", "nuts"), ["guide", "NUTS"]),
        (("hmc", "vectorized"), ["HMC 1", "HMC 2"]),
        (("mcmc", None), ["MCMC", "posterior"]),
        (("svi", "svi"), ["guide 1", "guide 2"]),
        (("svi", "gibbs"), ["guide", "gibbs"]),
    ],
)
def test_what_draws_are_they_are_called(methods, labels):
    axes = plot_compare(*(data(method=method, latents=2) for method in methods))
    assert legend_texts(axes)[:2] == labels


def test_curves_end_at_0_within_the_view():
    # A short chain is where a curve that stops at the outermost draws stops high up.
    svi, nuts = of(RNG.uniform(-1, 1, size=(1, 80))), of(RNG.normal(size=(2, 30)))
    ax = plot_compare(svi, nuts)[0, 0]
    low, high = ax.get_xlim()
    for line in ax.lines:
        x, height = line.get_data()
        assert (np.interp([low, high], x, height) < 0.01 * height.max()).all()
        # No jump between neighbours either: nothing is a cliff.
        assert np.abs(np.diff(height)).max() < 0.05 * height.max()


def test_no_curve_leaves_a_support_that_the_prior_keeps_to():
    prior, shares = RNG.uniform(size=(1, 200)), RNG.beta(1.5, 5.0, size=(1, 200))
    ax = plot_compare(of(shares, prior), of(shares, prior))[0, 0]
    for line in ax.lines:
        x, _ = line.get_data()
        assert x.min() >= 0
        assert x.max() <= 1
    ax = plot_compare(of(5 + shares, 5 + prior), of(RNG.normal(size=(1, 99))))[0, 0]
    assert ax.lines[1].get_xdata().min() < 0


@pytest.mark.parametrize(("scale", "enlarged"), [(1.0, False), (0.3, False), (0.001, True)])
def test_the_prior_is_seen_however_narrow_the_posteriors(scale, enlarged):
    prior = RNG.normal(size=(1, 500))
    svi, nuts = (of(0.2 + scale * RNG.normal(size=(1, 300)), prior) for _ in range(2))
    ax = plot_compare(svi, nuts)[0, 0]
    (fill,) = ax.collections
    x, height = fill.get_paths()[0].vertices.T
    # The outline goes along the axis and back over the curve.
    order = np.flatnonzero(height > 0)[np.argsort(x[height > 0])]
    across = np.linspace(*ax.get_xlim(), 50)
    assert np.interp(across, x[order], height[order]).max() > 0.05 * ax.get_ylim()[1]
    note = ax.get_title(loc="right")
    assert note.startswith("prior ×") == enlarged
    if enlarged:
        factor = float(note.split()[-1])
        true = curve(prior)[1].max()
        assert height.max() == pytest.approx(factor * true)


def test_a_prior_that_is_elsewhere_is_said_to_be():
    prior = RNG.normal(size=(1, 200))
    far = of(50 + RNG.normal(size=(1, 100)), prior)
    assert plot_compare(far, far)[0, 0].get_title(loc="right") == "prior: 0 here"


def test_latents_left_out_are_counted():
    axes = plot_compare(data(latents=5), data(latents=5), num_latents=2)
    assert "2 of 5 latents shown" in title(axes)
    assert "shown" not in title(plot_compare(data(latents=2), data(latents=2)))


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
    assert legend_texts(axes) == ["guide", "exact"]
    assert title(axes) == "data 2"


def test_others_figures_get_no_legend_of_their_own():
    svi = of(RNG.normal(size=(1, 50, 3)), dims=("data",))
    figure, ax = plt.subplots()
    assert plot_compare(svi, svi, axes=ax)[0, 0] is ax
    assert figure.legends == []
    figure, axes = plt.subplots(2, 2)
    plot_compare(data(latents=2), data(latents=2), axes=axes)
    assert figure.legends == []


def test_names_limits_and_global_latents():
    names = {"data": ["one", "two"]}
    axes = plot_compare(data(coords=names), data(coords=names, prior=False), num_latents=2)
    assert axes.shape == (2, 2)
    assert title(axes).startswith("one")
    everywhere = of(RNG.normal(size=(1, 50, 2)), dims=("z_dim_0",))
    axes = plot_compare(everywhere, everywhere, row=7)
    assert title(axes).startswith("all data")


def test_a_point_is_a_line():
    svi, nuts = data(latents=2, scale=0.0), data(latents=2)
    axes = plot_compare(svi, nuts)
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_xdata(), [0, 0])
    # Points of both, contours of one.
    assert len(axes[1, 0].collections) == 3
    axes[0, 0].figure.canvas.draw()
    only = plot_compare(svi, data(latents=2, scale=0.0))
    only[0, 0].figure.canvas.draw()


def test_what_cannot_be_drawn_is_refused():
    svi = data()
    for options, error, message in (
        ({"var_name": "y"}, ArgumentError, "var_name='y'"),
        ({"row": 2}, ArgumentError, "row=2: expected an integer from -2 to 1"),
        ({"num_latents": 0}, ArgumentError, "num_latents=0"),
        ({"axes": plt.subplots(2)[1]}, ShapeError, "axes has 2 axes"),
    ):
        with pytest.raises(error, match=message):
            plot_compare(svi, data(), **options)
    with pytest.raises(ArgumentError, match="nuts has the groups"):
        plot_compare(svi, to_arviz({}))
    with pytest.raises(ShapeError, match="3 dimensions in svi but 2 in nuts"):
        plot_compare(svi, data(latents=2))
