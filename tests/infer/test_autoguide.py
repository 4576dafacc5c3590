import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import IDVAE, VAE, AutoInjectiveLaplace, Encoder, fit, from_guide, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.distributions import (
    InjectiveBinomial,
    InjectiveNormal,
    InjectiveZeroInflated,
    NeuralLikelihood,
    make_family,
)
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.infer.laplace import LogJoint
from pyro_idvae.infer.laplace.log_joint import inverse
from pyro_idvae.models import ProbabilisticPCA, VAEModel, mlp
from pyro_idvae.transforms import Injection, brenier_injection, injective_linear

FAMILIES = [
    "bernoulli",
    "beta",
    "binomial",
    "categorical",
    "gamma",
    "multinomial",
    "negativebinomial",
    "normal",
    "poisson",
    "studentt",
]


def make(family, rows=40, data_dim=6, seed=0):
    """A model, data of it, and the total counts they need."""
    torch.manual_seed(seed)
    options = {"total_count": 8} if family == "binomial" else {}
    # Exponential links with steep maps have means no data come near: gentle ones here.
    vae = IDVAE(
        data_dim,
        2,
        family,
        hidden_dims=[16],
        encoder_hidden_dims=[8],
        strong_convexity=0.6,
        min_singular_value=0.6,
        smoothness=2.0,
        **options,
    ).double()
    counts = {"total_count": torch.full((rows,), 30.0)} if family == "multinomial" else {}
    x = vae.likelihood.condition(torch.randn(rows, 2, dtype=torch.double), **counts).sample()
    return vae, x, counts


def linear_model(dtype=torch.double):
    """An injection that is linear: its posterior is the closed form of probabilistic PCA."""

    class Line(Injection):
        def __init__(self):
            super().__init__(2, 5)
            self.beta = injective_linear(2, 5)

        def _call(self, x):
            return self.beta(x)

        def _inverse(self, y):
            return self.beta.inv(y)

        def jacobian(self, z):
            return self.beta.jacobian(z)

        def lipschitz_bounds(self):
            return self.beta.lipschitz_bounds()

    torch.manual_seed(0)
    likelihood = InjectiveNormal(Line(), scale=0.4).to(dtype)
    return VAEModel(likelihood), likelihood


@pytest.mark.parametrize("family", FAMILIES)
def test_fisher_information_is_the_variance_of_the_score(family):
    """By Monte Carlo, within four standard errors; categorical ones by summing over categories."""
    vae, _, _ = make(family)
    template = vae.likelihood.family
    torch.manual_seed(1)
    eta = 0.7 * torch.randn(3, dtype=torch.double)
    counts = {"total_count": torch.tensor(7.0)} if family == "multinomial" else {}
    information = template.fisher_information(eta, **counts)
    draws = 100_000
    leaf = eta.expand(draws, 3).clone().requires_grad_()
    total = {"total_count": torch.full((draws,), 7.0)} if counts else {}
    distribution = template(leaf, **total)
    x = distribution.sample()
    (score,) = torch.autograd.grad(distribution.log_prob(x).sum(), leaf)
    outer = score.unsqueeze(-1) * score.unsqueeze(-2)
    if template.factorised:
        outer = outer.diagonal(dim1=-2, dim2=-1)
    error = outer.std(0) / draws**0.5
    assert ((outer.mean(0) - information.detach()).abs() < 4 * error + 1e-12).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_modes_are_where_the_gradient_vanishes(family):
    vae, x, counts = make(family)
    posterior = LogJoint(vae.likelihood, x, None, counts)
    start = posterior.start().detach()
    assert start.isfinite().all()
    mode = posterior.mode()
    leaf = mode.clone().requires_grad_()
    height = posterior.log_joint(leaf)
    (slope,) = torch.autograd.grad(height.sum(), leaf)
    torch.testing.assert_close(posterior.gradient(mode).detach(), slope, rtol=1e-6, atol=1e-6)
    assert slope.abs().max() < 1e-4
    assert (height.detach() >= posterior.log_joint(start).detach() - 1e-9).all()
    # No nearby point is higher.
    for _ in range(20):
        near = mode + 1e-2 * torch.randn_like(mode)
        assert (posterior.log_joint(near) <= height + 1e-9).all()


def test_the_laplace_approximation_of_a_linear_model_is_its_posterior():
    model, likelihood = linear_model()
    x = torch.randn(9, 5, dtype=torch.double)
    guide = AutoInjectiveLaplace(model)
    _, loc, factor = guide.start(x)
    w = (0.4 * likelihood.injection.beta.matrix()).detach()
    shifted = x - 0.4 * likelihood.injection.beta.bias.detach()
    exact = ProbabilisticPCA(5, 2, scale=0.4).posterior(shifted, w)
    torch.testing.assert_close(loc, exact.mean, rtol=1e-6, atol=1e-6)
    wanted = exact.covariance_matrix.expand(9, 2, 2)
    torch.testing.assert_close(factor @ factor.mT, wanted, rtol=1e-6, atol=1e-6)
    draws = from_guide(model, guide, x, num_samples=50)
    log_q = groups_of(draws)["sample_stats"]["log_q"].values
    z = torch.tensor(groups_of(draws)["posterior"]["latent"].values)
    np.testing.assert_allclose(log_q, exact.log_prob(z).numpy(), rtol=1e-6, atol=1e-6)


def test_missing_observations_and_covariates_count():
    torch.manual_seed(0)
    vae = IDVAE(
        4,
        2,
        "normal",
        hidden_dims=[8],
        encoder_hidden_dims=[8],
        covariates=torch.nn.Linear(3, 4),
        covariate_dim=3,
    ).double()
    x = torch.randn(6, 4, dtype=torch.double)
    c = torch.randn(6, 3, dtype=torch.double)
    mask = torch.rand(6, 4) < 0.6
    mask[0] = False  # this row says nothing: its posterior is the prior
    x[~mask] = torch.nan
    arguments = {"x": x, "covariates": c, "mask": mask}
    _, loc, factor = AutoInjectiveLaplace(vae.model).start(arguments)
    torch.testing.assert_close(loc[0], torch.zeros(2).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(factor[0], torch.eye(2).double())

    def height(z):
        conditional = vae.likelihood.condition(z, c, mask=mask)
        return conditional.log_prob(x.nan_to_num()) - 0.5 * z.square().sum(-1)

    leaf = loc.clone().requires_grad_()
    (slope,) = torch.autograd.grad(height(leaf).sum(), leaf)
    assert slope.abs().max() < 1e-6


def test_the_mode_moves_with_the_parameters_as_it_should():
    """The gradient of the implicit function theorem against finite differences of the mode."""
    vae, x, _ = make("poisson", rows=5)
    parameter = vae.likelihood.injection.g2.potential.bias

    def modes():
        posterior = LogJoint(vae.likelihood, x, None, {})
        return posterior, posterior.mode()

    posterior, mode = modes()
    weights = torch.randn_like(mode)
    value = (weights * posterior.differentiable_mode(mode)).sum()
    (slope,) = torch.autograd.grad(value, parameter)
    width = 1e-3
    for index in range(3):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[index] += sign * width
                values.append((weights * modes()[1]).sum().item())
                parameter[index] -= sign * width
        wanted = (values[0] - values[1]) / (2 * width)
        assert slope[index].item() == pytest.approx(wanted, rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_a_decoder_trains_without_an_encoder():
    torch.manual_seed(0)
    truth = IDVAE(5, 1, "normal", scale=0.3, hidden_dims=[8], encoder_hidden_dims=[8])
    with torch.no_grad():
        x = truth.likelihood.condition(torch.randn(100, 1)).sample()
    torch.manual_seed(1)
    vae = IDVAE(5, 1, "normal", scale=0.3, hidden_dims=[8], encoder_hidden_dims=[8])
    guide = AutoInjectiveLaplace(vae.model)
    result = fit(vae.model, guide, x, num_epochs=60, seed=0, progress=False)
    assert np.mean(result.losses[-5:]) < np.mean(result.losses[:5]) - 1
    assert not [name for name in result.parameters if "encoder" in name]


def test_draws_follow_the_parameters_and_the_data():
    """What is remembered from the last call must not outlive a change, however it was made."""
    vae, x, _ = make("normal", rows=4)
    guide = AutoInjectiveLaplace(vae.model)
    first = guide.start(x).loc
    assert guide.start(x.clone()).loc is first
    assert not torch.equal(guide.start(x + 1).loc, first)
    with torch.no_grad():
        guide(x)
    vae.likelihood.injection.g2.potential.shift.data.add_(0.5)
    assert not torch.equal(guide.start(x).loc, first)


def test_nuts_begins_there_and_agrees():
    model, _ = linear_model(torch.float32)
    x = 3 * torch.randn(3, 5)
    guide = AutoInjectiveLaplace(model)
    loc = guide.start(x).loc
    draws = mcmc(
        model,
        x,
        start=guide,
        num_samples=200,
        warmup_steps=20,
        num_chains=2,
        kernel_options={"full_mass": True},
        seed=0,
        progress=False,
    )
    values = groups_of(draws)["posterior"]["latent"].values
    error = values.std((0, 1)) / 50**0.5
    assert (abs(values.mean((0, 1)) - loc.numpy()) < 4 * error).all()
    diagonal = mcmc(model, x, start=guide, num_samples=5, warmup_steps=5, progress=False)
    assert groups_of(diagonal)["posterior"]["latent"].shape == (4, 5, 3, 2)


def test_models_without_a_closed_form_are_refused():
    decoder = NeuralLikelihood(make_family("normal"), mlp([2, 8, 5]))
    vae = VAE(decoder, Encoder(5, 2, [8]))
    x = torch.randn(4, 5)
    with pytest.raises(NoCertificateError, match="no left inverse"):
        AutoInjectiveLaplace(vae.model)(x)
    zero_inflated, x, _ = make("poisson", rows=4)
    likelihood = InjectiveZeroInflated(zero_inflated.likelihood)
    with pytest.raises(NoCertificateError, match="no closed form"):
        AutoInjectiveLaplace(VAEModel(likelihood.double()))(x)
    wide = VAEModel(linear_model(torch.float32)[1], dist.Normal(torch.zeros(2), 2.0).to_event(1))
    with pytest.raises(NoCertificateError, match="is not N"):
        AutoInjectiveLaplace(wide)(torch.randn(4, 5))

    def swapped(x):
        with pyro.plate("data", 4, dim=-2), pyro.plate("two", 2, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", wide.likelihood.condition(z), obs=x.unsqueeze(1).expand(-1, 2, -1))

    with pytest.raises(NoCertificateError, match="one plate"):
        AutoInjectiveLaplace(swapped)(torch.randn(4, 5))


@pytest.mark.parametrize("what", ["covariates", "mask", "total_count"])
def test_what_the_likelihood_is_given_must_not_be_made_of_the_latent(what):
    covariates = torch.nn.Linear(1, 5) if what == "covariates" else None
    injection = brenier_injection(2, 5, hidden_dims=[8])
    likelihood = InjectiveBinomial(injection, 9, covariates=covariates)

    def model(x, made_of_z):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            source = z[:, :1] if made_of_z else x[:, :1]
            given = {
                "covariates": source,
                "mask": (source > 0).expand(x.shape),
                "total_count": source.abs().round() + 9,
            }
            pyro.sample("x", likelihood.condition(z, **{what: given[what]}), obs=x)

    x = torch.ones(3, 5)
    assert AutoInjectiveLaplace(model).start((x, False)).loc.shape == (3, 2)
    with pytest.raises(NoCertificateError, match=f"argument '{what}' depends on z: the closed"):
        AutoInjectiveLaplace(model).start((x, True))


def test_a_matrix_without_an_inverse_leaves_the_others_theirs():
    good = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    bad = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[-1.0, 0.0], [0.0, 1.0]]])
    infinite = torch.full((1, 2, 2), torch.inf)
    found = inverse(torch.cat([good.unsqueeze(0), bad, infinite]))
    torch.testing.assert_close(found[0], torch.linalg.inv(good))
    assert bool(found[1:].isnan().all())
