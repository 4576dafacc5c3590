"""Models whose posterior would not be what it says, and what is said instead."""

import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_idvae import AutoInjectiveLaplace, collapse_report, from_mcmc, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.distributions import InjectiveNormal
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.transforms import brenier_injection

X = torch.tensor([0.5, -1.0, 3.0])
FAST = {"num_samples": 20, "warmup_steps": 20, "progress": False}


def normal(x, **options):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x, **options)


@pytest.mark.parametrize("seed", range(10))
def test_a_coupling_behind_a_large_density_is_found(seed):
    """The rows are tied by a term of a few nats beside a likelihood of -1e5 at prior draws."""

    def tied(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
            pyro.factor("ring", -((b - b.roll(1) - 0.5) ** 2))
            pyro.sample("x", dist.Normal(a.unsqueeze(-1).expand(x.shape), 0.01).to_event(1), obs=x)

    x = torch.randn(4, 1) + 0.01 * torch.randn(4, 8)
    with pytest.raises(ArgumentError, match="depends on other rows, at the site 'ring'"):
        mcmc(tied, x, kernel="vectorized", seed=seed, **FAST)


def test_a_coupling_inside_one_site_is_found_where_the_posterior_lives():
    def tied(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            loc = (z + 1e-3 * (z.roll(1) - z.roll(2))).unsqueeze(-1).expand(x.shape)
            pyro.sample("x", dist.Normal(loc, 1e-3).to_event(1), obs=x)

    x = torch.randn(6, 1) + 1e-3 * torch.randn(6, 20)
    with pytest.raises(ArgumentError, match="depends on other rows"):
        mcmc(tied, x, kernel="vectorized", seed=0, **FAST)


@pytest.mark.parametrize("kernel", ["nuts", "vectorized"])
def test_scaled_densities_and_obs_masks_are_refused(kernel):
    def scaled(x):
        with poutine.scale(scale=2.0):
            normal(x)

    with pytest.raises(ArgumentError, match="tempered"):
        mcmc(scaled, X, kernel=kernel, **FAST)

    def masked(x):
        normal(x, obs_mask=torch.tensor([True, False, True]))

    with pytest.raises(ArgumentError, match="come from obs_mask"):
        mcmc(masked, X, kernel=kernel, **FAST)


def test_supports_that_depend_on_latents_are_named():
    def nested(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Uniform(1.0, 2.0))
            b = pyro.sample("b", dist.Uniform(0.0, a))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    with pytest.raises(ArgumentError, match="support of the site 'b' depends"):
        mcmc(nested, X, kernel="vectorized", **FAST)


def test_a_mask_around_the_likelihood_has_no_closed_form():
    likelihood = InjectiveNormal(brenier_injection(2, 4, hidden_dims=[8]))

    def model(x):
        pyro.module("likelihood", likelihood)
        with pyro.plate("data", len(x)), poutine.mask(mask=torch.tensor([True, False, True])):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", likelihood.condition(z), obs=x)

    x = torch.randn(3, 4)
    with pytest.raises(NoCertificateError, match=r"masked by poutine\.mask"):
        AutoInjectiveLaplace(model)(x)


def test_what_is_observed_outside_the_plate_is_scored_too():
    def model(x):
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.3))
        normal(x)

    data = groups_of(mcmc(model, X, kernel="vectorized", **FAST))
    wanted = float(dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.3)))
    np.testing.assert_allclose(data["log_likelihood"]["y"].values, wanted, rtol=1e-6)


@pytest.mark.parametrize("kernel", [pytest.param("nuts", marks=pytest.mark.slow), "vectorized"])
def test_factors_count_as_likelihood(kernel):
    """All the information comes by a factor: J must see it."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("lik", dist.Normal(z, 0.5).log_prob(x))

    data = mcmc(model, X, kernel=kernel, num_samples=300, warmup_steps=200, seed=0, progress=False)
    assert groups_of(data)["log_likelihood"]["lik"].dims == ("chain", "draw", "data")
    report = collapse_report(data)
    assert report.verdict == "informative"
    assert report.vector["estimate"] > report.table["kl"]["z"]


def test_densities_too_coarse_to_sample_are_said():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            loc = torch.stack([z, torch.zeros_like(z)], -1)
            pyro.sample("x", dist.Normal(loc, torch.tensor([1.0, 0.01])).to_event(1), obs=x)

    x = torch.tensor([[0.5, 80.0], [1.0, 0.0]])
    with pytest.warns(UserWarning, match="rounded to .* nats"):
        mcmc(model, x, kernel="vectorized", seed=0, **FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mcmc(model, x.double(), kernel="vectorized", seed=0, **FAST)


def test_chains_that_disagree_are_said():
    draws = torch.randn(4, 200, 3)
    draws[0, :, 1] += 5
    report = collapse_report(from_mcmc({"z": draws}, normal, X))
    assert report.chains.num_weighed + report.chains.num_left_out == 1
    assert report.chains.worst_rhat > 1.5
    assert "Chains disagree in 1 of 3 data points (33.3 %" in str(report)


def test_arguments_of_kernels_are_named():
    with pytest.raises(ArgumentError, match=r"kernel_options has \['max_tree_depth'\]"):
        mcmc(normal, X, kernel="vectorized", kernel_options={"max_tree_depth": 5}, **FAST)
    with pytest.raises(ArgumentError, match=r"kernel_options has \['max_tree'\]"):
        mcmc(normal, X, kernel_options={"max_tree": 5}, **FAST)
    with pytest.raises(ArgumentError, match="expected ArviZ data"):
        collapse_report(None)
