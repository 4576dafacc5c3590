"""Bounds on what marginals know, against closed forms."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from pyro_idvae import from_guide, from_mcmc, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.limits.coordinates import independent_sites
from pyro_idvae.infer.limits.guide import coordinate_log_prob
from pyro_idvae.programs import BoundModel

ROWS, SLOPE, NOISE = 12, torch.tensor([1.0, 0.5, 0.0]), 0.5
X = torch.linspace(-2, 2, ROWS)


def model(x):
    """The data see a weighted sum of three latents; of the third they say nothing."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ SLOPE, NOISE), obs=x)


def exact_draws(chains=4, draws=1000):
    precision = torch.eye(3) + torch.outer(SLOPE, SLOPE) / NOISE**2
    covariance = torch.linalg.inv(precision)
    mean = torch.outer(X, SLOPE) / NOISE**2 @ covariance
    torch.manual_seed(0)
    return dist.MultivariateNormal(mean, covariance).sample((chains, draws))


def conditional_j(x):
    """E over z_−k of J(z_k | z_−k, x): N(a(x − rest)/(a² + σ²), σ²/(a² + σ²)) against N(0, 1)."""
    precision = torch.eye(3) + torch.outer(SLOPE, SLOPE) / NOISE**2
    covariance = torch.linalg.inv(precision)
    mean = torch.outer(x, SLOPE) / NOISE**2 @ covariance
    found = []
    for k in range(3):
        variance = 1 / precision[k, k]
        rest = SLOPE.clone()
        rest[k] = 0
        gain = variance * SLOPE[k] / NOISE**2
        centre = gain * (x - mean @ rest)
        square = centre**2 + gain**2 * (rest @ covariance @ rest)
        found.append((variance + square + (1 + square) / variance) / 2 - 1)
    return torch.stack(found, -1).numpy()


def stats_of(data):
    return {str(n): v.values for n, v in groups_of(data)["sample_stats"].items()}


def test_the_mean_is_what_is_known_given_the_others():
    stats = stats_of(from_mcmc({"z": exact_draws()}, model, X, num_limit_draws=4000))
    error = np.sqrt(stats["limit_variance_z"] / stats["limit_size_z"])
    gap = stats["limit_mean_z"] - conditional_j(X)
    assert stats["limit_mean_z"].shape == (ROWS, 3)
    assert (abs(gap[:, :2]) < 4.5 * error[:, :2]).all()
    np.testing.assert_allclose(stats["limit_mean_z"][:, 2], 0, atol=1e-6)


def test_draws_are_thinned_and_it_can_be_left_out():
    few = stats_of(from_mcmc({"z": exact_draws()}, model, X, num_limit_draws=100))
    assert (few["limit_size_z"] <= 100).all()
    by_default = stats_of(from_mcmc({"z": exact_draws()}, model, X))
    assert 500 < by_default["limit_size_z"].max() <= 1000
    assert "limit_mean_z" not in stats_of(
        from_mcmc({"z": exact_draws()}, model, X, num_limit_draws=0)
    )
    with pytest.raises(ArgumentError, match="num_limit_draws=-1"):
        from_mcmc({"z": exact_draws()}, model, X, num_limit_draws=-1)


def test_a_direction_that_the_data_do_not_see():
    groups = groups_of(from_mcmc({"z": exact_draws()}, model, X))
    stats = groups["sample_stats"]
    labels = stats["coordinate_row"].values.tolist()
    # The third is dead by itself: it is no part of a direction.
    assert labels == ["z[0]", "z[1]"]
    dead = np.array([0.5, -1.0]) / np.hypot(0.5, 1.0)
    along = abs(stats["loadings_row"].values @ dead)
    found = stats["limit_mean_direction_row"].values[along.argmax()]
    assert along.max() > 0.999
    assert found.shape == (ROWS,)
    assert abs(found).max() < 0.05


def test_global_latents_and_their_directions():
    def regression(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 2.0).to_event(1))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)

    torch.manual_seed(1)
    x = torch.randn(30, 1).expand(30, 2)
    y = x.sum(-1) + torch.randn(30)
    precision = torch.eye(2) / 4 + x.mT @ x
    posterior = dist.MultivariateNormal(
        torch.linalg.solve(precision, x.mT @ y), precision_matrix=precision
    )
    data = from_mcmc({"w": posterior.sample((4, 500))}, regression, (x, y))
    stats = groups_of(data)["sample_stats"]
    assert stats["limit_mean_w"].shape == (2,)
    assert (stats["limit_mean_w"] > 1).all()
    best = stats["limit_mean_direction_all"].values.min()
    assert abs(best) < 0.01


def test_dependent_priors_have_no_limit():
    def chained(x):
        with pyro.plate("data", len(x)):
            top = pyro.sample("top", dist.Normal(0.0, 1.0))
            low = pyro.sample("low", dist.Normal(top, 1.0))
            free = pyro.sample("free", dist.Normal(0.0, 1.0))
            pair = pyro.sample("pair", dist.MultivariateNormal(torch.zeros(2), torch.eye(2) + 0.5))
            pyro.sample("x", dist.Normal(low + free + pair.sum(-1), 1.0), obs=x)

    assert independent_sites(BoundModel(chained, None, ((X,), {}))) == ["free"]


def test_observations_outside_the_plate():
    def shared(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.sample("total", dist.Normal(z.sum(), 10.0), obs=x.sum())

    draws = X / 2 + 0.5**0.5 * torch.randn(4, 500, ROWS)
    stats = stats_of(from_mcmc({"z": draws}, shared, X))
    # One number for all rows, shared out among them.
    assert np.ptp(stats["limit_mean_z"]) == 0
    wanted = ((0.5 + X**2 / 4) / 2 + (1 + X**2 / 4) - 1).mean()
    assert stats["limit_mean_z"][0] == pytest.approx(float(wanted), rel=0.15)


def guide(loc, scale_tril):
    def found(x):
        with pyro.plate("data", len(x)):
            mean = torch.outer(x, loc)
            if scale_tril.dim() == 1:
                pyro.sample("z", dist.Normal(mean, scale_tril).to_event(1))
            else:
                pyro.sample("z", dist.MultivariateNormal(mean, scale_tril=scale_tril))

    return found


def test_a_guides_own_density():
    loc, scale = torch.tensor([0.4, 0.2, 0.0]), torch.tensor([0.6, 0.9, 1.0])
    stats = stats_of(from_guide(model, guide(loc, scale), X, num_samples=2000))
    square = torch.outer(X, loc) ** 2
    wanted = (-scale.log() + (scale**2 + square - 1) / 2).numpy()
    error = np.sqrt(stats["limit_variance_z"] / stats["limit_size_z"])
    assert (abs(stats["limit_mean_z"] - wanted) <= 4.5 * error + 1e-6).all()


def test_a_correlated_guide_is_read_given_the_others():
    covariance = torch.tensor([[1.0, -0.9, 0.0], [-0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    q = guide(torch.zeros(3), torch.linalg.cholesky(covariance))
    stats = stats_of(from_guide(model, q, X, num_samples=4000))
    # KL of N(−.9 z', 1 − .81) from N(0, 1), averaged over z' ~ N(0, 1).
    wanted = -0.5 * math.log(1 - 0.81)
    np.testing.assert_allclose(stats["limit_mean_z"][:, :2].mean(), wanted, rtol=0.05)
    np.testing.assert_allclose(stats["limit_mean_z"][:, 2], 0, atol=0.1)


def test_autoguides_on_other_scales():
    def positive(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    auto = AutoNormal(positive, init_scale=0.5)
    auto(X)
    with torch.no_grad():
        auto.locs.z_unconstrained.fill_(0.3)
    stats = stats_of(from_guide(positive, auto, X, num_samples=4000))
    wanted = -math.log(0.5) + (0.25 + 0.09 - 1) / 2
    assert stats["limit_mean_z"].mean() == pytest.approx(wanted, abs=0.02)


def test_a_conditional_density_in_closed_form():
    covariance = torch.tensor([[2.0, 0.7], [0.7, 1.0]], dtype=torch.float64)
    loc = torch.tensor([1.0, -1.0], dtype=torch.float64)
    z = torch.randn(5, 2, dtype=torch.float64)
    joint = dist.MultivariateNormal(loc, covariance)
    marginal = dist.Normal(loc, covariance.diagonal().sqrt())
    # p(z_0 | z_1) = p(z_0, z_1) / p(z_1).
    wanted = joint.log_prob(z).unsqueeze(-1) - marginal.log_prob(z).flip(-1)
    torch.testing.assert_close(coordinate_log_prob(joint, z), wanted)
    assert coordinate_log_prob(dist.Dirichlet(torch.ones(3)), torch.ones(4, 3) / 3) is None


def test_half_of_the_chains_of_an_injective_model_do_not_begin_at_one_mode():
    """Two modes: with a chain at the closed-form mode and three at modes of prior draws."""

    def squared(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z**2, 0.3), obs=x)

    x = torch.full((400,), 1.5)
    draws = mcmc(squared, x, kernel="vectorized", num_samples=50, seed=0, progress=False)
    sides = groups_of(draws)["posterior"]["z"].values.mean(1) > 0
    # All four on one side: an eighth.
    alone = (sides.sum(0) % 4 == 0).mean()
    assert abs(alone - 0.125) < 4 * math.sqrt(0.125 * 0.875 / 400)
