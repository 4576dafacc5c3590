import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from pyro_idvae import plot_transport
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.transforms import brenier, brenier_injection

mpl.use("agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def lines(ax):
    return np.array([s for c in ax.collections for s in getattr(c, "get_segments", list)()])


def test_each_panel_shows_its_stage():
    f = brenier_injection(2, 2, hidden_dims=[8]).double()
    axes = plot_transport(f, num_lines=4, limits=(-1.0, 2.0))
    assert axes.shape == (4,)
    z = lines(axes[0])
    assert z.shape == (8, 101, 2)
    np.testing.assert_allclose(z[:4, :, 0], np.linspace(-1, 2, 4)[:, None] * np.ones(101))
    np.testing.assert_allclose(z[4:, :, 1], z[:4, :, 0])
    with torch.no_grad():
        inner = f.g1(torch.as_tensor(z))
        stages = [inner, f.beta(inner), f(torch.as_tensor(z))]
    for ax, stage in zip(axes[1:], stages, strict=True):
        np.testing.assert_allclose(lines(ax), stage.numpy(), rtol=1e-10)
        assert ax.get_aspect() == 1
    assert axes[3].get_xlabel() == "data[0]"
    assert axes[1].get_ylabel() == "g₁(z)[1]"
    labels = [ax.get_ylabel() for ax in axes[0].figure.axes[4:]]
    assert sorted(labels) == ["lines of constant z[0]", "lines of constant z[1]"]
    axes[0].figure.canvas.draw()


def test_data_space_is_projected_on_principal_axes():
    f = brenier_injection(3, 6, hidden_dims=[8]).double()
    axes = plot_transport(f, dims=(2, 0), num_lines=3)
    assert axes[0].get_xlabel() == "z[2]"
    assert axes[0].get_title() == "z (other dimensions 0)"
    z = torch.zeros(6, 101, 3, dtype=torch.double)
    z[..., [2, 0]] = torch.as_tensor(lines(axes[0]))
    with torch.no_grad():
        final = f(z).reshape(-1, 6).numpy()
    shown = lines(axes[3]).reshape(-1, 2)
    values, vectors = np.linalg.eigh(np.cov(final.T))
    wanted = final @ vectors[:, [-1, -2]]
    signs = np.sign((wanted * shown).sum(0))
    np.testing.assert_allclose(shown, wanted * signs, rtol=1e-6, atol=1e-8)
    # The first axis rises with the first coordinate shown.
    assert (np.diff(shown.reshape(6, 101, 2)[3:, :, 0]).sum(1) > 0).all()
    share = f"({values[-1] / values.sum():.0%})"
    assert axes[3].get_xlabel() == f"principal axis 1 of f(z) {share}"
    assert axes[2].get_ylabel() == "principal axis 2 of f(z)"


@pytest.mark.parametrize("data_dim", [1, 2, 5])
def test_one_latent_is_a_line_coloured_by_z(data_dim):
    f = brenier_injection(1, data_dim, hidden_dims=[8])
    axes = plot_transport(f, num_lines=5)
    segments = lines(axes[1])
    assert segments.shape == (100, 2, 2)
    with torch.no_grad():
        wanted = f.g1(torch.linspace(-2.5, 2.5, 101)[:, None]).flatten()
    np.testing.assert_allclose(segments[:, 0, 0], wanted[:-1], rtol=1e-4, atol=1e-4)
    assert len(axes[3].collections[1].get_offsets()) == 5
    assert axes[0].get_xlabel() == "z"
    assert bool(axes[3].get_ylabel()) == (data_dim > 1)
    assert [ax.get_ylabel() for ax in axes[0].figure.axes[4:]] == ["z"]
    axes[0].figure.canvas.draw()


def test_given_axes():
    _, mine = plt.subplots(2, 2)
    axes = plot_transport(brenier_injection(2, 3, hidden_dims=[8]), num_lines=2, axes=mine)
    assert axes[3] is mine[1, 1]


def test_what_cannot_be_drawn_is_refused():
    f = brenier_injection(3, 4, hidden_dims=[8])
    with pytest.raises(ArgumentError, match="injection is a Brenier: expected a BrenierInjection"):
        plot_transport(brenier(2, hidden_dims=[8]))
    for options, error, message in (
        ({"limits": (1.0, 1.0)}, ArgumentError, "limits="),
        ({"num_lines": 1}, ArgumentError, "num_lines=1"),
        ({"dims": (0, 3)}, ArgumentError, "of 3 dimensions"),
        ({"dims": (1, 1)}, ArgumentError, "of 3 dimensions"),
        ({"dims": ()}, ArgumentError, "of 3 dimensions"),
        ({"axes": plt.subplots(1, 3)[1]}, ShapeError, "axes has 3 axes"),
    ):
        with pytest.raises(error, match=message):
            plot_transport(f, **options)


def test_weights_that_are_not_finite_are_named():
    f = brenier_injection(3, 4, hidden_dims=[8])
    with torch.no_grad():
        f.g1.potential.weight[0] = 1e30
    with pytest.raises(ArgumentError, match="overflows on the grid"):
        plot_transport(f, limits=(-1e30, 1e30))
    with torch.no_grad():
        f.g1.potential.weight[0] = torch.nan
    with pytest.raises(
        ArgumentError, match=r"weights \['g1.potential.weight'\] that are not finite"
    ):
        plot_transport(f)
