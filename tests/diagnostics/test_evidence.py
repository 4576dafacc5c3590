"""Evidence between two bounds: against closed forms and quadrature, and where it is fooled."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae import log_evidence
from pyro_idvae.diagnostics.evidence.log_means import log_mean
from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from pyro_idvae.infer.rowwise.annealing.annealer import Annealer

NOISE = 0.5


def linear(latent_dim, data_dim, rows, dtype=torch.float32, seed=0):
    """Return a linear-Gaussian model, a poor guide, data, their latents, and log p(x) and KL."""
    generator = torch.Generator().manual_seed(seed)
    loadings = torch.randn(data_dim, latent_dim, generator=generator, dtype=dtype)

    def model(x, mask=None):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(latent_dim), 1.0).to_event(1))
            likelihood = dist.Normal(z @ loadings.mT, NOISE)
            if mask is not None:
                likelihood = likelihood.mask(mask)
            pyro.sample("x", likelihood.to_event(1), obs=x)

    wide = loadings.double()
    covariance = torch.linalg.inv(torch.eye(latent_dim) + wide.mT @ wide / NOISE**2)
    pull = covariance @ wide.mT / NOISE**2

    def guide(x, mask=None):
        with pyro.plate("data", len(x)):
            loc = 0.8 * x @ pull.mT.to(x)
            scale = 1.3 * covariance.diagonal().sqrt().to(x)
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    z = torch.randn(rows, latent_dim, generator=generator, dtype=dtype)
    x = z @ loadings.mT + NOISE * torch.randn(rows, data_dim, generator=generator, dtype=dtype)
    marginal = wide @ wide.mT + NOISE**2 * torch.eye(data_dim)
    truth = dist.MultivariateNormal(marginal.new_zeros(data_dim), marginal).log_prob(x.double())
    mean = x.double() @ pull.mT
    kl = 0.5 * (covariance.trace() + mean.square().sum(-1) - latent_dim - covariance.logdet())
    return model, guide, x, {"z": z}, truth.numpy(), kl.numpy()


def bimodal(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.square(), 0.3), obs=x)


def mixture(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        y = pyro.sample(
            "y", dist.Categorical(torch.tensor([0.3, 0.7])), infer={"enumerate": "parallel"}
        )
        pyro.sample("x", dist.Normal(torch.where(y == 0, 2 * z.tanh() + 1, -z - 1), 0.4), obs=x)


def by_quadrature(model, rows, seed=3):
    """Return data, their latents and log p(x) of a model with one latent."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, generator=generator)
    noise = torch.randn(rows, generator=generator)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64).unsqueeze(-1)
    log_prior = dist.Normal(0.0, 1.0).log_prob(grid)
    if model is bimodal:
        x = z.square() + 0.3 * noise
        joint = log_prior + dist.Normal(grid.square(), 0.3).log_prob(x.double())
    else:
        first = torch.rand(rows, generator=generator) < 0.3
        x = torch.where(first, 2 * z.tanh() + 1, -z - 1) + 0.4 * noise
        one = math.log(0.3) + dist.Normal(2 * grid.tanh() + 1, 0.4).log_prob(x.double())
        other = math.log(0.7) + dist.Normal(-grid - 1, 0.4).log_prob(x.double())
        joint = log_prior + torch.logaddexp(one, other)
    return x, {"z": z}, (joint.logsumexp(0) + math.log(16 / 4000)).numpy()


def check_bracket(found, truth, share=0.93):
    assert found.mean <= truth.mean() + 2 * found.mean_standard_error
    assert found.upper_mean >= truth.mean() - 2 * found.upper_mean_standard_error
    low, high = found.interval()
    assert ((low <= truth) & (truth <= high)).mean() >= share


@pytest.mark.parametrize("proposal", ["laplace", "guide", "prior"])
def test_the_bounds_enclose_the_closed_form(proposal):
    model, guide, x, z, truth, kl = linear(3, 5, rows=120)
    found = log_evidence(model, guide, x, proposal=proposal, bounds="both", latents=z, seed=1)
    check_bracket(found, truth)
    assert found.exact_start
    assert found.complete
    error = np.hypot(found.posterior_kl_standard_error, 0.05)
    assert (abs(found.posterior_kl - kl) < 4.5 * error).all()
    mean_error = (found.posterior_kl - kl).mean() / (error.mean() / len(x) ** 0.5)
    assert abs(mean_error) < 4


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("latent_dim", "data_dim"), [(3, 5), (10, 20)])
@pytest.mark.parametrize("proposal", ["laplace", "guide"])
def test_a_thousand_rows_are_enclosed(proposal, latent_dim, data_dim, dtype):
    model, guide, x, z, truth, _ = linear(latent_dim, data_dim, rows=1000, dtype=dtype)
    found = log_evidence(model, guide, x, proposal=proposal, bounds="both", latents=z, seed=1)
    check_bracket(found, truth)


@pytest.mark.slow
@pytest.mark.parametrize("proposal", ["laplace", "prior"])
@pytest.mark.parametrize("model", [bimodal, mixture])
def test_a_thousand_rows_of_several_modes_are_enclosed(model, proposal):
    x, z, truth = by_quadrature(model, 1000)
    found = log_evidence(model, None, x, proposal=proposal, bounds="both", latents=z, seed=1)
    check_bracket(found, truth)


@pytest.mark.parametrize("model", [bimodal, mixture])
def test_several_modes_and_summed_out_sites(model):
    x, z, truth = by_quadrature(model, 150)
    found = log_evidence(model, None, x, bounds="both", latents=z, seed=2)
    check_bracket(found, truth, share=0.9)
    assert abs(found.mean - truth.mean()) < 4 * found.mean_standard_error + 0.01


@pytest.mark.slow
def test_backwards_from_the_particles_where_there_are_no_latents():
    model, _, x, _, truth, _ = linear(3, 5, rows=100)
    found = log_evidence(model, None, x, proposal="prior", bounds="both", seed=3)
    assert not found.exact_start
    assert "estimate" in str(found)
    check_bracket(found, truth, share=0.9)


def test_masks_leave_the_evidence_of_what_is_seen():
    model, _, x, _, _, _ = linear(2, 4, rows=60)
    mask = torch.ones(60, 4, dtype=torch.bool)
    mask[:, 2] = False
    mask[7] = False
    hidden = torch.where(mask, x, torch.full_like(x, 100.0))
    found = log_evidence(model, None, {"x": hidden, "mask": mask}, seed=4)
    whole = log_evidence(model, None, {"x": x, "mask": mask}, seed=4)
    np.testing.assert_allclose(found.lower, whole.lower, atol=1e-3)
    assert abs(found.lower[7]) < 4 * found.standard_error[7] + 1e-3


def test_what_the_guide_loses_is_the_kl_to_the_posterior():
    model, guide, x, _, truth, _ = linear(3, 5, rows=200, dtype=torch.float64)
    found = log_evidence(model, guide, x, num_elbo_samples=400, seed=5)
    gap = found.inference_gap
    error = np.hypot(found.elbo_standard_error, found.standard_error)
    exact = truth - found.elbo
    assert (abs(gap - exact) < 4.5 * error + 1e-6).all()
    assert (gap > -3 * error).all()
    assert log_evidence(model, None, x, seed=5).inference_gap is None


def test_an_injective_likelihood_begins_at_its_closed_form():
    torch.manual_seed(0)
    vae = idvae.IDVAE(6, 2, "bernoulli", hidden_dims=[16], encoder_hidden_dims=[8])
    z = torch.randn(40, 2)
    x = vae.likelihood.condition(z).sample()
    options = {"bounds": "both", "latents": {"latent": z}, "seed": 1}
    closed = log_evidence(vae.model, vae.guide, x, **options)
    assert "closed-form" in closed.proposal
    prior = log_evidence(vae.model, vae.guide, x, proposal="prior", **options)
    error = math.hypot(closed.mean_standard_error, prior.mean_standard_error)
    assert abs(closed.mean - prior.mean) < 4 * error + 0.01
    assert closed.upper_mean - closed.mean < 0.05
    weighted = idvae.importance_log_likelihood(vae.model, vae.guide, x, num_samples=4000)
    assert weighted.mean < closed.mean + 0.05


def test_log_means_by_hand():
    weights = np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [2.0, 2.0, 4.0]])
    with np.errstate(divide="ignore"):
        found = log_mean(np.log(weights))
    mean = weights.mean(0)
    np.testing.assert_allclose(found.value, np.log(mean))
    np.testing.assert_allclose(found.error, weights.std(0, ddof=1) / 3**0.5 / mean)
    np.testing.assert_allclose(found.size, weights.sum(0) ** 2 / np.square(weights).sum(0))


def test_a_seed_gives_the_same_numbers_and_leaves_the_store():
    model, guide, x, _, _, _ = linear(2, 4, rows=20)
    pyro.param("mine", torch.tensor(1.0))
    one, other = (log_evidence(model, guide, x, seed=6) for _ in range(2))
    assert (one.lower == other.lower).all()
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert one.table.shape == (20, 7 + 1)


def test_an_interrupt_returns_the_rows_that_are_done(monkeypatch):
    model, _, x, _, truth, _ = linear(2, 4, rows=30)
    whole, calls = Annealer._of_rows, []

    def chunk(self, *given):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, *given)

    monkeypatch.setattr(Annealer, "_of_rows", chunk)
    with pytest.warns(UserWarning, match="interrupted: 20 of 30 data points"):
        found = log_evidence(model, None, x, block_size=10, seed=7)
    assert not found.complete
    assert np.isfinite(found.lower).sum() == 20
    assert abs(found.mean - truth[:20].mean()) < 0.05
    assert "20 of 30" in str(found)
    calls[:] = [None, None]
    with pytest.raises(KeyboardInterrupt):
        log_evidence(model, None, x, block_size=10, seed=7)


def test_what_cannot_be_is_refused():
    model, guide, x, z, _, _ = linear(2, 4, rows=10)

    def shared(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0).expand([4]).to_event(1), obs=x)

    def point(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(x[:, :2]).to_event(1))

    for options, error, message in (
        ({"proposal": "best"}, ArgumentError, "proposal='best': expected one of laplace"),
        ({"bounds": "upper"}, ArgumentError, "bounds='upper': expected one of lower, both"),
        ({"num_chains": 3}, ArgumentError, "num_chains=3"),
        ({"num_temperatures": 1}, ArgumentError, "num_temperatures=1"),
        ({"conditional_ess": 1.0}, ArgumentError, "conditional_ess=1.0"),
        ({"latents": z}, ArgumentError, "pass bounds='both'"),
        ({"latents": {"z": z["z"][:3]}, "bounds": "both"}, ShapeError, r"latents\['z'\]"),
        ({"latents": {"y": z["z"]}, "bounds": "both"}, ArgumentError, "latents lack"),
        ({"latents": z["z"], "bounds": "both"}, ArgumentError, "latents is a Tensor"),
        ({"latents": {"z": z["z"] / 0}, "bounds": "both"}, DataError, "not finite"),
    ):
        with pytest.raises(error, match=message):
            log_evidence(model, guide, x, **options)
    with pytest.raises(ArgumentError, match="proposal='guide' needs a guide"):
        log_evidence(model, None, x, proposal="guide")
    with pytest.raises(ArgumentError, match="one for all rows"):
        log_evidence(shared, None, x)
    with pytest.raises(ArgumentError, match="the guide is a point"):
        log_evidence(model, point, x)
    with pytest.raises(DataError):
        log_evidence(model, None, torch.full_like(x, torch.nan))
