"""Simulation-based calibration: with z and x drawn from the model, the rank of z among draws of its
posterior is uniform (Talts et al., arXiv 1804.06788). The replications are rows of one plate."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_idvae import IDVAE, mcmc
from pyro_idvae.arviz_io import groups_of

BINS = 20
LEVEL = 1e-4
"""Smallest p-value accepted, of a dozen; seeds are fixed."""


def simulated(family, rows):
    torch.manual_seed(0)
    vae = IDVAE(5, 2, family, hidden_dims=[16], encoder_hidden_dims=[8])
    z = torch.randn(rows, 2)
    with torch.no_grad():
        conditional = vae.likelihood.condition(z)
        x = conditional.sample()
        return vae.model, x, z.numpy(), conditional.log_prob(x).numpy()


def p_value(draws, truth):
    """Of uniform ranks, for thinned draws of shape (99, rows)."""
    ranks = (draws < truth).sum(0)
    counts = np.bincount(ranks * BINS // (len(draws) + 1), minlength=BINS)
    return stats.chisquare(counts).pvalue


def check_ranks(data, z, log_likelihood, thin):
    groups = groups_of(data)
    values = groups["posterior"]["latent"].values.reshape(-1, *z.shape)[::thin][:99]
    likelihood = groups["log_likelihood"]["obs"].values.reshape(-1, len(z))[::thin][:99]
    assert len(values) == 99
    for k in range(z.shape[1]):
        assert p_value(values[..., k], z[:, k]) > LEVEL
    # A quantity that data and latents both enter shows errors that single coordinates hide.
    assert p_value(likelihood, log_likelihood) > LEVEL
    assert p_value((values**2).sum(-1), (z**2).sum(-1)) > LEVEL


@pytest.mark.slow
@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_the_vectorised_sampler_is_calibrated(family):
    model, x, z, log_likelihood = simulated(family, rows=2000)
    data = mcmc(
        model, x, kernel="vectorized", num_samples=99 * 5, num_chains=1, seed=1, progress=False
    )
    check_ranks(data, z, log_likelihood, thin=5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["normal", "bernoulli"])
def test_nuts_is_calibrated(family):
    model, x, z, log_likelihood = simulated(family, rows=500)
    data = mcmc(
        model,
        x,
        num_samples=99 * 3,
        warmup_steps=300,
        num_chains=1,
        num_prior_samples=1,
        seed=1,
        progress=False,
    )
    check_ranks(data, z, log_likelihood, thin=3)


def test_ranks_of_a_wrong_posterior_are_seen():
    """The check itself: draws a fifth too narrow, or shifted by a fifth, of 2,000 posteriors."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    assert p_value(rng.normal(size=(99, 2000)), truth) > LEVEL
    assert p_value(0.8 * rng.normal(size=(99, 2000)), truth) < LEVEL
    assert p_value(0.2 + rng.normal(size=(99, 2000)), truth) < LEVEL
