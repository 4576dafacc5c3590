import json
import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_idvae import IDVAE, VAE, Encoder, certify, fit, lipschitz_bounds_for
from pyro_idvae.diagnostics.certificate.ceiling import ceiling_bound
from pyro_idvae.diagnostics.certificate.estimate import bhattacharyya_bound
from pyro_idvae.distributions import (
    InjectiveBernoulli,
    InjectiveCategorical,
    InjectiveMultinomial,
    InjectiveNormal,
    InjectivePoisson,
    InjectiveStudentT,
    NeuralLikelihood,
    information_window,
    make_family,
)
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.transforms import brenier_injection, injective_linear


def mutual_information(f, latent_dim, num_points, num_draws, seed):
    """Estimate I(z; f(z) + N) and its standard error by importance sampling of log p(x).

    The proposal is the Laplace approximation around the true z, with Student tails; nested prior
    draws would be biased.
    """
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(num_points, latent_dim, generator=generator, dtype=torch.double)
    with torch.no_grad():
        mean = f(z)
        x = mean + torch.randn(mean.shape, generator=generator, dtype=torch.double)
        mode, eye = z, torch.eye(latent_dim, dtype=torch.double)
        for _ in range(20):
            jacobian = f.jacobian(mode)
            precision = eye + jacobian.mT @ jacobian
            slope = (jacobian.mT @ (x - f(mode)).unsqueeze(-1)).squeeze(-1) - mode
            mode = mode + 0.7 * torch.linalg.solve(precision, slope)
        jacobian = f.jacobian(mode)
        covariance = torch.linalg.inv(eye + jacobian.mT @ jacobian)
        scale = torch.linalg.cholesky(1.5 * covariance)
        proposal = dist.MultivariateStudentT(torch.tensor(5.0).double(), mode, scale)
        pyro.set_rng_seed(seed)
        draws = proposal.sample((num_draws,))
        log_joint = dist.Normal(f(draws), 1.0).log_prob(x).sum(-1) + dist.Normal(
            torch.zeros_like(draws), 1.0
        ).log_prob(draws).sum(-1)
        log_weights = log_joint - proposal.log_prob(draws)
        log_evidence = log_weights.logsumexp(0) - math.log(num_draws)
        # The logarithm of an average is too low by half its relative variance.
        weights = (log_weights - log_weights.amax(0)).exp()
        log_evidence = log_evidence + 0.5 * weights.var(0) / weights.mean(0).square() / num_draws
        gain = dist.Normal(mean, 1.0).log_prob(x).sum(-1) - log_evidence
    return gain.mean().item(), gain.std().item() / math.sqrt(num_points)


@pytest.mark.parametrize(
    "seed",
    # Twelve have each number of latents with each scale.
    [*range(12), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 24))],
)
def test_the_mutual_information_of_random_injections_lies_in_the_window(seed):
    torch.manual_seed(seed)
    latent_dim = 1 + seed % 3
    data_dim = max(2, latent_dim, 2 + seed % 7)
    sigma = (0.2, 0.5, 1.0, 2.0)[seed % 4]
    low, high = 0.5 / sigma, 2.0 / sigma
    f = brenier_injection(
        latent_dim, data_dim, hidden_dims=[16], lipschitz_bounds=(low, high)
    ).double()
    certificate = certify(InjectiveNormal(f, scale=sigma))
    estimate, error = mutual_information(f, latent_dim, 1500, 300, seed)
    assert certificate.low - 4 * error <= estimate <= certificate.high + 4 * error
    assert error < 0.1 * certificate.high


def test_linear_maps_attain_the_window():
    f = injective_linear(2, 4, min_singular_value=1.5, max_singular_value=1.5).double()
    certificate = certify(InjectiveNormal(f))
    exact = math.log1p(1.5**2)
    assert certificate.low == pytest.approx(exact, rel=1e-12)
    assert certificate.high == pytest.approx(exact, rel=1e-12)
    estimate, error = mutual_information(f, 2, 2000, 200, 0)
    assert abs(estimate - exact) < 4 * error


def test_a_wanted_window_is_built_and_measured():
    window = (0.8, 2.5)
    vae = IDVAE(5, 2, "normal", rate_window=window, hidden_dims=[16], scale=3.0).double()
    certificate = certify(vae.likelihood)
    assert (certificate.low, certificate.high) == pytest.approx(window, rel=1e-12)
    estimate, error = mutual_information(vae.likelihood.injection, 2, 1500, 300, 0)
    assert window[0] - 4 * error <= estimate <= window[1] + 4 * error
    assert information_window(
        lipschitz_bounds_for(low=0.3, high=0.4, latent_dim=3), 3
    ) == pytest.approx((0.3, 0.4))


def test_a_learned_scale_leaves_the_window_and_a_floor_moves_it():
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8], learn_scale=True)
    before = certify(vae.likelihood)
    with torch.no_grad():
        vae.likelihood.family.log_scale.add_(2.0)
    assert certify(vae.likelihood) == before
    with torch.no_grad():
        vae.likelihood.injection.g1.potential.raw_excess.add_(1.0)
    assert certify(vae.likelihood).low > before.low


def test_a_certificate_says_what_it_rests_on():
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    x = torch.randn(6, 4)
    certificate = certify(vae.model, x)
    text = str(certificate)
    for words in ("nats", "N(0, I), which was checked", "model's own p(x)", "exact one"):
        assert words in text
    fields = json.loads(certificate.to_json())
    assert fields["kind"] == "certificate"
    assert fields["low_per_coordinate"] == pytest.approx(certificate.low / 2)
    fit(vae.model, vae.guide, x, num_epochs=2, progress=False)
    assert certify(vae.model, x) != certificate


@pytest.mark.parametrize(
    ("name", "options", "points"),
    [
        ("normal", {}, None),
        ("laplace", {}, None),
        ("bernoulli", {}, torch.arange(2.0)),
        ("binomial", {"total_count": 5}, torch.arange(6.0)),
        ("poisson", {}, torch.arange(80.0)),
        ("negativebinomial", {"concentration": 3.0}, torch.arange(600.0)),
        ("gamma", {"concentration": 3.0}, None),
        ("beta", {"precision": 9.0}, None),
    ],
)
def test_bhattacharyya_distances_are_the_integrals(name, options, points):
    family = make_family(name, **options).double()
    eta, other = torch.tensor([[0.3], [-0.8]], dtype=torch.double), torch.tensor([1.1]).double()
    found = family.bhattacharyya(eta, other)
    assert found.shape == (2,)
    first, second = family(eta), family(other)
    if points is not None:
        grid, step = points.double(), 1.0
    else:
        low, high = {"gamma": (1e-9, 90.0), "beta": (1e-9, 1 - 1e-9)}.get(name, (-60.0, 60.0))
        grid = torch.linspace(low, high, 400001, dtype=torch.double)
        step = (high - low) / 400000
    logs = 0.5 * (first.log_prob(grid) + second.log_prob(grid))
    wanted = -(logs.exp().sum(-1) * step).log()
    assert torch.allclose(found.squeeze(), wanted, atol=2e-5)


def test_the_bhattacharyya_distance_of_categories():
    family = make_family("categorical").double()
    eta, other = torch.randn(3, 4).double(), torch.randn(4).double()
    wanted = -(family(eta).probs * family(other).probs).sqrt().sum(-1).log()
    assert torch.allclose(family.bhattacharyya(eta, other), wanted)


@pytest.mark.parametrize("kind", [InjectiveBernoulli, InjectiveCategorical])
def test_other_families_get_an_estimate_that_says_so(kind):
    torch.manual_seed(0)
    likelihood = kind(brenier_injection(2, 5, hidden_dims=[16]))
    certificate = certify(likelihood, num_samples=400)
    assert certificate.kind == "estimate"
    assert certificate.high is None
    assert certificate.low > 5 * certificate.standard_error > 0
    assert certificate.num_samples == 400
    assert "estimate, no certificate" in str(certificate)
    # Below the entropy of what is observed, whatever the map.
    assert certificate.low < 5 * math.log(2)


def test_the_estimate_is_below_the_mutual_information_of_counts():
    torch.manual_seed(0)
    f = brenier_injection(1, 2, hidden_dims=[8], lipschitz_bounds=(1.0, 3.0)).double()
    likelihood = InjectivePoisson(f)
    low = certify(likelihood, num_samples=2000)
    # One latent dimension: p(x) by quadrature over z.
    grid = torch.linspace(-7, 7, 4001, dtype=torch.double).unsqueeze(-1)
    weights = dist.Normal(0.0, 1.0).log_prob(grid.squeeze()) + math.log(14 / 4000)
    with torch.no_grad():
        z = torch.randn(1500, 1, dtype=torch.double)
        conditional = likelihood.condition(z)
        x = conditional.sample()
        rates = likelihood.condition(grid.unsqueeze(1))
        evidence = (rates.log_prob(x) + weights.unsqueeze(-1)).logsumexp(0)
        gain = conditional.log_prob(x) - evidence
    error = gain.std().item() / math.sqrt(len(gain))
    assert 0.3 * gain.mean().item() < low.low
    assert low.low < gain.mean().item() + 4 * (error + low.standard_error)


@pytest.mark.parametrize(
    "family",
    ["bernoulli", "beta", "binomial", "categorical", "gamma", "laplace", "negativebinomial",
     "multinomial", "normal", "poisson"],
)  # fmt: skip
def test_models_of_every_family_are_certified_through_their_plate(family):
    options = {"total_count": 4} if family == "binomial" else {}
    vae = IDVAE(5, 2, family, hidden_dims=[8], encoder_hidden_dims=[8], **options)
    trials = {"total_count": torch.tensor([3.0, 9.0, 9.0, 0.0])} if family == "multinomial" else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*library size of 0", UserWarning)
        x = vae.likelihood.condition(torch.randn(4, 2), **trials).sample()
        assert certify(vae.model, x, num_samples=50).low > 0


def test_library_sizes_are_draws_of_a_category():
    """n draws of one z are n rows of it; of several sizes the mean counts."""
    torch.manual_seed(0)
    f = brenier_injection(2, 4, hidden_dims=[8], smoothness=3.0)
    z = torch.randn(60, 2)
    wanted = [bhattacharyya_bound(InjectiveCategorical(f), z, n)[0] for n in (2, 7, 7)]
    found = bhattacharyya_bound(InjectiveMultinomial(f), z, 1, torch.tensor([2.0, 7.0, 7.0]))
    assert found[0] == pytest.approx(sum(wanted) / 3, rel=1e-5)
    for rows in (1, 3):
        x = torch.tensor([[3.0, 1, 0, 1, 1], [0.0, 2, 1, 3, 1], [0, 1, 2, 1, 0.0]])[:rows]
        likelihood = InjectiveMultinomial(f)

        def shared(x, likelihood=likelihood):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with pyro.plate("data", len(x)):
                pyro.sample("x", likelihood.condition(z, total_count=x.sum(-1)), obs=x)

        torch.manual_seed(1)
        certificate = certify(shared, x, num_samples=500)
        torch.manual_seed(1)
        same = bhattacharyya_bound(InjectiveCategorical(f), torch.randn(500, 2), int(x.sum()))
        assert certificate.low == pytest.approx(same[0], rel=1e-5)
        sure = ceiling_bound(
            InjectiveCategorical(f), InjectiveCategorical(f).lipschitz_bounds(), int(x.sum())
        )
        assert certificate.guaranteed == pytest.approx(sure.nats, rel=1e-6)
        assert "library sizes are given" in str(certificate)


def test_sizes_of_rows_that_share_one_of_several_latents_are_refused():
    f = brenier_injection(2, 4, hidden_dims=[8])
    likelihood = InjectiveMultinomial(f)

    def grouped(x):
        with pyro.plate("groups", x.shape[1], dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with pyro.plate("data", len(x), dim=-2):
                pyro.sample("x", likelihood.condition(z, total_count=x.sum(-1)), obs=x)

    x = torch.ones(3, 2, 5)
    with pytest.raises(NoCertificateError, match="2 latents and 6 library sizes"):
        certify(grouped, x)


def model_of(likelihood, feed=lambda z: z, prior=None, wrap=lambda d: d, scale=1.0):
    prior = prior or dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)

    def model(x):
        pyro.module("likelihood", likelihood)
        with pyro.plate("data", len(x)), poutine.scale(scale=scale):
            z = pyro.sample("z", prior)
            pyro.sample("x", wrap(likelihood.condition(feed(z))), obs=x)

    return model


def test_a_users_own_model_is_certified():
    likelihood = InjectiveNormal(brenier_injection(2, 4, hidden_dims=[8]))
    x = torch.randn(5, 4)
    wanted = certify(likelihood).low
    assert certify(model_of(likelihood), x).low == wanted
    identity = dist.MultivariateNormal(torch.zeros(2), torch.eye(2))
    assert certify(model_of(likelihood, prior=identity), x).low == wanted


def test_what_is_not_guaranteed_is_refused():
    likelihood = InjectiveNormal(brenier_injection(2, 4, hidden_dims=[8]))
    x = torch.randn(5, 4)
    cauchy = dist.Cauchy(torch.zeros(2), 1.0).to_event(1)
    heavy = dist.StudentT(2.0, torch.zeros(2), 1.0).to_event(1)
    network = NeuralLikelihood(make_family("normal"), torch.nn.Linear(2, 4))
    cases = [
        (model_of(likelihood, feed=lambda z: 0 * z), "not fed with the value"),
        (model_of(likelihood, prior=cauchy), "is not N.0, I. but Cauchy"),
        (model_of(likelihood, prior=heavy), "no finite variance"),
        (model_of(likelihood, scale=0.5), "densities are scaled"),
        (model_of(likelihood, scale=torch.tensor([[0.5], [1.0]])), "densities are scaled"),
        (model_of(network), "not identifiable"),
        (model_of(InjectiveStudentT(likelihood.injection)), "no closed form"),
    ]
    for model, words in cases:
        with pytest.raises(NoCertificateError, match=words):
            certify(model, x)

    def masked(x):
        with pyro.plate("data", len(x)), poutine.mask(mask=torch.tensor(False)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1))
            pyro.sample("x", likelihood.condition(z), obs=x)

    with pytest.raises(NoCertificateError, match="'z' is masked"):
        certify(masked, x)

    def plain(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    with pytest.raises(NoCertificateError, match="calls no injective likelihood"):
        certify(plain, x)

    def two(x):
        pyro.sample("mean", dist.Normal(0.0, 1.0))
        plain(x)

    with pytest.raises(NoCertificateError, match=r"latent sites \['mean', 'z'\]"):
        certify(two, x)


def test_more_refusals():
    f = brenier_injection(2, 4, hidden_dims=[8])
    with pytest.raises(NoCertificateError, match="certify a model on its data"):
        certify(InjectiveMultinomial(f))
    with pytest.raises(NoCertificateError, match="with covariates"):
        certify(InjectiveBernoulli(f, covariates=torch.nn.Linear(3, 4)))
    with pytest.raises(ArgumentError, match="x=None"):
        certify(VAE(InjectiveNormal(f), Encoder(4, 2, [8])).model)
    with pytest.raises(ArgumentError, match="with a likelihood"):
        certify(InjectiveNormal(f), torch.zeros(2, 4))
    with pytest.raises(ArgumentError, match="normal family only"):
        IDVAE(4, 2, "bernoulli", rate_window=(1.0, 2.0))
    with pytest.raises(ArgumentError, match="leave out one"):
        IDVAE(4, 2, "normal", rate_window=(1.0, 2.0), lipschitz_bounds=(1.0, 2.0))
    with pytest.raises(ArgumentError, match="low=0"):
        lipschitz_bounds_for(low=0.0, high=1.0, latent_dim=2)
    with pytest.raises(ArgumentError, match="high=1"):
        lipschitz_bounds_for(low=2.0, high=1.0, latent_dim=2)
