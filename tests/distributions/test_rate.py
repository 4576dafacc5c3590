"""From windows in nats to Lipschitz bounds and back."""

import math

import pytest
import torch

import pyro_idvae
from pyro_idvae import IDVAE, distributions
from pyro_idvae.distributions import information_window, lipschitz_bounds_for
from pyro_idvae.errors import ArgumentError
from pyro_idvae.transforms import brenier_injection


@pytest.mark.parametrize("window", [(0.3, 0.4), (1.0, 1.0), (1e-6, 50.0)])
@pytest.mark.parametrize("latent_dim", [1, 3, 64])
def test_the_bounds_for_a_window_have_that_window(window, latent_dim):
    low, high = window
    bounds = lipschitz_bounds_for(low=low, high=high, latent_dim=latent_dim)
    assert information_window(bounds, latent_dim) == pytest.approx(window, rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 0.0, "high": 1.0, "latent_dim": 2}, "low=0"),
        ({"low": 2.0, "high": 1.0, "latent_dim": 2}, "high=1.0"),
        ({"low": 1.0, "high": 2.0, "latent_dim": 0}, "latent_dim=0"),
        ({"low": 1.0, "high": 400.0, "latent_dim": 1}, "at most 354 nats"),
        ({"low": 1.0, "high": 1e300, "latent_dim": 3}, "at most 1062 nats"),
    ],
)
def test_impossible_windows_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        lipschitz_bounds_for(**arguments)


@pytest.mark.parametrize("bounds", [(1.0,), (1.0, 2.0, 3.0), 1.0, (1.0, None), (2.0, 1.0)])
def test_bounds_that_are_no_pair_are_refused(bounds):
    for function in (
        lambda: information_window(bounds, 2),
        lambda: brenier_injection(2, 3, lipschitz_bounds=bounds),
    ):
        with pytest.raises(ArgumentError, match="lipschitz_bounds"):
            function()


def test_windows_whose_square_overflows_are_windows():
    low, high = information_window((1e-200, 1e200), 2)
    assert low == 0.0
    assert high == pytest.approx(2 * math.log(1e200))
    assert lipschitz_bounds_for(low=1.0, high=354.0, latent_dim=1)[1] < math.inf


@pytest.mark.parametrize("window", [(1.0, 700.0), (1.0, 89.0), (1e-60, 1.0)])
def test_models_whose_bounds_no_float_holds_are_refused(window):
    """One of these was built with the bounds (nan, inf), one with L = 0."""
    with pytest.raises(ArgumentError, match=r"rate_window=.*latent_dim=2 torch.float32 holds"):
        IDVAE(8, 2, "normal", rate_window=window)
    bounds = lipschitz_bounds_for(low=window[0], high=window[1], latent_dim=2)
    with pytest.raises(ArgumentError, match=r"beyond what torch.float32 can hold"):
        brenier_injection(2, 8, lipschitz_bounds=bounds)


def test_the_largest_window_works_and_double_precision_has_more():
    vae = IDVAE(8, 2, "normal", rate_window=(1.0, 88.0))
    assert vae.likelihood.information_bounds() == pytest.approx((1.0, 88.0), rel=1e-5)
    assert bool(vae.likelihood.injection(torch.randn(5, 2)).isfinite().all())
    torch.set_default_dtype(torch.double)
    try:
        vae = IDVAE(8, 2, "normal", rate_window=(1.0, 700.0))
        assert vae.likelihood.information_bounds() == pytest.approx((1.0, 700.0))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("window", [(1.0,), (1.0, 2.0, 3.0), 2.0])
def test_rate_windows_are_pairs(window):
    with pytest.raises(ArgumentError, match=r"rate_window=.*: expected a pair of numbers"):
        IDVAE(8, 2, "normal", rate_window=window)


@pytest.mark.parametrize("module", [pyro_idvae, distributions])
def test_the_old_name_says_the_new_one(module):
    wanted = module.lipschitz_bounds_for(low=1.0, high=2.0, latent_dim=3)
    with pytest.warns(DeprecationWarning, match="use lipschitz_bounds_for") as caught:
        assert module.rate_window(low=1.0, high=2.0, latent_dim=3) == wanted
    assert caught[0].filename == __file__
