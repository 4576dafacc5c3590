import warnings

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC
from pyro.nn import PyroModule
from scipy import stats

from pyro_idvae import IDVAE, VectorizedHMC, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.diagnostics.estimators import effective_sample_size
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.rowwise.adaptation import Lengths, StepSizes, effective_share, jittered
from pyro_idvae.models import ProbabilisticPCA

LEVEL = 1e-3
"""Of each whole test, all its comparisons together."""


class Linear(PyroModule):
    """z ~ N(0, I), x ~ N(wz, σ²I): probabilistic PCA at given loadings."""

    def __init__(self, w, scale):
        super().__init__()
        self.w, self.scale = w, scale

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.w.mT, self.scale).to_event(1), obs=x)


def linear(rows, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(5, 2, generator=generator, dtype=dtype)
    x = torch.randn(rows, 5, generator=generator, dtype=dtype)
    return Linear(w, 0.5), x, ProbabilisticPCA(5, 2, scale=0.5).posterior(x, w)


def check_moments(draws, posterior):
    """Means and second moments of each data point against the closed form, by Bonferroni.

    The Monte-Carlo standard errors take the spread of one draw from the closed form too: estimated
    from the same draws it is small just where a skewed mean is low.
    """
    count = draws.shape[2] * 5
    limit = stats.norm.isf(LEVEL / count / 2)
    centred = draws - posterior.mean.numpy()
    cov = posterior.covariance_matrix.reshape(-1, 2, 2)[0].numpy()  # one for all data points
    series = [(centred[..., k], 0.0, cov[k, k]) for k in (0, 1)]
    for i, j in ((0, 0), (0, 1), (1, 1)):
        variance = cov[i, i] * cov[j, j] + cov[i, j] ** 2
        series.append((centred[..., i] * centred[..., j], cov[i, j], variance))
    for values, truth, variance in series:
        error = np.sqrt(variance / effective_sample_size(values))
        assert (abs(values.mean((0, 1)) - truth) < limit * error).all()


def test_moments_of_every_data_point_are_those_of_the_closed_form():
    model, x, posterior = linear(200)
    data = groups_of(
        mcmc(model, x, kernel="vectorized", num_samples=500, num_chains=4, seed=0, progress=False)
    )
    draws = data["posterior"]["z"].values
    assert draws.shape == (4, 500, 200, 2)
    check_moments(draws, posterior)
    assert not data["sample_stats"]["diverging"].any()
    acceptance = data["sample_stats"]["acceptance_rate"].values.mean()
    assert 0.8 < acceptance < 0.97
    # A handful of gradients a draw is enough for draws that are nearly independent.
    ess = np.array([float(arviz.ess(draws[:, :, i, 0])) for i in range(50)])
    assert np.median(ess) > 1000


@pytest.mark.slow
def test_nuts_agrees_with_the_closed_form():
    model, x, posterior = linear(6)
    data = groups_of(mcmc(model, x, num_samples=500, num_chains=2, seed=0, progress=False))
    check_moments(data["posterior"]["z"].values, posterior)


def test_densities_and_statistics_belong_to_their_draws():
    model, x, _ = linear(7)
    data = groups_of(
        mcmc(model, x, kernel="vectorized", num_samples=6, num_chains=3, progress=False)
    )
    z = torch.tensor(data["posterior"]["z"].values)
    wanted = dist.Normal(z @ model.w.mT, 0.5).log_prob(x).sum(-1)
    np.testing.assert_allclose(data["log_likelihood"]["x"].values, wanted.numpy(), rtol=1e-10)
    prior = dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
    np.testing.assert_allclose(data["log_prior"]["z"].values, prior.numpy(), rtol=1e-10)
    stat = data["sample_stats"]
    for name in ("row_diverging", "row_energy", "acceptance_rate", "step_size"):
        assert stat[name].dims == ("chain", "draw", "data")
    # Energy is minus the log joint at the start of a trajectory, and a kinetic energy.
    kinetic = stat["row_energy"].values[:, 1:] + (wanted + prior).numpy()[:, :-1]
    assert kinetic.min() > -1e-9
    assert kinetic.mean() == pytest.approx(1.0, abs=0.5)
    # Of the sampler as a whole: what ArviZ's own functions read.
    assert stat["energy"].dims == stat["diverging"].dims == ("chain", "draw")
    np.testing.assert_allclose(stat["energy"], stat["row_energy"].sum("data"), rtol=1e-12)
    assert (stat["diverging"] == stat["row_diverging"].any("data")).all()


@pytest.mark.parametrize("block_size", [pytest.param(1, marks=pytest.mark.slow), 5, 64])
def test_blocks_of_any_size_give_the_posterior(block_size):
    model, x, posterior = linear(9)
    data = groups_of(
        mcmc(
            model,
            x,
            kernel="vectorized",
            num_samples=400,
            warmup_steps=100,
            num_chains=2,
            block_size=block_size,
            seed=1,
            progress=False,
        )
    )
    check_moments(data["posterior"]["z"].values, posterior)


def test_constrained_latents_of_one_dimension_against_quadrature():
    def model(x):
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Poisson(rate), obs=x)

    x = torch.arange(8.0)
    data = groups_of(
        mcmc(model, x, kernel="vectorized", num_samples=800, num_chains=4, seed=0, progress=False)
    )
    draws = data["posterior"]["rate"].values
    for i, count in enumerate(x.tolist()):
        exact = stats.gamma(2 + count, scale=0.5)
        error = float(arviz.mcse(draws[..., i], method="mean"))
        assert abs(draws[..., i].mean() - exact.mean()) < stats.norm.isf(LEVEL / 32) * error
        cdf = exact.cdf(draws[..., i])
        for level in (0.1, 0.5, 0.9):
            below = (cdf < level).astype(float)
            error = float(arviz.mcse(below, method="mean"))
            assert abs(below.mean() - level) < stats.norm.isf(LEVEL / 64) * error


def test_a_narrow_posterior_far_from_the_prior():
    """Posterior sd .001 around values up to 100: the start must find it, the metric fit it."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 100.0))
            pyro.sample("x", dist.Normal(z, 1e-3), obs=x)

    x = torch.tensor([-100.0, 0.0, 3.0, 50.0], dtype=torch.float64)
    data = groups_of(
        mcmc(model, x, kernel="vectorized", num_samples=400, num_chains=4, seed=0, progress=False)
    )
    draws = data["posterior"]["z"].values
    assert (abs(draws.mean((0, 1)) - x.numpy()) < 3e-4).all()
    np.testing.assert_allclose(draws.std((0, 1)), 1e-3, rtol=0.15)


def test_pyros_mcmc_runs_the_kernel():
    model, x, posterior = linear(5)
    kernel = VectorizedHMC(model)
    sampler = MCMC(kernel, num_samples=600, warmup_steps=150, disable_progbar=True)
    pyro.set_rng_seed(0)
    sampler.run(x)
    draws = sampler.get_samples(group_by_chain=True)["z"]
    assert draws.shape == (1, 600, 5, 2)
    check_moments(draws.numpy(), posterior)
    found = sampler.diagnostics()
    assert found["divergences"] == {"chain 0": []}
    assert 0.8 < found["acceptance rate"]["chain 0"] < 0.97


def test_the_kernel_needs_data_and_no_initial_values():
    kernel = VectorizedHMC(linear(2)[0])
    with pytest.raises(ArgumentError, match="no data yet"):
        kernel.sample({})
    with pytest.raises(ArgumentError, match="cannot be set"):
        kernel.initial_params = {"z": torch.zeros(2, 2)}
    with pytest.raises(ArgumentError, match="block_size=0"):
        VectorizedHMC(linear(2)[0], block_size=0)


def test_seeds_repeat_and_a_model_is_left_alone():
    torch.manual_seed(0)
    vae = IDVAE(4, 2, "bernoulli", hidden_dims=[8], encoder_hidden_dims=[8])
    x = (torch.rand(20, 4) < 0.5).float()
    options = {"kernel": "vectorized", "num_samples": 5, "seed": 3, "progress": False}
    first, second = (groups_of(mcmc(vae.model, x, **options)) for _ in range(2))
    np.testing.assert_array_equal(first["posterior"]["latent"], second["posterior"]["latent"])
    assert all(p.requires_grad for p in vae.parameters())
    assert vae.model.training
    assert first["posterior"].attrs["inference_method"] == "vectorized"


@pytest.mark.parametrize(("num_samples", "warmup_steps"), [(1, 0), (2, 1), (3, 10)])
def test_hardly_any_steps(num_samples, warmup_steps):
    model, x, _ = linear(3, torch.float32)
    data = groups_of(
        mcmc(
            model,
            x[:1],
            kernel="vectorized",
            num_samples=num_samples,
            warmup_steps=warmup_steps,
            num_chains=1,
            progress=False,
        )
    )
    assert data["posterior"]["z"].shape == (1, num_samples, 1, 2)
    assert np.isfinite(data["posterior"]["z"]).all()


def test_what_belongs_to_the_other_kernels_is_refused():
    model, x, _ = linear(3)
    with pytest.raises(ArgumentError, match="leave out parallel and start"):
        mcmc(model, x, kernel="vectorized", parallel=True)


def test_divergences_are_recorded():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            # A wall that a trajectory of any step size runs into.
            pyro.factor("wall", torch.where(z > 1.5, -1e6 * (z - 1.5), 0.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x = torch.full((20,), 3.0)
    data = groups_of(
        mcmc(model, x, kernel="vectorized", num_samples=100, target_accept_prob=0.5, progress=False)
    )
    assert data["sample_stats"]["diverging"].any()
    assert data["posterior"]["z"].max() < 1.6


def test_step_sizes_reach_the_acceptance_they_are_told_to():
    """Acceptance exp(−s²) of step size s: the target fixes s."""
    sizes = StepSizes(torch.tensor([0.1, 1.0, 5.0]), 0.8)
    for _ in range(400):
        sizes.update((-sizes.current.square()).exp())
    wanted = torch.full((3,), -np.log(0.8)).sqrt().to(torch.float32)
    torch.testing.assert_close(sizes.final, wanted, rtol=0.05, atol=0.0)


def test_effective_shares_of_autoregressive_series():
    """Of AR(1) with ρ: (1 − ρ)/(1 + ρ) for x, (1 − ρ²)/(1 + ρ²) for its square."""
    torch.manual_seed(0)
    rho = 0.5
    draws = [torch.randn(4000, 2)]
    for _ in range(39):
        draws.append(rho * draws[-1] + (1 - rho**2) ** 0.5 * torch.randn(4000, 2))
    assert effective_share(torch.stack(draws)) == pytest.approx(1 / 3, rel=0.05)
    assert effective_share(torch.randn(40, 4000, 2)) == pytest.approx(1.0, rel=0.05)


def test_lengths_climb_to_the_best_and_stop():
    search = Lengths(patience=10)
    assert search.current == 2
    search.searching = True
    rho = {2: 0.95, 3: 0.9, 4: 0.5, 6: 0.45, 8: 0.44, 12: 0.4}
    torch.manual_seed(0)
    x = torch.randn(2000, 1)
    while search.searching:
        r = rho[search.current]
        x = r * x + (1 - r**2) ** 0.5 * torch.randn(2000, 1)
        search.update(x)
    assert search.current == 4
    assert sorted({jittered(4, i) for i in range(20)}) == [1, 2, 3, 4]
    counts = np.bincount([jittered(4, i) for i in range(400)])[1:]
    assert counts.min() > 95
    assert counts.max() < 105


@pytest.mark.parametrize("seed", range(3))
def test_a_wild_exponential_link_is_sampled_all_the_same(seed):
    """Rates up to e⁴⁰ at the start: whatever the densities are, nothing breaks."""
    torch.manual_seed(seed)
    vae = IDVAE(5, 2, "poisson", hidden_dims=[8], encoder_hidden_dims=[8])
    x = torch.poisson(torch.full((6, 5), 3.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that such densities are coarse is another test's matter
        data = groups_of(
            mcmc(vae.model, x, kernel="vectorized", num_samples=20, seed=seed, progress=False)
        )
    assert np.isfinite(data["posterior"]["latent"]).all()
