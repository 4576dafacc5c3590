import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import collapse_report, discrete_information, from_guide, from_mcmc
from pyro_idvae.arviz_io import Variable, groups_of, to_arviz
from pyro_idvae.diagnostics.estimators import holm
from pyro_idvae.errors import ArgumentError, DataError, ShapeError
from pyro_idvae.models import GaussianMixture

POINTS = 30
X = torch.randn(POINTS, generator=torch.Generator().manual_seed(0)) * 2**0.5


def model(x, slope=1.0):
    """z ~ N(0,1), x ~ N(z,1): the posterior is N(x/2, 1/√2)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(slope * z, 1.0), obs=x)


constant_model = partial(model, slope=0.0)


def posterior(num_chains=2, num_samples=400, sd=0.5**0.5):
    torch.manual_seed(1)
    return {"z": X / 2 + sd * torch.randn(num_chains, num_samples, POINTS)}


def closed_forms():
    x = X.double().numpy()
    forward = (0.5 + x**2 / 4 - 1 - math.log(0.5)) / 2
    backward = (2 + x**2 / 2 - 1 + math.log(0.5)) / 2
    return forward, backward


def without(data, *dropped):
    """Return the same ArviZ data without some groups or group/variable."""
    groups = {}
    for group, dataset in groups_of(data).items():
        groups[group] = {
            name: Variable(v.values, v.dims, ())
            for name, v in dataset.data_vars.items()
            if not {group, f"{group}/{name}"} & set(dropped)
        }
    method = groups_of(data)["posterior"].attrs["inference_method"]
    return to_arviz(groups, attrs={"inference_method": method})


@pytest.fixture(scope="module")
def linear():
    return from_mcmc(posterior(), model, X, num_prior_samples=800)


def test_exact_draws_of_the_linear_gaussian_model(linear):
    report = collapse_report(linear)
    forward, backward = closed_forms()
    row, vector = report.table.loc["z"], report.vector
    assert row["verdict"] == vector["verdict"] == report.verdict == "informative"
    assert abs(row["kl"] - forward.mean()) < 0.02
    assert row["kl_lower"] < forward.mean() < row["kl_upper"]
    wanted = (forward + backward).mean()
    assert abs(vector["estimate"] - wanted) < 4 * vector["standard_error"]
    assert vector["lower"] < wanted < vector["upper"]
    assert vector["standard_error"] < 0.05
    assert row["contraction"] == pytest.approx(0.5, abs=0.03)
    means = X.double().var().item() / 4
    assert row["active_variance"] == pytest.approx(means, rel=0.05)
    assert 0.2 < row["mutual_information"] <= row["kl"]
    assert row["aggregate_kl"] == pytest.approx(row["kl"] - row["mutual_information"], abs=1e-6)
    assert row["data_points"] == report.num_points == POINTS
    points = report.per_point
    error = points["divergence_standard_error"].values
    assert (abs(points["divergence"].values - forward - backward) < 5 * error).all()
    error = points["kl_standard_error"].values[:, 0]
    assert (abs(points["kl"].sel(latent="z").values - forward) < 5 * error + 0.01).all()
    assert points["variation"].dims == ("data",)


def test_a_constant_likelihood_is_collapsed():
    torch.manual_seed(2)
    report = collapse_report(from_mcmc({"z": torch.randn(2, 400, POINTS)}, constant_model, X))
    assert report.verdict == report.vector["verdict"] == "collapsed"
    assert report.vector["estimate"] == pytest.approx(0, abs=1e-9)
    assert report.vector["variation"] == pytest.approx(0, abs=1e-9)
    assert report.table.loc["z", "verdict"] == "collapsed"
    assert report.table.loc["z", "mutual_information"] < 0.01


def test_a_guides_draws_are_judged_by_its_own_divergence():
    def guide(x, wide=False):
        with pyro.plate("data", len(x)):
            loc, scale = (0.0 * x, 1.0) if wide else (x / 2, 0.5**0.5)
            pyro.sample("z", dist.Normal(loc, scale))

    torch.manual_seed(3)
    good = collapse_report(from_guide(model, guide, X, num_samples=400))
    forward, _ = closed_forms()
    assert good.vector["quantity"] == "KL(q‖p)"
    assert abs(good.vector["estimate"] - forward.mean()) < 4 * good.vector["standard_error"]
    assert good.verdict == "informative"
    assert "the guide's draws" in str(good)
    spoilt = collapse_report(from_guide(model, partial(guide, wide=True), X, num_samples=400))
    assert spoilt.verdict == "collapsed"
    assert spoilt.vector["estimate"] == 0
    # The model's likelihood varies all the same.
    assert spoilt.vector["variation"] > 0.5

    def joint(x):
        loc = torch.cat([x / 2])
        z = pyro.sample(
            "joint",
            dist.Normal(loc, 0.5**0.5).to_event(1),
            infer={"is_auxiliary": True},
        )
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(z))

    shared = collapse_report(from_guide(model, joint, X, num_samples=400))
    assert shared.vector["estimate"] == pytest.approx(forward.mean(), abs=0.05)
    assert "divergence" not in shared.per_point


def test_the_prior_by_its_draws_alone(linear):
    fallback = collapse_report(without(linear, "sample_stats/prior_score_z"))
    exact = collapse_report(linear)
    assert fallback.verdict == "informative"
    assert fallback.table.loc["z", "kl"] == pytest.approx(exact.table.loc["z", "kl"], abs=0.04)
    torch.manual_seed(4)
    null = from_mcmc({"z": torch.randn(2, 400, POINTS)}, constant_model, X)
    row = collapse_report(without(null, "sample_stats/prior_score_z")).table.loc["z"]
    assert row["verdict"] == "collapsed"
    assert abs(row["kl"]) < 0.005


def test_global_latents_are_one_for_all_data():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        pyro.sample("idle", dist.Beta(5.0, 5.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    torch.manual_seed(5)
    precision = 1 + POINTS
    draws = {
        "mean": X.sum() / precision + torch.randn(2, 500) / precision**0.5,
        "idle": dist.Beta(5.0, 5.0).sample((2, 500)),
    }
    report = collapse_report(from_mcmc(draws, model, X), confidence=0.999)
    loc = X.sum().item() / precision
    wanted = (1 / precision + loc**2 - 1 + math.log(precision)) / 2
    row = report.table.loc["mean"]
    assert row["kl_lower"] < wanted < row["kl_upper"]
    assert list(report.table["verdict"]) == ["informative", "collapsed"]
    assert list(report.table["data_points"]) == [1, 1]
    assert math.isnan(row["mutual_information"])
    assert not report.vector["per_point"]
    assert report.num_points == 0
    assert not report.per_point.data_vars
    assert "all data together" in str(report)


def test_an_observation_outside_the_plate_makes_the_divergence_one_of_all_data():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.sample("total", dist.Normal(z.sum(), 10.0), obs=x.sum())

    report = collapse_report(from_mcmc(posterior(), model, X))
    assert not report.vector["per_point"]
    assert report.table.loc["z", "data_points"] == POINTS
    assert "divergence" not in report.per_point


def autoregressive(rng, shape, rho=0.8):
    noise = rng.normal(size=shape)
    for t in range(1, shape[1]):
        noise[:, t] = rho * noise[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return noise


def scored(x, log_ratio, rng, num_prior=600, named="x"):
    """Return ArviZ data of one global latent with an N(0,1) prior."""
    prior = rng.normal(size=(1, num_prior))
    values = {
        "posterior": {"z": x},
        "prior": {"z": prior},
        "sample_stats": {"prior_score_z": x},
        "log_likelihood": {"x": log_ratio(x)},
        "sample_stats_prior": {f"log_likelihood_{named}": log_ratio(prior)},
    }
    groups = {g: {n: Variable(v, ()) for n, v in part.items()} for g, part in values.items()}
    return to_arviz(groups, attrs={"inference_method": "hmc"})


@pytest.mark.parametrize(("kl", "word"), [(0.0, "collapsed"), (0.1, "informative")])
def test_verdicts_of_autocorrelated_draws(kl, word):
    rng = np.random.default_rng(6)
    shift = math.sqrt(2 * kl)
    latent, vector = [], []
    for _ in range(60):
        x = shift + autoregressive(rng, (4, 900))
        report = collapse_report(scored(x, lambda z: shift * z - shift**2 / 2 - 100, rng))
        latent.append(report.table.loc["z", "verdict"])
        vector.append(report.vector["verdict"])
    assert latent.count(word) >= 57
    assert vector.count(word) >= 57


def test_few_draws_are_undecided():
    rng = np.random.default_rng(7)
    report = collapse_report(scored(rng.normal(size=(1, 25)), lambda z: 0.2 * z, rng, 25))
    assert report.verdict == report.table.loc["z", "verdict"] == "undecided"


def test_integer_latents():
    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(4 * y - 2, 1.0), obs=x)

    torch.manual_seed(8)
    p = torch.sigmoid(4 * X)
    draws = {"y": torch.bernoulli(p.expand(2, 500, -1))}
    report = collapse_report(from_mcmc(draws, model, X, num_prior_samples=2000))
    exact = discrete_information(torch.stack([1 - p, p], -1), [0.5, 0.5])
    row = report.table.loc["y"]
    assert row["verdict"] == "informative"
    assert row["kl"] == pytest.approx(exact.kl.mean(), abs=0.01)
    assert row["kl_lower"] < exact.kl.mean() < row["kl_upper"]
    assert row["mutual_information"] == pytest.approx(float(exact.mutual_information), abs=0.01)


def test_information_of_assignments_that_are_summed_out():
    mixture = GaussianMixture()
    theta, mu, sigma = torch.tensor(0.5), torch.tensor([-2.0, 2.0]), torch.ones(2)
    probs = mixture.assignment(X, theta, mu, sigma).probs
    found = discrete_information(probs, [0.5, 0.5])
    assert found.kl.shape == (POINTS,)
    assert found.mutual_information + found.aggregate_kl == pytest.approx(found.kl.mean())
    assert found.cap == math.log(2)
    same = discrete_information(np.full((3, 5, 4), 0.25), np.full((3, 4), 0.25))
    np.testing.assert_allclose(same.kl, np.zeros((3, 5)), atol=1e-12)
    np.testing.assert_allclose(same.mutual_information, 0, atol=1e-12)
    one_hot = discrete_information(np.eye(4), np.full(4, 0.25))
    assert one_hot.mutual_information == pytest.approx(math.log(4))
    with pytest.raises(ShapeError, match=r"\(4, 4\)"):
        discrete_information(np.eye(4), [0.5, 0.5])
    with pytest.raises(ShapeError, match="it is empty"):
        discrete_information(np.ones((0, 2)) / 2, [0.5, 0.5])


def test_holms_steps():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.9]), [0.9])


def test_a_likelihood_that_rules_prior_draws_out():
    rng = np.random.default_rng(9)
    x = abs(rng.normal(size=(1, 300)))
    report = collapse_report(scored(x, lambda z: np.where(z > 0, -1.0, -np.inf), rng))
    assert report.vector["estimate"] == math.inf
    assert report.verdict == "informative"
    broken = scored(x, lambda z: np.where(z > 1, -1.0, -np.inf), rng)
    with pytest.raises(DataError, match="log_likelihood holds log densities that are not finite"):
        collapse_report(broken)


def test_printing(linear):
    report = collapse_report(linear, epsilon=0.1, confidence=0.9)
    text = str(report)
    assert repr(report) == text
    assert "ε = 0.1, one-sided limits at 90 %" in text
    assert "all latents: J = " in text
    assert "Of 1 latent, 0 collapsed, 1 informative, 0 undecided." in text
    assert "cannot exceed log N = 3.40" in text
    assert "<table" in report._repr_html_()


def test_sites_are_chosen_and_labelled():
    def model(x):
        pyro.sample("scale", dist.HalfNormal(1.0))
        with pyro.plate("data", len(x)):
            w = pyro.sample("w", dist.Normal(torch.zeros(2, 2), 1.0).to_event(2))
            pyro.sample("x", dist.Normal(w.sum((-1, -2)), 1.0), obs=x)

    torch.manual_seed(10)
    draws = {"scale": torch.rand(1, 50), "w": torch.randn(1, 50, POINTS, 2, 2)}
    data = from_mcmc(draws, model, X)
    labels = ["w[0,0]", "w[0,1]", "w[1,0]", "w[1,1]"]
    assert list(collapse_report(data).table.index) == ["scale", *labels]
    report = collapse_report(data, var_names=["w"])
    assert list(report.table.index) == labels
    assert list(report.per_point["latent"].values) == labels


def test_bad_input_is_refused(linear):
    with pytest.raises(ArgumentError, match="epsilon=0"):
        collapse_report(linear, epsilon=0)
    with pytest.raises(ArgumentError, match=r"confidence=0\.3"):
        collapse_report(linear, confidence=0.3)
    with pytest.raises(ArgumentError, match=r"not \['prior'\]"):
        collapse_report(without(linear, "prior"))
    for names in (["y"], []):
        with pytest.raises(ArgumentError, match=r"var_names=.*some of \['z'\]"):
            collapse_report(linear, var_names=names)
    with pytest.raises(ArgumentError, match="19 posterior draws"):
        collapse_report(from_mcmc(posterior(1, 19), model, X, num_prior_samples=50))
    with pytest.raises(ArgumentError, match="19 prior draws"):
        collapse_report(from_mcmc(posterior(), model, X, num_prior_samples=19))
    with pytest.raises(DataError, match="latent 'z': .* constant"):
        collapse_report(from_mcmc(posterior(sd=0.0), model, X))
    bad = posterior()
    bad["z"][0, 0, 0] = torch.nan
    with pyro.validation_enabled(False), pytest.raises(DataError, match="not finite"):
        collapse_report(from_mcmc(bad, model, X))

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.7))

    svi = from_guide(model, guide, X, num_samples=50)
    with pytest.raises(ArgumentError, match="no sample_stats/log_q"):
        collapse_report(without(svi, "sample_stats/log_q"))
    with pytest.raises(ArgumentError, match="no group log_prior"):
        collapse_report(without(svi, "log_prior"))
    rng = np.random.default_rng(0)
    renamed = scored(rng.normal(size=(1, 50)), np.zeros_like, rng, named="other")
    with pytest.raises(ArgumentError, match="no sample_stats_prior/log_likelihood_x"):
        collapse_report(renamed)


def test_values_that_a_model_is_conditioned_on_cancel():
    def model(x):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    given = pyro.condition(model, data={"scale": torch.tensor(1.0)})
    x = torch.randn(6)
    draws = x / 2 + 0.5**0.5 * torch.randn(1, 4000, 6)
    report = collapse_report(from_mcmc({"z": draws}, given, x, num_prior_samples=4000))
    assert report.vector["per_point"]
    # J of N(x/2, 1/2) and N(0, 1): (s² + m²)/2 + (1 + m²)/(2s²) - 1, s² = 1/2, m = x/2.
    wanted = float(((0.5 + x**2 / 4) / 2 + (1 + x**2 / 4) - 1).mean())
    assert report.vector["lower"] < wanted < report.vector["upper"]
