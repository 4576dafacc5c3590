"""Where a model in noise units begins."""

import math

import pytest
import torch

from pyro_idvae import IDSVAE, IDVAE, fit
from pyro_idvae.distributions import make_family
from pyro_idvae.distributions.base_rates import at_prior
from pyro_idvae.distributions.base_scores import base_scores
from pyro_idvae.models.start import EXCESS

NATS = {"wanted_nats": 0.1}
WIDTHS = {"hidden_dims": [16], "encoder_hidden_dims": [16]}


def linear_data(rows=2000, slopes=(6.0, 3.0), dim=8, seed=0):
    """Return v = f(z) of a linear map, with the directions it has."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(dim, len(slopes), generator=generator))
    z = torch.randn(rows, len(slopes), generator=generator)
    return z @ (basis * torch.tensor(slopes)).T, basis, generator


def slopes_of(vae):
    z = torch.randn(50, vae.likelihood.latent_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return vae.likelihood.injection.jacobian(z).square().sum(-2).mean(0).sqrt()


def test_a_normal_model_begins_at_probabilistic_pca():
    v, basis, generator = linear_data()
    scale, mean = 0.5, torch.arange(8.0)
    x = mean + scale * (v + torch.randn(v.shape, generator=generator))
    vae = IDVAE(8, 3, "normal", scale=scale, base=x, wanted_nats=0.1, **WIDTHS)
    covariance = (x / scale).T.cov(correction=0)
    eigenvalues = torch.linalg.eigvalsh(covariance).flip(0)
    found = slopes_of(vae)
    torch.testing.assert_close(found[:2], (eigenvalues[:2] - 1).sqrt(), rtol=0.05, atol=0)
    # The third direction is noise: it begins where it would without data.
    assert math.sqrt(math.expm1(0.2)) < found[2] < 0.6 * found[1]
    spanned = vae.likelihood.injection.beta.basis()[:, :2].detach()
    assert (basis.T @ spanned).norm() == pytest.approx(2**0.5, rel=1e-2)
    mean_of_f = scale * at_prior(vae.likelihood.injection).mean(0)
    torch.testing.assert_close(mean_of_f, x.mean(0), rtol=1e-4, atol=1e-4)


def test_counts_of_many_trials_begin_there_too():
    v, basis, generator = linear_data(slopes=(6.0, 3.0))
    trials = 400
    share = (v / (2 * math.sqrt(trials / 4))).sigmoid()
    x = torch.binomial(torch.full_like(share, trials), share, generator=generator)
    vae = IDVAE(8, 2, "binomial", total_count=trials, base=x, wanted_nats=0.1, **WIDTHS)
    scores = base_scores(vae.likelihood.family, x, 8)
    eigenvalues = torch.linalg.eigvalsh(scores.T.cov(correction=0)).flip(0)
    found = slopes_of(vae)
    torch.testing.assert_close(found, (eigenvalues[:2] - 1).sqrt(), rtol=0.05, atol=0)
    assert (basis.T @ vae.likelihood.injection.beta.basis()).norm() > 0.98 * 2**0.5
    before = fit(vae.model, vae.guide, x, num_epochs=1, progress=False).losses[0]
    torch.manual_seed(0)
    plain = IDVAE(8, 2, "binomial", total_count=trials, **WIDTHS)
    assert before < fit(plain.model, plain.guide, x, num_epochs=1, progress=False).losses[0]


@pytest.mark.parametrize("name", ["poisson", "multinomial"])
def test_log_rates_begin_at_their_floors(name):
    torch.manual_seed(0)
    x = torch.poisson(torch.rand(300, 1) * torch.tensor([0.3, 5.0, 20.0, 40.0, 9.0, 2.0]))
    vae = IDVAE(6, 2, name, base=x, **WIDTHS)
    beta = vae.likelihood.injection.beta
    wanted = torch.full((2,), (1 + EXCESS) * beta.floor)
    torch.testing.assert_close(beta.singular_values().detach(), wanted)


def test_a_tenth_of_a_nat_is_asked_for_where_no_floor_is_given():
    x = torch.poisson(torch.full((50, 8), 2.0))
    own, asked = (IDVAE(8, 2, "poisson", base=x, **kw, **WIDTHS) for kw in ({}, NATS))
    for part in ("g1.potential", "beta", "g2.potential"):
        floors = [vae.likelihood.injection.get_submodule(part).floor for vae in (own, asked)]
        assert floors[0] == pytest.approx(floors[1], rel=1e-6)
    given = IDVAE(8, 2, "poisson", base=x, strong_convexity=2.0, **WIDTHS).likelihood.injection
    assert (given.g1.potential.floor, given.beta.floor) == (2.0, 1.0)


def test_a_window_is_kept():
    v, _, generator = linear_data()
    x = v + torch.randn(v.shape, generator=generator)
    low, high = 0.4, 4.0
    for bounds in ((low, high), (low, low)):
        vae = IDVAE(8, 2, "normal", base=x, lipschitz_bounds=bounds, **WIDTHS)
        found = vae.likelihood.lipschitz_bounds()
        assert found[0] >= bounds[0] * (1 - 1e-6)
        assert found[1] <= bounds[1] * (1 + 1e-6)


def ridge_arguments(vae):
    injection = vae.likelihood.injection
    z = torch.randn(500, vae.likelihood.latent_dim, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        x = injection.beta(injection.g1(z))
        return (x - x.mean(0)) @ injection.g2.potential.weight.T


def test_ridges_of_rare_features_bend_where_the_latents_lead():
    torch.manual_seed(0)
    words = torch.poisson(0.05 * torch.rand(400, 1) * torch.rand(200))
    words = words[words.sum(1) > 0]
    vae = IDVAE(200, 2, "multinomial", base=words, **WIDTHS)
    plain = IDVAE(200, 2, "multinomial", **WIDTHS, strong_convexity=0.7, min_singular_value=0.7)
    assert ridge_arguments(vae).square().mean().sqrt() == pytest.approx(1.0, rel=0.1)
    assert ridge_arguments(plain).square().mean().sqrt() < 0.5
    # A unit vector in the ridges' own space moves the gradient no farther than it did.
    sizes = [v.likelihood.injection.g2.potential.smoothness().item() for v in (vae, plain)]
    assert sizes[0] < sizes[1]


def test_steep_models_keep_their_ridges():
    v, _, generator = linear_data(slopes=(12.0, 9.0))
    x = v + torch.randn(v.shape, generator=generator)
    torch.manual_seed(0)
    vae = IDVAE(8, 2, "normal", base=x, **WIDTHS)
    torch.manual_seed(0)
    plain = IDVAE(8, 2, "normal", **WIDTHS)
    weights = [v.likelihood.injection.g2.potential.weight for v in (vae, plain)]
    assert torch.equal(*weights)


@pytest.mark.parametrize("shape", [(60,), (20, 3)])
def test_tokens_of_one_row_count_one_by_one(shape):
    torch.manual_seed(0)
    tokens = torch.randint(5, shape)
    tokens.view(-1)[0] = 4
    vae = IDVAE(5, 2, "categorical", base=tokens, wanted_nats=0.05, **WIDTHS)
    assert at_prior(vae.likelihood.injection).isfinite().all()
    assert at_prior(vae.likelihood.injection).mean(0).abs().max() < 1e-5


def test_fewer_rows_than_latents_are_enough_to_begin():
    torch.manual_seed(0)
    x = torch.randn(3, 8).sign().clamp_min(0.0)
    vae = IDVAE(8, 5, "bernoulli", base=x, **WIDTHS)
    basis = vae.likelihood.injection.beta.basis().detach()
    torch.testing.assert_close(basis.T @ basis, torch.eye(5), rtol=0, atol=1e-5)


def test_the_start_is_that_of_the_seed_and_of_the_data():
    x = (torch.rand(100, 6) > 0.5).float()
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(IDVAE(6, 2, "bernoulli", base=x, **WIDTHS))
        made.append(torch.rand(1))
    first, after, second, again, third, _ = made
    one, two, three = (vae.likelihood.injection.beta for vae in (first, second, third))
    assert torch.equal(one.raw_basis, two.raw_basis)
    assert torch.equal(after, again)
    assert torch.equal(one.basis(), three.basis())


@pytest.mark.parametrize("name", ["laplace", "studentt", "gamma", "beta", "negativebinomial"])
def test_every_family_begins_at_its_data(name):
    torch.manual_seed(0)
    family = make_family(name)
    x = family(torch.randn(1, 6) + 0.3 * torch.randn(80, 6)).sample()
    vae = IDVAE(6, 2, name, base=x, **WIDTHS)
    assert vae.likelihood.injection(torch.zeros(1, 2)).isfinite().all()
    assert slopes_of(vae).min() > math.sqrt(math.expm1(0.2))


def test_sentences_begin_along_the_words_own_directions():
    generator = torch.Generator().manual_seed(0)
    rows, words, count = 3000, 12, 8
    direction = torch.randn(words, generator=generator)
    z = torch.randn(rows, 1, generator=generator)
    probs = (z * direction).softmax(-1)
    lengths = torch.randint(2, count + 1, (rows,), generator=generator)
    tokens = torch.multinomial(probs, count, replacement=True, generator=generator)
    padded = tokens.masked_fill(torch.arange(count) >= lengths[:, None], 0)
    vae = IDSVAE(words, 1, base=padded, base_lengths=lengths, hidden_dim=8, encoder_hidden_dim=8)
    at_start = vae.likelihood.injection.condition(torch.zeros(8))
    with torch.no_grad():
        ends = vae.likelihood.family.basis.logits(at_start(torch.tensor([[1.0], [-1.0]])))
    found = ends[0] - ends[1]
    weights = probs.mean(0)
    # Logits forget a common shift; what matters is what they do under the base rates.
    centred = [v - (weights * v).sum() for v in (found, direction)]
    inner, *norms = (
        float((weights * one * other).sum())
        for one, other in zip(
            (centred[0], centred[0], centred[1]), (centred[1], centred[0], centred[1]), strict=True
        )
    )
    assert abs(inner) / math.sqrt(norms[0] * norms[1]) > 0.9
    # To first order the words' law moves as steeply, or a little less where it bends.
    steep = math.sqrt(norms[0] / norms[1]) / 2
    assert 0.3 < steep < 1.1
    other = IDSVAE(words, 1, base=tokens, hidden_dim=8, encoder_hidden_dim=8, wanted_nats=3.0)
    low, _ = other.likelihood.lipschitz_bounds()
    assert low >= math.sqrt(math.expm1(6.0) / count) * (1 - 1e-5)
