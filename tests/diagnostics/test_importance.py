"""Importance weights of a guide: log p(x), Pareto k, weights that are equal, 0 or no numbers."""

import math
import tracemalloc

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from scipy.special import logsumexp

from pyro_idvae import IDVAE, compare, fit, from_guide, from_mcmc, importance_log_likelihood
from pyro_idvae.arviz_io import Variable, to_arviz
from pyro_idvae.diagnostics.compare.pairing import importance_k
from pyro_idvae.diagnostics.importance import ImportanceEstimate
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.diagnostics.weights import RunningWeights, sum_terms, weigh
from pyro_idvae.errors import ArgumentError, DataError
from pyro_idvae.programs import side_by_side

X = torch.tensor([0.5, -1.0, 3.0, 0.0])


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x, scale=0.8):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, scale))


def test_weights_of_objectives_do_not_enter_likelihoods():
    from pyro import poutine

    def tempered(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with poutine.scale(scale=0.1):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def perfect(x):
        guide(x, 0.5**0.5)

    found = importance_log_likelihood(tempered, perfect, X, num_samples=30)
    exact = dist.Normal(0.0, 2**0.5).log_prob(X).numpy()
    np.testing.assert_allclose(found.log_likelihood, exact, atol=1e-5)


def test_chunks_need_a_guide_that_reads_the_data():
    auto = AutoNormal(model)
    fit(model, auto, X, num_epochs=1, progress=False)
    with pytest.raises(ArgumentError, match="belong to certain rows"):
        importance_log_likelihood(model, auto, X, num_samples=5, block_size=2)
    with pytest.raises(ArgumentError, match="num_samples=1"):
        importance_log_likelihood(model, guide, X, num_samples=1)


def test_importance_sampling_finds_the_marginal_likelihood():
    exact = dist.Normal(0.0, 2**0.5).log_prob(X).numpy()
    found = importance_log_likelihood(model, guide, X, num_samples=8000)
    # The relative variance of a weight at scale .8: bounded weights, known tail.
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.02)
    assert (found.pareto_k < 0.7).all()
    assert found.mean == pytest.approx(exact.mean(), abs=0.02)
    spread = found.log_likelihood.std(ddof=1) / 2
    assert found.standard_error == pytest.approx(spread)


def test_a_perfect_guide_is_exact_with_one_draw():
    def perfect(x):
        guide(x, 0.5**0.5)

    found = importance_log_likelihood(model, perfect, X, num_samples=30)
    exact = dist.Normal(0.0, 2**0.5).log_prob(X).numpy()
    np.testing.assert_allclose(found.log_likelihood, exact, atol=1e-5)


def test_a_poor_guide_is_found_out_by_its_tail_index():
    def narrow(x):
        guide(x + 4, 0.1)

    assert (importance_log_likelihood(model, narrow, X, num_samples=1000).pareto_k > 0.6).all()


def test_the_average_is_inside_the_logarithm_row_by_row():
    """Rows may be scored in chunks, and a row's estimate does not depend on the others."""
    vae = IDVAE(5, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    x = torch.randn(10, 5)
    whole = importance_log_likelihood(vae.model, vae.guide, x, num_samples=400)
    parts = importance_log_likelihood(
        vae.model, vae.guide, x, num_samples=400, block_size=3, progress=True
    )
    assert parts.log_likelihood.shape == (10,)
    assert parts.mean == pytest.approx(whole.mean, abs=1.0)
    assert math.isfinite(parts.standard_error)


def test_joint_guides_are_refused():
    auto = AutoMultivariateNormal(model)
    with pytest.raises(ArgumentError, match="does not factorise over the data"):
        importance_log_likelihood(model, auto, X, num_samples=5)


def test_guides_without_a_density_over_the_latents_are_refused():
    from pyro.infer.autoguide import AutoDelta

    with pytest.raises(ArgumentError, match="is a point at the sites"):
        importance_log_likelihood(model, AutoDelta(model), X, num_samples=5)

    def noisy(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(x / 2 + a, 0.7))

    with pytest.raises(ArgumentError, match=r"auxiliary sites \['a'\]"):
        importance_log_likelihood(model, noisy, X, num_samples=5)
    found = importance_log_likelihood(model, AutoNormal(model), X, num_samples=5)
    assert np.isfinite(found.log_likelihood).all()


def test_one_row_and_another_plate_of_one():
    def nested(x):
        with pyro.plate("group", 1, dim=-2), pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def nested_guide(x):
        with pyro.plate("group", 1, dim=-2), pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    found = importance_log_likelihood(nested, nested_guide, X[:1], num_samples=20)
    exact = dist.Normal(0.0, 2**0.5).log_prob(X[:1]).numpy()
    np.testing.assert_allclose(found.log_likelihood, exact, atol=1e-5)


def test_weights_of_zero_and_of_no_number():
    rng = np.random.default_rng(0)

    def latents(log_q):
        zero = Variable(np.zeros((1, 200, 3)), ("data",))
        draws = Variable(rng.normal(size=(1, 200, 3)), ("data",))
        return Latents.of(
            to_arviz(
                {
                    "posterior": {"z": draws},
                    "log_likelihood": {"x": zero},
                    "log_prior": {"z": zero},
                    "sample_stats": {"log_q": Variable(log_q, ("data",))},
                }
            )
        )

    log_q = rng.normal(size=(1, 200, 3))
    log_q[0, :20, 1] = np.inf
    log_q[0, 0, 2] = np.nan
    k, _ = importance_k(latents(log_q))
    assert np.isfinite(k[:2]).all()
    assert np.isnan(k[2])


def linear_gaussian(rows, features, latent_dim, noise, dtype):
    """x = Wz + noise·N and its exact posterior as a guide, with data of the model."""
    weight = torch.randn(features, latent_dim, dtype=torch.double)
    precision = torch.eye(latent_dim, dtype=torch.double) + weight.T @ weight / noise**2
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    z = torch.randn(rows, latent_dim, dtype=torch.double)
    x = z @ weight.T + noise * torch.randn(rows, features, dtype=torch.double)
    loc = (x @ weight @ covariance / noise**2).to(dtype)
    tril = torch.linalg.cholesky(covariance).to(dtype)
    weight = weight.to(dtype)

    def linear(x):
        with pyro.plate("data", len(x)):
            zero = x.new_zeros(latent_dim)
            z = pyro.sample("z", dist.Normal(zero, torch.ones_like(zero)).to_event(1))
            pyro.sample("x", dist.Normal(z @ weight.T, x.new_tensor(noise)).to_event(1), obs=x)

    def exact(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=tril))

    return linear, exact, x.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("features", "latent_dim", "noise"), [(1, 1, 1.0), (5, 2, 0.3), (500, 3, 0.01)]
)
def test_an_exact_guide_has_no_tail_in_any_row(features, latent_dim, noise, dtype):
    rows = 1000 if features < 100 else 100
    linear, exact, x = linear_gaussian(rows, features, latent_dim, noise, dtype)
    found = importance_log_likelihood(linear, exact, x, num_samples=200)
    assert (found.pareto_k == 0).all()
    svi = from_guide(linear, exact, x, num_samples=200, num_prior_samples=2)
    assert (importance_k(Latents.of(svi))[0] == 0).all()


def test_large_log_densities_are_equal_within_their_own_rounding():
    """At −1e5 single precision goes in steps of .008; a real tail is seen through them."""
    rng = np.random.default_rng(0)
    log_q = rng.normal(size=(1000, 20)).astype(np.float32)
    steps = 3 * np.spacing(np.float32(1e5)) * rng.normal(size=log_q.shape)
    log_p = (log_q - 1e5 + steps).astype(np.float32)
    assert np.ptp(log_p.astype(float) - log_q, axis=0).min() > 0.1
    assert (weigh([log_p, -log_q])[1] == 0).all()
    tail = np.log(rng.pareto(1 / 0.9, size=log_q.shape) + 1)
    k = weigh([(log_p + tail).astype(np.float32), -log_q])[1]
    assert abs(k.mean() - 0.9) < 0.05 + 4 * k.std() / len(k) ** 0.5
    # In steps of 1 nat nothing can be said of weights that look equal.
    assert np.isnan(weigh([log_p * 100, -log_p * 100])[1]).all()


def test_the_rounding_is_that_of_draws_that_weigh_something():
    rng = np.random.default_rng(0)
    log_p = np.log(rng.pareto(1 / 0.9, size=(1000, 5)) + 1).astype(np.float32)
    log_p[:100] = -1e7
    assert (weigh([log_p])[1] > 0.5).all()


def test_rows_weighed_jointly_round_independently():
    rng = np.random.default_rng(0)
    log_p = rng.normal(-1e3, 1.0, size=(200, 400)).astype(np.float32)
    noise = (4 * rng.normal(size=log_p.shape) * np.spacing(np.float32(1e3))).astype(np.float32)
    weights, k = weigh([log_p, -(log_p + noise), np.zeros((200, 1), np.float32)], joint=True)
    assert weights.shape == (1, 200)
    assert np.ptp(weights) > 0.01
    assert k == 0


def test_weights_of_zero_count_and_weights_of_no_number_are_refused():
    def cut(x):
        """z ~ Uniform(0, 1): half of the guide's draws cannot be."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Uniform(torch.zeros(len(x)), 1.0, validate_args=False))
            pyro.sample("x", dist.Normal(0.0 * z, 1.0), obs=x)

    def wide(x, low=-1.0):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Uniform(torch.full((len(x),), low), low + 2.0))

    with pyro.validation_enabled(False):
        found = importance_log_likelihood(cut, wide, X, num_samples=4000)
        none = importance_log_likelihood(cut, lambda x: wide(x, low=5.0), X, num_samples=40)
    exact = dist.Normal(0.0, 1.0).log_prob(X).numpy()
    # A share of .5 of 4,000 weights is not 0: the logarithm of that share errs by 1/√4000.
    assert (abs(found.log_likelihood - exact) < 5 / 4000**0.5).all()
    assert (found.pareto_k == 0).all()
    assert (none.log_likelihood == -np.inf).all()
    assert np.isnan(none.pareto_k).all()
    assert none.mean == -math.inf
    assert math.isnan(none.standard_error)

    def broken(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            scale = torch.where(x > 2, torch.tensor(math.nan), torch.tensor(1.0))
            pyro.sample("x", dist.Normal(z, scale, validate_args=False), obs=x)

    for block_size in (None, 1):
        with (
            pyro.validation_enabled(False),
            pytest.raises(DataError, match=r"1 data points .*rows 2.*\['x'\] are NaN"),
        ):
            importance_log_likelihood(broken, guide, X, num_samples=5, block_size=block_size)

    def everywhere(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.0, validate_args=False))

    with pyro.validation_enabled(False), pytest.raises(DataError, match=r"4 data .*'log_q'"):
        importance_log_likelihood(model, everywhere, X, num_samples=5)


def test_one_row_has_a_mean_and_no_standard_error():
    found = importance_log_likelihood(model, guide, X[:1], num_samples=50)
    assert found.mean == found.log_likelihood[0]
    assert math.isnan(found.standard_error)
    assert math.isnan(ImportanceEstimate(np.zeros(1), np.zeros(1), 2).standard_error)


def test_compare_says_of_an_exact_guide_that_no_row_has_a_tail():
    linear, exact, x = linear_gaussian(50, 5, 2, 0.3, torch.float64)
    svi = from_guide(linear, exact, x, num_samples=200, num_prior_samples=2)
    draws = {"z": torch.as_tensor(svi.posterior["z"].values)}
    nuts = from_mcmc(draws, linear, x, num_prior_samples=2)
    assert "k-hat above 0.7 at 0% of the data points" in compare(svi, nuts).summary


@pytest.mark.parametrize("number", [2, 29, 30, 200, 3001])
@pytest.mark.parametrize("width", [1, 7, 1000, 3001])
def test_weights_in_blocks_are_weighed_as_all_at_once(number, width):
    rng = np.random.default_rng(number)
    heavy = np.log(rng.pareto(1 / 0.9, size=(number, 5)) + 1)
    heavy[: number // 2, 1] = -np.inf
    heavy[:, 2] = -np.inf
    heavy[:, 3] = 1e-6 * rng.normal(size=number)
    heavy[number // 3 :, 4] = heavy[0, 4]
    terms = [heavy, rng.normal(size=heavy.shape).astype(np.float32) * [1, 1, 1, 0, 1]]
    terms[1] = terms[1].astype(np.float32)
    whole = weigh(terms)
    running = RunningWeights(5, number)
    for first in range(0, number, width):
        running.add(sum_terms([term[first : first + width] for term in terms]))
    np.testing.assert_array_equal(running.pareto_k(), whole.pareto_k)
    expected = logsumexp(whole.log_weights, axis=-1) - math.log(number)
    np.testing.assert_allclose(running.log_mean(), expected, rtol=0, atol=1e-12)


def test_the_block_of_draws_changes_nothing(monkeypatch):
    """A seed gives the same draws in blocks as at once."""
    found = []
    for runs in (1, 3, 10_000):
        monkeypatch.setattr("pyro_idvae.diagnostics.importance.RUNS_AT_ONCE", runs)
        monkeypatch.setattr(side_by_side, "NUMBERS_AT_ONCE", 1000)
        pyro.set_rng_seed(3)
        found.append(importance_log_likelihood(model, guide, X, num_samples=3000))
    for one in found[1:]:
        np.testing.assert_allclose(one.log_likelihood, found[0].log_likelihood, atol=1e-12)
        np.testing.assert_array_equal(one.pareto_k, found[0].pareto_k)


def test_memory_does_not_grow_with_the_number_of_draws():
    def peak(number):
        tracemalloc.start()
        importance_log_likelihood(model, guide, X, num_samples=number)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100)
    # A block has 16 runs of 16,384 draws.
    assert peak(2**20) < 1.1 * peak(2**18) + 2e6


def test_a_weight_that_is_no_number_is_found_in_a_later_block(monkeypatch):
    monkeypatch.setattr(side_by_side, "NUMBERS_AT_ONCE", 100)
    draws = 0

    def broken(x):
        nonlocal draws
        draws += len(x) // len(X)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            scale = torch.where(x > 2, math.nan, 1.0) if draws > 5000 else torch.ones(())
            pyro.sample("x", dist.Normal(z, scale, validate_args=False), obs=x)

    with (
        pyro.validation_enabled(False),
        pytest.raises(DataError, match=r"1 data points .*rows 2.*\['x'\] are NaN"),
    ):
        importance_log_likelihood(broken, guide, X, num_samples=100_000)
    assert draws < 10_000
