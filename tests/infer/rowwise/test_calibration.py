"""The samplers draw from the posterior: simulation-based calibration of injective models."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import IDVAE, calibrate

LEVEL = 1e-3
"""Of a verdict; seeds are fixed."""


def calibrated(family, kernel, rows, **options):
    torch.manual_seed(0)
    vae = IDVAE(5, 2, family, hidden_dims=[16], encoder_hidden_dims=[8])
    found = calibrate(
        vae.model,
        torch.zeros(7, 5),
        kernel=kernel,
        num_replications=rows,
        level=LEVEL,
        mcmc_options=options,
        seed=1,
        progress=False,
    )
    assert found.by_row
    assert found.num_draws >= 50
    assert found.verdict == "no miscalibration seen", str(found)
    # The rows are enough to see small errors, and so would have been these.
    narrow, shift = found.detectable
    assert narrow > 0.75
    assert shift < 0.35


@pytest.mark.slow
@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_the_vectorised_sampler_is_calibrated(family):
    calibrated(family, "vectorized", rows=2000)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_nuts_is_calibrated(family):
    calibrated(family, "nuts", rows=500, num_samples=3 * 99, warmup_steps=300)


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide(x, scale=1.0, shift=0.0):
    sd = 0.5**0.5
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2 + shift * sd, scale * sd).to_event(1))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        ({}, "no miscalibration seen"),
        ({"scale": 0.8}, "miscalibrated"),
        ({"shift": 0.2}, "miscalibrated"),
    ],
)
def test_a_wrong_posterior_is_seen(error, verdict):
    """The check itself: draws a fifth too narrow, or shifted by a fifth, of 2,000 posteriors."""
    found = calibrate(
        model,
        torch.zeros(3, 2),
        guide=partial(guide, **error),
        num_replications=2000,
        num_draws=99,
        level=LEVEL,
        seed=1,
    )
    assert found.verdict == verdict
