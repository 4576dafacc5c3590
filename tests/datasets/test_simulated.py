import math

import pytest
import torch

from pyro_idvae.datasets import MIXTURE_REGIMES, mixture_data, pca_data, pinwheel

LIMIT = 4.5
"""Standard errors; 3.4e-6 of a chance each."""


@pytest.mark.parametrize("regime", MIXTURE_REGIMES)
def test_mixtures_have_their_moments(regime):
    data = mixture_data(regime)
    n = len(data.x)
    assert n == 10_000
    assert data.x.dtype == torch.float32
    assert abs((data.assignments == 0).float().mean() - 0.25) < LIMIT * (0.25 * 0.75 / n) ** 0.5
    for k, mean in enumerate(data.means):
        own = data.x[data.assignments == k]
        assert abs(own.mean() - mean) < LIMIT / len(own) ** 0.5
        assert abs(own.std() - data.scale) < LIMIT / (2 * len(own)) ** 0.5
    assert math.isnan(data.weight) == (regime == "one cluster")


def test_pca_data_have_their_covariance():
    data = pca_data(num_data=4000, data_dim=3, signal=1.5, scale=0.5, seed=2)
    assert data.x.shape == (4000, 3)
    assert data.x.dtype == torch.float32
    assert data.w.norm() == pytest.approx(1.5)
    wanted = data.w @ data.w.T + 0.25 * torch.eye(3)
    # Of Normal data, Var S_ij = (C_ii C_jj + C_ij²)/n.
    error = ((wanted.diag()[:, None] * wanted.diag() + wanted**2) / 4000).sqrt()
    assert ((data.x.T @ data.x / 4000 - wanted).abs() < LIMIT * error).all()
    assert abs(data.z.mean()) < LIMIT / 4000**0.5


def turned(x, angle):
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], -1)


def test_arms_of_a_pinwheel_are_normal_once_turned_back():
    n = 9000
    data = pinwheel(n, num_arms=3, radial_scale=0.2, tangential_scale=0.05, twist=0.0, seed=1)
    own = turned(data.x, -2 * math.pi * data.arms / 3)
    for column, mean, scale in ((0, 1.0, 0.2), (1, 0.0, 0.05)):
        assert abs(own[:, column].mean() - mean) < LIMIT * scale / n**0.5
        assert abs(own[:, column].std() - scale) < LIMIT * scale / (2 * n) ** 0.5
    counts = data.arms.bincount(minlength=3)
    assert ((counts - n / 3).abs() < LIMIT * (n * 2 / 9) ** 0.5).all()
    twisted = pinwheel(n, num_arms=3, radial_scale=0.2, tangential_scale=0.05, twist=0.5, seed=1)
    wanted = turned(data.x, 0.5 * own[:, 0].exp())
    torch.testing.assert_close(twisted.x, wanted, rtol=0, atol=1e-5)
    assert torch.equal(twisted.arms, data.arms)


def test_seeds_repeat_and_differ():
    assert torch.equal(pinwheel(9).x, pinwheel(9).x)
    assert not torch.equal(pinwheel(9).x, pinwheel(9, seed=1).x)
    assert torch.equal(mixture_data(num_data=9).x, mixture_data(num_data=9).x)
    assert not torch.equal(mixture_data(num_data=9).x, mixture_data(num_data=9, seed=1).x)
    assert torch.equal(pca_data(num_data=9).x, pca_data(num_data=9).x)
    assert not torch.equal(pca_data(num_data=9).x, pca_data(num_data=9, seed=1).x)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: mixture_data("three"), "regime='three'"),
        (lambda: mixture_data(num_data=0), "num_data=0"),
        (lambda: pinwheel(0), "num_data=0"),
        (lambda: pinwheel(num_arms=0), "num_arms=0"),
        (lambda: pinwheel(radial_scale=-1.0), "radial_scale=-1.0"),
        (lambda: pca_data(num_data=0), "num_data=0"),
        (lambda: pca_data(data_dim=0), "data_dim=0"),
        (lambda: pca_data(scale=0.0), "scale=0.0"),
    ],
)
def test_wrong_arguments_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
