import math

import pytest
import torch

from pyro_idvae.datasets import MIXTURE_REGIMES, mixture_data, pca_data

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


def test_seeds_repeat_and_differ():
    assert torch.equal(mixture_data(num_data=9).x, mixture_data(num_data=9).x)
    assert not torch.equal(mixture_data(num_data=9).x, mixture_data(num_data=9, seed=1).x)
    assert torch.equal(pca_data(num_data=9).x, pca_data(num_data=9).x)
    assert not torch.equal(pca_data(num_data=9).x, pca_data(num_data=9, seed=1).x)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: mixture_data("three"), "regime='three'"),
        (lambda: mixture_data(num_data=0), "num_data=0"),
        (lambda: pca_data(num_data=0), "num_data=0"),
        (lambda: pca_data(data_dim=0), "data_dim=0"),
        (lambda: pca_data(scale=0.0), "scale=0.0"),
    ],
)
def test_wrong_arguments_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
