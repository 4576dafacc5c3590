"""Mixtures as a prior, their encoder, and the pair of model and guide."""

import math
from functools import partial

import pyro
import pytest
import torch
from pyro.infer import SVI, TraceEnum_ELBO

import pyro_idvae as idvae
from pyro_idvae import IDMVAE, MixtureVAE, fit
from pyro_idvae.datasets import pinwheel
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.distributions.normal_mixture import NormalMixture
from pyro_idvae.errors import ArgumentError, NotInjectiveError, ShapeError
from pyro_idvae.models import MixtureEncoder, MixturePrior
from pyro_idvae.models.mixture_prior import simplex

ELBO = partial(TraceEnum_ELBO, max_plate_nesting=1)
LIMIT = 4.5
SIZES = {"hidden_dims": [16], "encoder_hidden_dims": [16]}


@pytest.mark.parametrize(("count", "dim"), [(2, 1), (3, 2), (3, 5), (6, 5)])
def test_corners_of_a_simplex_are_equally_far_apart(count, dim):
    corners = simplex(count, dim)
    assert corners.shape == (count, dim)
    torch.testing.assert_close(corners.norm(dim=-1), torch.ones(count))
    apart = torch.pdist(corners)
    torch.testing.assert_close(apart, apart[:1].expand_as(apart), rtol=1e-5, atol=0)
    torch.testing.assert_close(corners.sum(0), torch.zeros(dim), rtol=0, atol=1e-6)


def test_means_stand_on_a_simplex_if_there_is_room_else_on_a_circle():
    torch.testing.assert_close(MixturePrior(3, 2, radius=1.5).means, 1.5 * simplex(3, 2))
    circle = MixturePrior(5, 3).means
    torch.testing.assert_close(circle.norm(dim=-1), torch.full((5,), 2.0))
    assert (circle[:, 2] == 0).all()
    own = torch.tensor([[0.0], [1.0], [5.0]])
    assert torch.equal(MixturePrior(3, 1, means=own).means, own)


def test_scales_stay_in_their_bounds_and_means_can_be_freed():
    prior = MixturePrior(3, 2, scale_bounds=(0.1, 0.9), free_means=True)
    with torch.no_grad():
        prior.raw_scale[0], prior.raw_scale[1] = -1e4, 1e4
    scales = prior.scales()
    assert scales.min() >= 0.1 * (1 - 1e-6)
    assert scales.max() <= 0.9 * (1 + 1e-6)
    assert {name for name, _ in prior.named_parameters()} == {"means", "raw_scale"}
    assert "means" not in dict(MixturePrior(3, 2).named_parameters())
    assert "means" in MixturePrior(3, 2).state_dict()


def test_the_marginal_is_the_sum_over_components():
    torch.manual_seed(0)
    prior, z = MixturePrior(4, 3), torch.randn(50, 3)
    each = torch.stack([prior.given(torch.tensor(c)).log_prob(z) for c in range(4)])
    weights = prior.component().logits.unsqueeze(-1)
    torch.testing.assert_close(prior().log_prob(z), (each + weights).logsumexp(0))
    for covariance in ("diagonal", "full"):
        encoder = MixtureEncoder(5, 3, 4, [8], covariance=covariance)
        posterior = encoder(torch.randn(50, 5))
        assert posterior.full == (covariance == "full")
        each = torch.stack([posterior.given(torch.tensor(c)).log_prob(z) for c in range(4)], -1)
        wanted = (each + posterior.component().logits).logsumexp(-1)
        torch.testing.assert_close(posterior.marginal().log_prob(z), wanted)
        # Components of any shape that broadcasts with the rows, as enumeration makes them.
        y = torch.arange(4).reshape(4, 1, 1)
        density = posterior.given(y).log_prob(z)
        assert density.shape == (4, 1, 50)
        torch.testing.assert_close(density.squeeze(1).T, each)


def test_full_covariances_have_bounded_scales_and_sum_out():
    torch.manual_seed(0)
    prior = MixturePrior(3, 2, covariance="full", scale_bounds=(0.1, 0.4))
    with torch.no_grad():
        prior.raw_scale.normal_(std=3.0)
        prior.raw_basis.normal_()
    z = torch.randn(50, 2)
    each = torch.stack([prior.given(torch.tensor(c)).log_prob(z) for c in range(3)])
    torch.testing.assert_close(prior().log_prob(z), each.logsumexp(0) - math.log(3))
    covariances = prior.given(torch.arange(3)).covariance_matrix
    axes = torch.linalg.eigvalsh(covariances).sqrt()
    torch.testing.assert_close(axes, prior.scales().sort(-1).values, rtol=1e-4, atol=1e-5)
    assert (axes > 0.1).all()
    assert (axes < 0.4).all()
    assert covariances[:, 0, 1].abs().max() > 1e-3
    begun = MixturePrior(3, 2, covariance="full").given(torch.arange(3))
    plain = MixturePrior(3, 2).given(torch.arange(3))
    torch.testing.assert_close(begun.log_prob(z[:3]), plain.log_prob(z[:3]))
    with pytest.raises(ArgumentError, match="covariance='banded'"):
        MixturePrior(3, 2, covariance="banded")


def test_a_full_posterior_is_correlated_and_trains():
    torch.manual_seed(0)
    x = pinwheel(60, num_arms=3).x
    vae = IDMVAE(2, 2, 3, scale=0.3, base=x, covariance="full", **SIZES)
    options = {"elbo": ELBO(), "num_epochs": 30, "seed": 0, "progress": False}
    losses = fit(vae.model, vae.guide, x, **options).losses
    assert losses[-1] < losses[0]
    q = vae.guide.posterior(x)
    draws = q.given(torch.zeros(60, dtype=torch.long)).sample((2000,))
    wanted = q.scale[:, 0] @ q.scale[:, 0].mT
    found = torch.einsum("sni,snj->nij", *2 * [draws - draws.mean(0)]) / 2000
    assert (found - wanted).abs().max() < 0.2 * wanted.abs().max()
    assert q.scale[:, :, 1, 0].abs().max() > 1e-3
    svi = idvae.from_guide(vae.model, vae.marginal_guide, x[:5], num_samples=40)
    assert len(idvae.collapse_report(svi).table) == 2
    found = idvae.log_evidence(vae.model, vae.marginal_guide, x[:5], num_chains=4, seed=0)
    assert (found.lower < 0).all()
    with pytest.raises(ArgumentError, match="covariance='banded'"):
        IDMVAE(2, 2, 3, covariance="banded", **SIZES)


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_draws_of_any_shape_have_the_mixtures_moments(batch, dim):
    torch.manual_seed(1)
    locs, scales = torch.randn(*batch, 4, dim), 0.1 + torch.rand(*batch, 4, dim)
    mixture = NormalMixture(locs, scales, torch.randn(*batch, 4))
    n = 20_000
    x = mixture.sample((n,))
    assert x.shape == (n, *batch, dim)
    weights = mixture.probs.unsqueeze(-1)
    mean = (weights * locs).sum(-2)
    variance = (weights * (locs**2 + scales**2)).sum(-2) - mean**2
    assert ((x.mean(0) - mean).abs() < LIMIT * (variance / n).sqrt()).all()
    assert mixture.expand((7, *batch)).sample((2,)).shape == (2, 7, *batch, dim)
    assert mixture.has_rsample == (dim > 1)


def make(kind, seed=0, **options):
    torch.manual_seed(seed)
    if kind == "injective":
        return IDMVAE(2, 2, 3, scale=0.3, **SIZES, **options)
    network = torch.nn.Linear(2, 2)
    likelihood = NeuralLikelihood(make_family("normal", scale=0.3), network)
    return MixtureVAE(likelihood, MixtureEncoder(2, 2, 3, [16]), 3, **options)


@pytest.mark.parametrize("free_means", [False, True])
@pytest.mark.parametrize("kind", ["injective", "ordinary"])
def test_the_enumerated_elbo_is_the_sum_over_components(kind, free_means):
    vae = make(kind, free_means=free_means)
    x = pinwheel(40, num_arms=3).x
    pyro.set_rng_seed(0)
    one = -ELBO(num_particles=4000, vectorize_particles=True).loss(vae.model, vae.guide, x)
    with torch.no_grad():
        posterior = vae.guide.posterior(x)
        total, errors = torch.zeros(()), torch.zeros(())
        for c in range(3):
            y = torch.tensor(c)
            q = posterior.given(y)
            z = q.sample((4000,))
            parts = (
                vae.likelihood.condition(z).log_prob(x)
                + vae.prior.given(y).log_prob(z)
                - q.log_prob(z)
                - math.log(3)
                - posterior.component().logits[:, c]
            )
            weight = posterior.component().probs[:, c]
            total = total + (weight * parts.mean(0)).sum()
            errors = errors + (weight**2 * parts.var(0) / 4000).sum()
    assert abs(one - total) < LIMIT * (2 * errors).sqrt()


@pytest.mark.parametrize("family", ["bernoulli", "categorical", "multinomial", "poisson"])
def test_other_families_train(family):
    torch.manual_seed(0)
    x = torch.randint(0, 2, (20, 5)).float()
    if family == "categorical":
        x = torch.randint(0, 5, (20,))
    options = {"strong_convexity": 0.2, "min_singular_value": 0.2}
    vae = IDMVAE(5, 2, 3, family, **SIZES, **options)
    found = fit(
        vae.model,
        vae.guide,
        x + 1 if family == "multinomial" else x,
        elbo=ELBO(),
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        num_epochs=30,
        seed=0,
        progress=False,
    )
    assert found.losses[-1] < found.losses[0]


def test_base_rates_bring_the_start_near_the_data():
    x = pinwheel(500).x
    losses = []
    for base in (None, x):
        torch.manual_seed(3)
        vae = IDMVAE(2, 2, 5, scale=0.2, base=base, **SIZES)
        losses.append(fit(vae.model, vae.guide, x, elbo=ELBO(), num_epochs=1, progress=False))
    assert losses[1].losses[0] < losses[0].losses[0]


def test_floors_are_set_by_nats():
    x = pinwheel(500).x
    for options, nats in (({}, 0.1), ({"wanted_nats": 0.3}, 0.3)):
        injection = IDMVAE(2, 2, 5, base=x, **options, **SIZES).likelihood.injection
        parts = (injection.g1.potential, injection.beta, injection.g2.potential)
        floor = math.prod((p.floor for p in parts), start=1.0)
        assert floor == pytest.approx(math.sqrt(math.expm1(2 * nats)))
    with pytest.raises(ArgumentError, match=r"wanted_nats=0\.3 without base"):
        IDMVAE(2, 2, 5, wanted_nats=0.3, **SIZES)
    with pytest.raises(ArgumentError, match="leave out strong_convexity"):
        IDMVAE(2, 2, 5, base=x, wanted_nats=0.3, strong_convexity=1.0, **SIZES)


def test_plain_pyro_trains_it_and_it_can_be_saved(tmp_path):
    vae, x = make("injective"), pinwheel(60, num_arms=3).x
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-2}), ELBO())
    losses = [svi.step(x) for _ in range(60)]
    assert min(losses[-5:]) < losses[0]
    idvae.save(tmp_path / "vae.safetensors", vae.model, vae.guide)
    other = make("injective", seed=1)
    idvae.load(tmp_path / "vae.safetensors", other.model, other.guide)
    torch.testing.assert_close(other.prior.scales(), vae.prior.scales())
    assert torch.equal(
        other.marginal_guide.posterior(x).logits, vae.marginal_guide.posterior(x).logits
    )


def test_an_objective_that_draws_components_is_refused():
    vae = make("injective")
    with pytest.raises(ArgumentError, match="component.*TraceEnum_ELBO"):
        fit(vae.model, vae.guide, torch.randn(20, 2), num_epochs=1, progress=False)


@pytest.mark.parametrize(
    ("wrong", "error", "named"),
    [
        (lambda: MixturePrior(1, 2), ArgumentError, "num_components=1"),
        (lambda: MixturePrior(3, 1), ArgumentError, "means=None"),
        (lambda: MixturePrior(4, 2, means="simplex"), ArgumentError, "means='simplex'"),
        (lambda: MixturePrior(2, 1, means="circle"), ArgumentError, "means='circle'"),
        (lambda: MixturePrior(2, 2, means="square"), ArgumentError, "means='square'"),
        (lambda: MixturePrior(2, 2, means=torch.zeros(2, 2)), NotInjectiveError, "0 apart"),
        (lambda: MixturePrior(2, 2, means=torch.zeros(2, 3)), ShapeError, r"\(2, 3\)"),
        (lambda: MixturePrior(2, 2, means=torch.full((2, 2), math.nan)), ArgumentError, "means"),
        (lambda: MixturePrior(2, 2, radius=0.0), ArgumentError, "radius=0.0"),
        (lambda: MixturePrior(2, 2, scale_bounds=(0.5, 0.1)), ArgumentError, "scale_bounds"),
        (lambda: MixturePrior(2, 2, scale_bounds=(0.0, 0.1)), ArgumentError, "scale_bounds"),
        (lambda: IDMVAE(2, 3, 3), NotInjectiveError, "latent_dim=3"),
        (lambda: IDMVAE(2, 2, 3, "nothing"), ArgumentError, "nothing"),
        (
            lambda: MixtureVAE(make("injective").likelihood, MixtureEncoder(2, 2, 4, [8]), 3),
            ShapeError,
            "num_components=4",
        ),
        (lambda: MixtureVAE(torch.nn.Linear(2, 2), None, 3), ArgumentError, "likelihood"),
        (lambda: MixtureEncoder(2, 2, 3, [8])(torch.zeros(3, 4)), ShapeError, "x has shape"),
    ],
)
def test_wrong_arguments_are_named(wrong, error, named):
    with pytest.raises(error, match=named):
        wrong()


@pytest.mark.slow
def test_an_autopsy_takes_it_where_the_posterior_is_far_out_in_the_prior():
    vae, x = make("injective"), pinwheel(12, num_arms=3).x
    found = idvae.autopsy(vae.model, vae.marginal_guide, x, num_samples=60, num_steps=100, seed=0)
    table = found.table
    assert (table["exact"] > 1.0).all()
    # A mixture of Normals, freely optimised, is nearly the posterior.
    assert ((table["free"] - table["exact"]).abs() < 1.5).all()
    assert ((table["guide"] < table["free"]) & (table["guide"] > 0)).all()
