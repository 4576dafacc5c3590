"""Which component: against closed forms, and where components cannot be told apart."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

import pyro_idvae as idvae
from pyro_idvae import MixtureVAE, assignments
from pyro_idvae.diagnostics import RowEstimate
from pyro_idvae.diagnostics.assignments import Assignments
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.models import MixtureEncoder

LIMIT = 4.5
SCALE = 0.5


def linear(seed=0, free=False):
    torch.manual_seed(seed)
    network = torch.nn.Linear(2, 3)
    likelihood = NeuralLikelihood(make_family("normal", scale=SCALE), network)
    return MixtureVAE(likelihood, MixtureEncoder(3, 2, 3, [8]), 3, free_means=free)


def closed_form(vae, x):
    """Return log p(x, y), of shape (rows, components), of a linear likelihood."""
    network = vae.likelihood.network
    rows = []
    for mean, scale in zip(vae.prior.means, vae.prior.scales(), strict=True):
        loc = SCALE * network(mean)
        root = SCALE * network.weight * scale
        covariance = root @ root.T + SCALE**2 * torch.eye(3)
        rows.append(dist.MultivariateNormal(loc, covariance).log_prob(x) - math.log(3))
    return torch.stack(rows, -1).detach().double()


@pytest.mark.parametrize("guide", [None, "guide", "marginal_guide"])
def test_probabilities_are_those_of_the_closed_form(guide):
    vae = linear()
    x = vae.likelihood.condition(vae.prior().sample((30,))).sample()
    own = None if guide is None else getattr(vae, guide)
    found = assignments(vae.model, own, x, seed=0, num_chains=32)
    log_joint = closed_form(vae, x)
    wanted = log_joint.softmax(-1).numpy()
    error = found.exact_standard_error + 1e-6
    assert (np.abs(found.exact - wanted) < LIMIT * error).all()
    assert np.abs(found.exact - wanted).max() < 0.05
    total = log_joint.logsumexp(-1).numpy()
    assert (np.abs(found.evidence.value - total) < LIMIT * found.evidence.error + 1e-4).all()
    assert (found.guide is None) == (guide is None)
    if guide == "guide":
        torch.testing.assert_close(
            torch.as_tensor(found.guide).float(), vae.guide.posterior(x).component().probs
        )
    if guide is not None:
        np.testing.assert_allclose(found.guide.sum(-1), 1, rtol=1e-5)


def one_bit():
    """Return a model of one binary x whose components differ in z, and not in p(x)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()

    def rate(mean, scale):
        return float((weights * expit(mean + scale * nodes)).sum())

    scales = (0.1, 0.5)
    second = brentq(lambda mean: rate(mean, scales[1]) - rate(1.0, scales[0]), 0.5, 2.0)
    assert abs(second - 1.0) > 0.02
    means = torch.tensor([1.0, second])

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.tensor([0.5, 0.5])))
            z = pyro.sample("z", dist.Normal(means[y], torch.tensor(scales)[y]))
            pyro.sample("x", dist.Bernoulli(logits=z), obs=x)

    return model


def test_components_that_differ_in_z_need_not_differ_in_x():
    x = torch.tensor([0.0, 1.0, 1.0])
    found = assignments(one_bit(), None, x, seed=0, num_chains=64)
    assert found.table.loc["exact", "verdict"] == "collapsed"
    np.testing.assert_allclose(found.exact, 0.5, atol=1e-3)
    assert found.site == "y"


def test_a_guide_that_has_lost_the_component_is_told_from_a_model_that_knows_it():
    vae = linear()
    with torch.no_grad():
        vae.likelihood.network.weight.mul_(8.0)
        vae.encoder.network[-1].weight[:3] = 0.0
        vae.encoder.network[-1].bias[:3] = 0.0
    torch.manual_seed(0)
    x = vae.likelihood.condition(vae.prior().sample((40,))).sample()
    found = assignments(vae.model, vae.guide, x, seed=0)
    assert found.table.loc["guide", "verdict"] == "collapsed"
    assert found.table.loc["exact", "verdict"] == "informative"
    assert found.table.loc["exact", "information"] > 0.8 * found.cap
    assert "guide" in str(found)
    assert "collapsed" in str(found)


def report(log_joint, error, **options):
    p = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=-1, keepdims=True))
    prior = np.full_like(p, 1 / p.shape[-1])
    known = {"epsilon": 0.05, "confidence": 0.95, "site": "y", "guide": None, **options}
    return Assignments(
        exact=p,
        exact_standard_error=np.zeros_like(p),
        prior=prior,
        evidence=RowEstimate(np.zeros(len(p)), np.zeros(len(p))),
        log_joint_standard_error=np.broadcast_to(error, p.shape),
        **known,
    )


@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0])
def test_limits_for_the_monte_carlo_error_cover(spread):
    rng = np.random.default_rng(0)
    truth = spread * rng.standard_normal((60, 4))
    exact = report(truth, 0.0)
    replications, outside = 600, {"kl": 0, "information": 0}
    for _ in range(replications):
        table = report(truth + 0.1 * rng.standard_normal(truth.shape), 0.1).table.loc["exact"]
        for name, known in (("kl", exact.kl().mean), ("information", exact.information().mean)):
            outside[name] += table[f"{name}_upper"] < known - 1e-12
            outside[name] += table[f"{name}_lower"] > known + 1e-12
    # Two one-sided limits of 95 % each.
    margin = LIMIT * (0.1 * 0.9 / replications) ** 0.5
    assert all(count / replications < 0.1 + margin for count in outside.values())


def test_components_and_verdicts_know_their_words():
    log_joint = np.zeros((21, 3))
    flat = report(log_joint, 0.0)
    assert flat.table.loc["exact", "verdict"] == "collapsed"
    log_joint[np.arange(21), np.arange(21) % 3] = 12.0
    sure = report(log_joint, 0.01)
    assert sure.table.loc["exact", "verdict"] == "informative"
    assert sure.cap == pytest.approx(math.log(3))
    assert sure.information().mean == pytest.approx(math.log(3), abs=1e-3)
    assert report(0.7 * log_joint / 12, 0.3).table.loc["exact", "verdict"] == "undecided"
    with pytest.raises(ShapeError, match="which='guide'"):
        sure.kl("guide")


def several(x):
    with pyro.plate("data", len(x)):
        a = pyro.sample("a", dist.Bernoulli(0.5))
        b = pyro.sample("b", dist.Bernoulli(0.5))
        z = pyro.sample("z", dist.Normal(a - b, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def hanging(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Bernoulli(logits=z))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        (several, {}, "site=None.*'a', 'b'"),
        (several, {"site": "a"}, r"\['b'\] are discrete too"),
        (several, {"site": "c"}, "site='c'"),
        (hanging, {}, "depends on other latents"),
        (lambda: idvae.IDVAE(1, 1, "normal", hidden_dims=[8]).model, {}, "none"),
        (one_bit(), {"epsilon": 0.0}, "epsilon=0.0"),
        (one_bit(), {"confidence": 0.4}, "confidence=0.4"),
        (one_bit(), {"num_guide_draws": 0}, "num_guide_draws=0"),
        (one_bit(), {"bounds": "both"}, "bounds"),
        (one_bit(), {"chains": 3}, "chains"),
        (one_bit(), {"seed": -1}, "seed"),
    ],
)
def test_what_it_cannot_do_is_named(model, options, named):
    x = torch.tensor([0.0, 1.0])
    if model.__name__ == "<lambda>":
        model, x = model(), x.unsqueeze(-1)
    with pytest.raises((ArgumentError, TypeError), match=named):
        assignments(model, None, x, **options)
