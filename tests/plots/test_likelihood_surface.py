import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import IDVAE, plot_likelihood_surface
from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from pyro_idvae.models import GaussianMixture
from pyro_idvae.plots.slices import mesh, refined, smooth

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


def product(x, y, noise=0.05):
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 2.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(a * b * x, noise), obs=y)


DESIGN = torch.linspace(-1, 1, 50)
RESPONSE = 1.2 * DESIGN


def bands(ax):
    """Return the bands of a surface: the first of the axes' contour sets."""
    return ax.collections[0]


def caption(ax):
    return " ".join(ax.get_title().split())


def test_a_line_is_the_log_likelihood_of_the_row():
    ax = plot_likelihood_surface(model, X, row=1, num_points=13)
    z, height = ax.lines[0].get_data()
    wanted = dist.Normal(torch.as_tensor(np.array(z)), 1.0).log_prob(X[1]).numpy()
    np.testing.assert_allclose(height, wanted - wanted.max(), atol=1e-4)
    assert ax.get_xlabel() == "z"
    assert "nats" in ax.get_ylabel()
    at, prior = ax.lines[1].get_data()
    np.testing.assert_allclose(prior, -0.5 * np.square(at), atol=1e-5)


def test_a_line_shows_the_last_20_nats():
    ax = plot_likelihood_surface(model, 100 * X)
    assert ax.lines[0].get_ydata().min() < -100
    low, high = ax.get_ylim()
    assert -25 < low < -20
    assert high > 0


def test_what_is_not_identified_is_flat():
    ax = plot_likelihood_surface(lambda x: model(x, 0.0), X, num_points=5)
    assert np.ptp(ax.lines[0].get_ydata()) == 0
    low, high = ax.get_ylim()
    assert high - low >= 1

    def noisy(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            pyro.sample("x", dist.Normal(1e-6 * z.sum(-1), 1.0), obs=x)

    ax = plot_likelihood_surface(noisy, X, num_points=5)
    filled = [len(path.vertices) > 0 for path in bands(ax).get_paths()]
    # One colour, that of the last nat.
    assert filled == [False] * 5 + [True]


def test_bands_hold_the_last_20_nats_of_any_range():
    ax = plot_likelihood_surface(product, (DESIGN, RESPONSE), site=("a", "b"))
    levels = bands(ax).levels
    assert levels.max() == 0
    assert levels[np.isfinite(levels)].min() == -20
    bar = ax.figure.axes[1]
    assert [text.get_text() for text in bar.get_yticklabels()] == [
        "−20",
        "−10",
        *["−5", "−2", "−1", "0"],
    ]
    assert "nats" in bar.get_ylabel()
    assert "grey: below −20" in bar.get_ylabel()
    ax.figure.canvas.draw()


def test_a_ridge_between_grid_points_is_found_and_nothing_else():
    def exact(z):
        gap = z[:, 0] * z[:, 1] - 1.2
        return -3e4 * gap**2

    grids = [np.linspace(-3, 3, 41)] * 2
    height = exact(mesh(grids)).reshape(41, 41)
    assert (height > height.max() - 20).mean() < 0.05
    asked = []

    def counted(z):
        asked.append(len(z))
        return exact(z)

    fine, found = smooth(*refined(counted, grids, height, depth=20.0))
    true = exact(mesh(fine)).reshape(found.shape)
    near = true > true.max() - 20
    np.testing.assert_allclose(found[near], true[near], atol=0.1)
    assert (found[true < true.max() - 25] < found.max() - 20).all()
    assert sum(asked) < 4000


def test_the_prior_lies_over_the_likelihood():
    ax = plot_likelihood_surface(product, (DESIGN, RESPONSE), site=("a", "b"), num_points=15)
    contours = ax.collections[1]
    np.testing.assert_allclose(contours.levels, [-4.5, -2.0, -0.5])
    innermost = contours.get_paths()[-1].vertices
    # One standard deviation of each: 1 and 2.
    radius = np.hypot(innermost[:, 0], innermost[:, 1] / 2)
    np.testing.assert_allclose(radius, 1.0, atol=0.02)
    assert "dashed: the prior" in caption(ax)

    def uniform(x):
        z = pyro.sample("z", dist.Uniform(-4.0, 4.0).expand([2]).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(), 1.0).expand(x.shape).to_event(1), obs=x)

    ax = plot_likelihood_surface(uniform, X, num_points=5)
    assert len(ax.collections) == 1
    assert "the prior is flat here" in caption(ax)


def test_a_support_ends_the_surface():
    def positive(x):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Poisson(10 * rate * share), obs=x)

    x = torch.full((12,), 8.0)
    limits = ((-0.5, 5.0), (-0.2, 1.2))
    ax = plot_likelihood_surface(positive, x, site=("rate", "share"), limits=limits, num_points=21)
    for path in bands(ax).get_paths()[1:]:
        inside = path.vertices
        assert inside[:, 0].min(initial=1.0) > -0.1
        assert inside[:, 1].min(initial=0.5) > -0.03
        assert inside[:, 1].max(initial=0.5) < 1.03
    assert len(bands(ax).get_paths()[-1].vertices)
    with pytest.raises(DataError, match="finite nowhere"):
        plot_likelihood_surface(positive, x, site="rate", limits=(-2.0, -1.0), num_points=4)


def test_what_is_held_is_said():
    held = {"mu": torch.tensor([-1.0, 1.0]), "sigma": torch.ones(2)}
    options = {"limits": (0.1, 0.9), "num_points": 4}
    ax = plot_likelihood_surface(
        GaussianMixture(), torch.randn(9), site="theta", at=held, **options
    )
    assert "held as given: mu = (−1, 1), sigma = (1, 1)" in caption(ax)
    ax = plot_likelihood_surface(GaussianMixture(), torch.randn(9), site="theta", **options)
    assert "held at a prior draw: mu = (" in caption(ax)
    vae = IDVAE(8, 6, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    ax = plot_likelihood_surface(vae.model, torch.randn(3, 8), num_points=3)
    assert "held at 0: the other 4 dimensions of latent" in caption(ax)
    at = {"latent": torch.randn(3, 6)}
    ax = plot_likelihood_surface(vae.model, torch.randn(3, 8), num_points=3, dims=(1,), at=at)
    assert "held as given: the other 5 dimensions of latent (5 numbers," in caption(ax)
    assert "held" not in caption(plot_likelihood_surface(model, X, num_points=3))


def test_a_title_of_others_stays():
    _, ax = plt.subplots()
    ax.set_title("mine")
    plot_likelihood_surface(model, X, num_points=3, ax=ax)
    assert ax.get_title().startswith("mine\n")


def test_two_dimensions_of_a_vae():
    torch.manual_seed(0)
    vae = IDVAE(4, 3, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    x = torch.randn(3, 4)
    ax = plot_likelihood_surface(vae.model, x, row=2, dims=(2, 0), num_points=7)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent[2]", "latent[0]")
    ax.figure.canvas.draw()
    assert ax.figure.axes[1].get_ylabel().startswith("log p(x | latent)")


def test_a_latent_has_one_label_everywhere():
    vae = IDVAE(4, 1, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    ax = plot_likelihood_surface(vae.model, torch.randn(3, 4), num_points=3)
    assert ax.get_xlabel() == "latent[0]"


def test_a_global_and_a_local_site_are_seen_over_all_data():
    def shifted(x):
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(shift + z, 1.0), obs=x)

    at = {"shift": torch.tensor(0.0), "z": torch.zeros(2)}
    for site, expected in (("shift", X.sum() / 2), ("z", X[0])):
        ax = plot_likelihood_surface(shifted, X, site=site, at=at, num_points=61)
        z, height = ax.lines[0].get_data()
        assert z[height.argmax()] == pytest.approx(float(expected), abs=0.06)
    ax = plot_likelihood_surface(shifted, X, site=("shift", "z"), at=at, num_points=5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("shift", "z")


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
    for options, error, message in (
        ({"site": "y"}, ArgumentError, "site='y'"),
        ({"site": ("z", "z")}, ArgumentError, "expected one or two of the latent sites"),
        ({"row": 2}, ArgumentError, "row=2"),
        ({"dims": (1,)}, ArgumentError, "has 1 dimensions"),
        ({"dims": ()}, ArgumentError, "expected one or two dimensions"),
        ({"limits": (1.0, 0.0)}, ArgumentError, "limits="),
        ({"limits": ((0.0, 1.0), (0.0, 1.0))}, ArgumentError, "limits="),
        ({"num_points": 1}, ArgumentError, "num_points=1"),
        ({"at": {"w": X}}, ArgumentError, "at has"),
        ({"at": {"z": torch.zeros(3)}}, ShapeError, "expected \\(2,\\)"),
    ):
        with pytest.raises(error, match=message):
            plot_likelihood_surface(model, X, **options)
    with pytest.raises(ArgumentError, match="one of each of two sites"):
        plot_likelihood_surface(product, (DESIGN, RESPONSE), site=("a", "b"), dims=(0,))
    _, ax = plt.subplots()
    assert plot_likelihood_surface(model, X, num_points=3, ax=ax) is ax
