"""All metrics of a model in one row, against closed forms; what cannot be had is NaN and noted."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from torch.distributions import MultivariateNormal, kl_divergence

import pyro_idvae as idvae
from pyro_idvae.diagnostics import RowEstimate
from pyro_idvae.diagnostics.evaluation import annealed
from pyro_idvae.diagnostics.evaluation.guide_pass import guide_pass
from pyro_idvae.diagnostics.evaluation.mutual_information import mutual_information
from pyro_idvae.diagnostics.evaluation.row_normals import RowNormals, row_normals
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.infer.ranks import agreed_seed
from pyro_idvae.infer.rowwise.stream import Stream
from pyro_idvae.models import Encoder
from pyro_idvae.programs import BoundModel

X = torch.tensor([0.5, -1.0, 3.0, 0.0, 1.2, -0.3])
QUICK = {"proposal": "prior", "num_chains": 4, "num_temperatures": 3}
"""For tests that need some evidence, not a good one."""


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x, scale=0.8):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, scale))


def quick(*pair, x=X, leave_out=("evidence",), **options):
    return idvae.evaluate(*pair, x, num_samples=50, leave_out=leave_out, seed=0, **options)


def noted(found, *words):
    """Tell whether one note has all these words."""
    return any(all(word in note for word in words) for note in found.notes)


# A linear model, all of whose numbers are known.

LATENTS, DIM, ROWS, NOISE = 2, 3, 80, 0.6


@cache
def linear():
    """Return a pair, data, and what is true of each row."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(DIM, LATENTS, generator=generator, dtype=torch.double)
    x = torch.randn(ROWS, LATENTS, generator=generator, dtype=torch.double) @ weight.mT
    x = x + NOISE * torch.randn(ROWS, DIM, generator=generator, dtype=torch.double)
    eye = torch.eye(LATENTS, dtype=torch.double)
    covariance = torch.linalg.inv(eye + weight.mT @ weight / NOISE**2)
    gain = weight @ covariance / NOISE**2
    posterior = MultivariateNormal(x @ gain, covariance)
    prior = MultivariateNormal(torch.zeros(LATENTS, dtype=torch.double), eye)
    loc, scale = 0.9 * posterior.mean + 0.1, 1.1 * posterior.stddev
    q = MultivariateNormal(loc, scale_tril=torch.diag_embed(scale))
    marginal = weight @ weight.mT + NOISE**2 * torch.eye(DIM, dtype=torch.double)

    def linear_model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(x[:, :LATENTS]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ weight.mT, NOISE).to_event(1), obs=x)

    def linear_guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.9 * x @ gain + 0.1, scale[0]).to_event(1))

    evidence = MultivariateNormal(torch.zeros(DIM, dtype=torch.double), marginal).log_prob(x)
    truth = {
        "evidence": evidence,
        "importance_bound": evidence,
        "elbo": evidence - kl_divergence(q, posterior),
        "kl": kl_divergence(q, prior),
        "posterior_kl": kl_divergence(posterior, prior),
        "inference_gap": kl_divergence(q, posterior),
    }
    one = kl_divergence(dist.Normal(loc, scale), dist.Normal(torch.zeros_like(loc), 1.0))
    units = loc.var(0) > 0.01
    known = {name: value.numpy() for name, value in truth.items()}
    return (linear_model, linear_guide), x, known, one.numpy(), units.numpy()


@cache
def evaluated():
    pair, x, *_ = linear()
    options = {"num_chains": 8, "num_temperatures": 4}
    return idvae.evaluate(*pair, x, num_samples=2000, evidence_options=options, seed=1)


@pytest.mark.parametrize("name", linear()[2])
def test_numbers_of_a_linear_model_are_the_true_ones(name):
    found, truth = getattr(evaluated(), name), linear()[2][name]
    assert found.value.shape == (ROWS,)
    assert abs(found.mean - truth.mean()) < 4 * found.mcse
    assert found.mcse < 0.05
    # Errors are neither too small nor too large: of 80 rows, for all but a few.
    off = (found.value - truth) / found.error
    assert 0.6 < np.sqrt(np.square(off).mean()) < 1.6


def test_numbers_of_single_latents_are_the_closed_forms():
    found, (_, _, _, one, units) = evaluated(), linear()
    np.testing.assert_allclose(found.latent_kl, one, rtol=1e-6)
    least = one.mean(0).argmin()
    assert found.least_latent == f"z[{least}]"
    assert found.row["least_nats"] == pytest.approx(one.mean(0).min())
    np.testing.assert_array_equal(found.active, units)
    assert found.row["active_units"] == units.sum() == 2


def test_an_exact_guide_loses_nothing():
    options = {**QUICK, "proposal": "guide"}
    found = quick(model, lambda x: guide(x, 0.5**0.5), leave_out=(), evidence_options=options)
    truth = dist.Normal(0.0, 2**0.5).log_prob(X).numpy()
    for measure in (found.elbo, found.importance_bound, found.evidence):
        np.testing.assert_allclose(measure.value, truth, atol=2e-5)
        assert measure.mcse < 1e-5
    assert abs(found.inference_gap.mean) < 2e-5
    assert found.unreliable == 0
    assert found.annealing.elbo is found.elbo.value
    np.testing.assert_array_equal(found.annealing.inference_gap, found.inference_gap.value)


def test_all_of_the_guides_numbers_are_of_the_same_draws():
    bound = BoundModel(model, guide, ((X,), {}))
    torch.manual_seed(0)
    with Stream(agreed_seed(None), 0, X.device).drawing():
        together = guide_pass(bound, 500)
    torch.manual_seed(0)
    alone = idvae.importance_log_likelihood(model, guide, X, num_samples=500)
    np.testing.assert_array_equal(together.importance_bound.value, alone.log_likelihood)
    np.testing.assert_array_equal(together.pareto_k, alone.pareto_k)
    assert (together.importance_bound.value > together.elbo.value).all()


# Errors.


def test_the_two_errors_of_a_mean():
    found = RowEstimate(np.array([1.0, 3.0, np.nan]), np.array([0.3, 0.4, np.nan]))
    assert (found.mean, round(found.mcse, 12), found.se) == (2.0, 0.25, 1.0)
    one = RowEstimate(np.array([1.0]), np.array([0.0]))
    assert math.isnan(one.se)
    assert one.mcse == 0
    never = RowEstimate(np.array([1.0, -np.inf]), np.array([0.0, np.nan]))
    assert never.mean == -np.inf
    assert math.isnan(never.se)
    assert math.isnan(never.mcse)
    nothing = RowEstimate.unknown(3)
    assert all(math.isnan(v) for v in (nothing.mean, nothing.mcse, nothing.se))


def test_weights_with_a_heavy_tail_have_no_error():
    found = idvae.evaluate(
        model, lambda x: guide(x, 0.1), X, num_samples=1000, leave_out=["evidence"], seed=0
    )
    assert found.unreliable > 0.5
    assert found.row["unreliable_k"] == found.unreliable
    assert np.isnan(found.importance_bound.error[found.pareto_k > 0.7]).all()
    assert math.isnan(found.row["importance_bound_mcse"])
    assert "not reliable there" in str(found)
    assert math.isfinite(found.row["elbo_mcse"])


# Mutual information.


def by_quadrature(densities):
    """Return I_q of each row, by sums over a grid on which densities ``(rows, points)`` are."""
    mixture = densities.mean(0)
    terms = torch.xlogy(densities, densities) - torch.xlogy(densities, mixture)
    return (terms.sum(-1) / densities.sum(-1)).numpy()


def bound_of(draw, rows=12, dim=1):
    """Return a pair whose guide draws from a distribution, on data without importance."""

    def latent(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def drawing(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", draw)

    return BoundModel(latent, drawing, ((torch.zeros(rows),), {}))


LOC, SCALE = torch.linspace(-2.0, 2.0, 12).unsqueeze(-1), torch.linspace(0.3, 1.0, 12).unsqueeze(-1)


def two_humps():
    each = dist.Normal(torch.stack([LOC, -LOC], -2), SCALE.unsqueeze(-2)).to_event(1)
    weights = dist.Categorical(torch.tensor([0.7, 0.3]).expand(12, 2))
    return dist.MixtureSameFamily(weights, each)


@pytest.mark.parametrize(("name", "products"), [("normal", True), ("humps", False)])
def test_information_is_that_of_the_enumerated_mixture(name, products):
    q = dist.Normal(LOC, SCALE).to_event(1) if name == "normal" else two_humps()
    bound = bound_of(q)
    assert (row_normals(bound) is not None) == products
    grid = torch.linspace(-8.0, 8.0, 4001).reshape(-1, 1, 1)
    truth = by_quadrature(q.log_prob(grid).double().exp().mT)
    torch.manual_seed(0)
    found = mutual_information(bound, 200)
    off = (found.value - truth) / found.error
    assert abs(found.mean - truth.mean()) < 4 * found.mcse
    assert np.square(off).mean() < 3
    assert 0.3 < found.mean < 2


def test_information_with_full_covariances():
    torch.manual_seed(0)
    loc = torch.randn(6, 2)
    factor = torch.randn(6, 2, 2).tril(-1) + torch.diag_embed(0.4 + torch.rand(6, 2))
    q = dist.MultivariateNormal(loc, scale_tril=factor)
    axis = torch.linspace(-7.0, 7.0, 281)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1)
    truth = by_quadrature(q.log_prob(grid).double().exp().mT)
    found = mutual_information(bound_of(q, 6, 2), 2000)
    assert abs(found.mean - truth.mean()) < 4 * found.mcse
    assert found.mcse < 0.01


@pytest.mark.parametrize("full", [False, True])
def test_products_give_the_densities_of_all_pairs(full):
    torch.manual_seed(0)
    loc, scale = 100 + torch.randn(7, 3).double(), 0.05 + torch.rand(7, 3).double()
    covariance = torch.diag_embed(scale.square())
    if full:
        covariance = covariance + torch.ones(3, 3) / 50
    q = MultivariateNormal(loc, covariance)
    found = RowNormals(loc, q.precision_matrix if full else scale.square().reciprocal())
    draws = found.sample(4000)
    pairs = q.log_prob(draws[:2].flatten(0, 1).unsqueeze(1))
    torch.testing.assert_close(found.log_prob(draws[:2].flatten(0, 1)), pairs, rtol=1e-9, atol=1e-9)
    centred = draws - draws.mean(0)
    drawn = torch.einsum("sni,snj->nij", centred, centred) / len(draws)
    deviation = scale.unsqueeze(-1) * scale.unsqueeze(-2)
    assert ((drawn - covariance) / deviation).abs().max() < 0.8 * (1 if full else 0.2)
    assert ((draws.mean(0) - loc) / q.stddev).abs().max() < 5 / len(draws) ** 0.5


def test_information_of_rows_far_apart_is_at_its_cap_and_not_above():
    far = dist.Normal(1000 * torch.arange(12.0).unsqueeze(-1), 1.0).to_event(1)
    for draw in (far, two_humps(), dist.Normal(LOC, 1e-3).to_event(1)):
        assert mutual_information(bound_of(draw), 5).value.max() <= math.log(12) + 1e-6
    assert mutual_information(bound_of(far), 5).mean == pytest.approx(math.log(12), abs=1e-9)


def test_a_collapsed_guide_has_no_information():
    found = mutual_information(bound_of(dist.Normal(torch.zeros(12, 1), 1.0).to_event(1)), 5)
    np.testing.assert_allclose(found.value, 0.0, atol=1e-12)


def test_information_close_to_its_cap_is_said_to_say_little():
    found = quick(model, lambda x: guide(100 * x, 0.1))
    assert noted(found, "close to its cap", "log 6 = 1.792")
    assert found.mutual_information.mean == pytest.approx(found.information_cap)
    assert not noted(quick(model, guide), "cap")


def test_information_of_two_sites_is_that_of_both_together():
    def both(draw):
        def pair(x, observe):
            with pyro.plate("data", len(x)):
                a, b = (pyro.sample(name, fn) for name, fn in draw(x))
                if observe:
                    pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

        return pair

    prior = both(lambda x: [(name, dist.Normal(0.0, 1.0)) for name in "ab"])
    split = both(lambda x: [("a", dist.Normal(x, 0.5)), ("b", dist.Normal(x.square() / 3, 0.7))])
    bound = BoundModel(
        lambda x: prior(x, True), lambda x: split(x, False), ((torch.linspace(-1, 1, 12),), {})
    )
    assert len(row_normals(bound)) == 2
    x = torch.linspace(-1, 1, 12)
    joint = dist.Normal(torch.stack([x, x.square() / 3], -1), torch.tensor([0.5, 0.7])).to_event(1)
    torch.manual_seed(0)
    found, whole = mutual_information(bound, 500), mutual_information(bound_of(joint, 12, 2), 500)
    assert abs(found.mean - whole.mean) < 4 * math.hypot(found.mcse, whole.mcse)


@pytest.mark.parametrize("prior", [dist.Normal(0.0, 1.0), dist.LogNormal(0.0, 1.0)])
def test_information_of_an_autoguide_is_that_of_its_normals(prior):
    """On the positive scale it is the same as on the unconstrained one."""

    def own(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    auto = AutoNormal(own)
    auto(LOC[:, 0])
    with torch.no_grad():
        auto.locs.z.copy_(LOC[:, 0])
        auto.scales.z = SCALE[:, 0]
    torch.manual_seed(0)
    found = mutual_information(BoundModel(own, auto, ((LOC[:, 0],), {})), 20)
    torch.manual_seed(0)
    wanted = mutual_information(bound_of(dist.Normal(LOC, SCALE).to_event(1)), 20)
    np.testing.assert_allclose(found.value, wanted.value, rtol=1e-4, atol=1e-5)


def test_noise_that_is_no_sample_site_is_no_density():
    def noisy(x):
        guide(x + torch.randn(len(x)))

    found = quick(model, noisy)
    assert noted(found, "no mutual information", "differs from run to run")
    assert math.isnan(found.mutual_information.mean)


def test_flows_without_an_inverse_are_refused():
    flow = dist.transforms.Planar(1)
    base = dist.Normal(LOC, SCALE).to_event(1)
    with pytest.raises(NoCertificateError, match="cannot be evaluated at other rows' draws"):
        mutual_information(bound_of(dist.TransformedDistribution(base, [flow])), 5)


# What cannot be had.


def test_a_guide_without_a_density_in_each_row():
    auto = AutoDiagonalNormal(model)
    found = quick(model, auto, leave_out=(), evidence_options=QUICK)
    assert math.isfinite(found.evidence.mean)
    for name in ("elbo", "kl", "importance_bound", "inference_gap", "mutual_information"):
        assert math.isnan(found.row[name])
    assert noted(found, "no ELBO, KL and importance-weighted bound", "does not factorise")
    assert noted(found, "no mutual information", "row by row")
    assert math.isnan(found.unreliable)
    assert found.annealing.elbo is None
    assert "importance-weighted bound  –" in str(found)


def test_a_guide_that_is_a_point():
    def point(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(x / 2))

    found = quick(model, point, leave_out=(), evidence_options=QUICK)
    assert noted(found, "no ELBO", "is a point")
    assert noted(found, "no mutual information", "is a point")
    assert math.isfinite(found.posterior_kl.mean)
    options = {**QUICK, "proposal": "guide"}
    assert noted(quick(model, point, leave_out=(), evidence_options=options), "no evidence")


def test_latents_that_rows_share():
    def shared(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def one(x):
        pyro.sample("mean", dist.Normal(0.3, 0.4))

    found = quick(shared, one, leave_out=())
    wanted = ("evidence", "elbo", "kl", "posterior_kl", "active_units", "least_nats")
    assert all(math.isnan(found.row[name]) for name in wanted)
    assert noted(found, "no evidence", "'mean'")
    assert len(found.notes) == 6
    assert found.latents == ("mean",)


def test_discrete_latents_are_summed_out_and_that_is_said():
    def mixture(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(2.0 * y - 1, 0.5))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    found = quick(mixture, lambda x: guide(x, 0.4), leave_out=(), evidence_options=QUICK)
    centres = torch.tensor([-1.0, 1.0])
    truth = dist.Normal(centres, 0.5**0.5).log_prob(X[:, None]).logsumexp(-1) - math.log(2)
    assert abs(found.evidence.mean - float(truth.mean())) < 4 * found.evidence.mcse + 0.05
    assert found.elbo.mean < float(truth.mean())
    assert noted(found, "summed out", "'y'")
    assert noted(found, "no nats of single latents", "mixture")
    assert math.isnan(found.row["least_nats"])
    assert math.isfinite(found.mutual_information.mean)


def test_discrete_latents_that_the_guide_draws():
    def mixture(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(y, 0.5), obs=x)

    def drawn(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=4 * x - 2))

    found = quick(mixture, drawn, leave_out=(), num_information_samples=200)
    truth = dist.Normal(torch.tensor([0.0, 1.0]), 0.5).log_prob(X[:, None]).logsumexp(-1)
    np.testing.assert_allclose(found.elbo.value, truth - math.log(2), atol=1e-4)
    exact = torch.sigmoid(4 * X - 2)
    each = torch.stack([exact, 1 - exact])
    mixed = each.mean(1, keepdim=True)
    information = (each * (each / mixed).log()).nansum(0).mean()
    measured = found.mutual_information
    assert abs(measured.mean - float(information)) < 4 * measured.mcse
    assert noted(found, "no evidence", "summed out")


def test_marginals_without_a_closed_form():
    def heavy(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Laplace(x / 2, 0.6))

    found = quick(model, heavy)
    assert noted(found, "no nats of single latents", "not Normal")
    assert found.latent_kl is None
    assert (found.least_latent, found.active_units) == ("", 1)
    assert math.isnan(found.row["least_nats"])
    found = quick(model, guide, x=X[:1])
    assert noted(found, "no active units", "1 row")
    assert math.isnan(found.row["active_units"])
    assert found.mutual_information.mean == found.information_cap == 0
    assert not noted(found, "cap")


def test_the_certificate_is_a_window_an_estimate_or_none():
    torch.manual_seed(0)
    x = (torch.rand(10, 4) > 0.5).float()
    for family, kind in (("normal", "certified window"), ("bernoulli", "estimate, no certificate")):
        vae = idvae.IDVAE(4, 2, family, hidden_dims=[6], encoder_hidden_dims=[6])
        found = quick(vae.model, vae.guide, x=x)
        assert found.row["certificate"] == kind
        assert found.row["window_low"] == found.certificate.low > 0
        assert f"certificate  {kind}: {found.certificate.low:.3f}" in str(found)
        assert math.isnan(found.row["window_high"]) == (family == "bernoulli")
        assert (found.row["window_low_mcse"] > 0) == (family == "bernoulli")
    likelihood = NeuralLikelihood(make_family("bernoulli"), torch.nn.Linear(2, 4))
    plain = idvae.VAE(likelihood, Encoder(4, 2, hidden_dims=[6]))
    found = quick(plain.model, plain.guide, x=x)
    assert found.row["certificate"] == "none"
    assert noted(found, "no certificate", "not identifiable")
    assert all(math.isnan(found.row[name]) for name in ("window_low", "window_high"))


def test_an_interrupt_leaves_the_rows_that_are_done(monkeypatch):
    whole = quick(model, guide, leave_out=(), evidence_options=QUICK)
    part = np.where(np.arange(len(X)) < 4, whole.annealing.lower, np.nan)
    cut = replace(whole.annealing, lower=part, complete=False, elbo=None)
    monkeypatch.setattr(annealed, "log_evidence", lambda *args, **options: cut)
    found = quick(model, guide, leave_out=())
    assert noted(found, "interrupted", "4 of 6 rows")
    assert found.evidence.mean == pytest.approx(part[:4].mean())
    assert found.inference_gap.mean == pytest.approx((part - found.elbo.value)[:4].mean())


# The row, and the table.


def test_the_row_has_a_number_for_all_and_the_words_say_the_rules():
    found = evaluated()
    row = found.row
    assert list(found.table.columns) == list(row)
    assert len(found.table) == 1
    assert {f"{name}{end}" for name in linear()[2] for end in ("", "_mcse", "_se")} <= set(row)
    assert row["evidence_se"] == pytest.approx(found.evidence.value.std(ddof=1) / ROWS**0.5)
    assert row["information_cap"] == math.log(ROWS)
    assert row["importance_draws"] == 2000
    said = str(found)
    for words in (
        "in nats",
        "± Monte-Carlo error of these rows (standard error over rows like these)",
        "variance over rows of the posterior mean above 0.01 (Burda et al. 2016)",
        "2000 draws, k ",
        f"at most log {ROWS} = {math.log(ROWS):.3f}",
        "certificate  none",
        "8 particles",
    ):
        assert words in said
    assert repr(found) == said


def test_the_time_is_that_of_each_part():
    seconds = evaluated().cpu_seconds
    assert set(seconds) == {
        "checks",
        "evidence",
        "guide",
        "information",
        "units",
        "latents",
        "certificate",
    }
    assert all(value >= 0 for value in seconds.values())
    assert max(seconds, key=seconds.get) == "evidence"
    assert evaluated().row["cpu_seconds"] == sum(seconds.values())


def cells(line):
    return [cell.strip() for cell in line.strip("|").replace(r"\|", "/").split("|")]


def test_markdown_has_a_line_for_each_model_and_says_what_cells_mean():
    first, second = quick(model, guide), quick(model, lambda x: guide(x, 0.7), threshold=0.5)
    lines = first.to_markdown().splitlines()
    assert len(cells(lines[0])) == len(cells(lines[1])) == len(cells(lines[2])) == 12
    assert cells(lines[2])[0] == "–"
    assert lines[-1].startswith("- no certificate")
    table = idvae.evaluation_table({"a|b": first, "c": second})
    lines = table.to_markdown().splitlines()
    assert [cells(line)[0] for line in lines[2:4]] == ["a/b", "c"]
    assert len(cells(lines[2])) == 14
    assert "mean above 0.01 or 0.5" in lines[5]
    assert "- active units were counted by different thresholds" in lines
    assert any(line.startswith("- c: no evidence: left out, as asked") for line in lines)
    assert str(table) == table.to_markdown()


def test_models_are_rows_of_a_table_in_their_order_and_compared_row_by_row():
    def narrow(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 0.9))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    options = {"leave_out": (), "evidence_options": QUICK}
    found = {"own": quick(model, guide, **options), "narrow": quick(narrow, guide, **options)}
    table = idvae.evaluation_table(found).table
    assert table.index.tolist() == ["own", "narrow"]
    assert table.index.name == "model"
    assert table.loc["own", "elbo"] == found["own"].elbo.mean
    best = table["evidence"].idxmax()
    assert table.loc[best, "evidence_diff"] == 0
    (worse,) = set(found) - {best}
    apart = table.loc[worse, "evidence"] - table.loc[best, "evidence"]
    assert table.loc[worse, "evidence_diff"] == pytest.approx(apart)
    assert apart < 0
    # Rows that are hard for both do not count.
    assert table.loc[worse, "evidence_diff_se"] < 0.3 * table.loc[worse, "evidence_se"]


def test_models_on_other_data_are_not_compared():
    options = {"leave_out": (), "evidence_options": QUICK}
    here = quick(model, guide, **options)
    for x in (X + 0.1, X[:4], X.flip(0)):
        there = replace(here, observed=quick(model, guide, x=x).observed)
        table = idvae.evaluation_table({"here": here, "there": there})
        assert table.table["evidence_diff"].isna().all()
        assert table.table["evidence"].notna().all()
        assert any("different data" in caution for caution in table.cautions)
    assert not idvae.evaluation_table({"here": here, "again": here}).cautions


def test_a_seed_gives_the_same_numbers():
    options = {"leave_out": (), "evidence_options": QUICK}
    rows = [quick(model, guide, **options).row for _ in range(2)]
    for row in rows:
        del row["cpu_seconds"]
    np.testing.assert_equal(*rows)


def test_options_of_the_annealing_are_handed_on():
    options = {**QUICK, "bounds": "both", "proposal": "guide"}
    found = quick(model, guide, leave_out=(), evidence_options=options)
    assert (found.annealing.num_chains, found.annealing.num_temperatures) == (4, 3)
    assert math.isfinite(found.row["evidence_upper"])
    assert "its upper bound" in str(found)
    assert "annealed from the guide" in str(found)
    with pytest.raises(ArgumentError, match="num_chains=1: expected an integer of at least 4"):
        quick(model, guide, leave_out=(), evidence_options={"num_chains": 1})


def test_a_loose_evidence_is_said_to_be_loose():
    def sharp(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 0.01), obs=x)

    options = {"proposal": "prior", "num_temperatures": 2, "num_chains": 4}
    found = quick(sharp, guide, leave_out=(), evidence_options=options)
    assert noted(found, "annealed log weights spread by more than 2 nats")
