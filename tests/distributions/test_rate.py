"""From windows in nats to Lipschitz bounds and back."""

import pytest

import pyro_idvae
from pyro_idvae import distributions
from pyro_idvae.distributions import information_window, lipschitz_bounds_for
from pyro_idvae.errors import ArgumentError


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
    ],
)
def test_impossible_windows_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        lipschitz_bounds_for(**arguments)


@pytest.mark.parametrize("module", [pyro_idvae, distributions])
def test_the_old_name_says_the_new_one(module):
    wanted = module.lipschitz_bounds_for(low=1.0, high=2.0, latent_dim=3)
    with pytest.warns(DeprecationWarning, match="use lipschitz_bounds_for") as caught:
        assert module.rate_window(low=1.0, high=2.0, latent_dim=3) == wanted
    assert caught[0].filename == __file__
