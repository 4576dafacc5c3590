"""Priors that a certificate knows: their entropy powers, variances and eigenvalues."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad

from pyro_idvae import certify
from pyro_idvae.diagnostics.certificate.prior import INDEPENDENT, prior_of
from pyro_idvae.distributions import InjectiveBernoulli, InjectiveNormal
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.transforms import brenier_injection

L, M = 1.0, 3.0
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def few_moves(monkeypatch):
    """What is granted rests on no number of moves."""
    monkeypatch.setattr("pyro_idvae.programs.moves.MOST", 16)


@pytest.fixture
def normal():
    return InjectiveNormal(brenier_injection(2, 4, hidden_dims=[8], lipschitz_bounds=(L, M)))


def local(likelihood, prior):
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", likelihood.condition(pyro.sample("z", prior)), obs=x)

    return model


def shared(likelihood, prior):
    def model(x):
        z = pyro.sample("z", prior)
        with pyro.plate("data", len(x)):
            pyro.sample("x", likelihood.condition(z), obs=x)

    return model


# As in certify: (type, arguments, limits of the density).
PRIORS = {
    dist.Beta: ((2.0, 3.0), (0, 1)),
    dist.Chi2: ((3.0,), (0, np.inf)),
    dist.Exponential: ((0.5,), (0, np.inf)),
    dist.Gamma: ((2.5, 1.5), (0, np.inf)),
    dist.Gumbel: ((1.0, 2.0), (-20, 80)),
    dist.HalfNormal: ((2.0,), (0, np.inf)),
    dist.Laplace: ((1.0, 2.0), (-60, 60)),
    dist.LogNormal: ((0.3, 0.6), (0, np.inf)),
    dist.Normal: ((1.0, 2.0), (-30, 30)),
    dist.StudentT: ((5.0, 1.0, 2.0), (-np.inf, np.inf)),
    dist.Uniform: ((-1.0, 3.0), (-1, 3)),
    dist.Weibull: ((2.0, 1.5), (0, np.inf)),
}


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_entropy_powers_and_variances_are_the_integrals(kind):
    arguments, (low, high) = PRIORS[kind]
    prior = kind(*(torch.tensor([value, value]) for value in arguments), validate_args=False)
    found = prior_of({"name": "z", "value": torch.zeros(3, 2), "fn": prior.to_event(1)})
    exact = kind(*(torch.tensor(value).double() for value in arguments), validate_args=False)

    def mean(of):
        def term(z):
            log_p = exact.log_prob(torch.tensor(z, dtype=torch.double)).item()
            return math.exp(log_p) * of(z, log_p) if log_p > -700 else 0.0

        return quad(term, low, high, limit=400)[0]

    centre = mean(lambda z, log_p: z)
    variance = mean(lambda z, log_p: (z - centre) ** 2)
    entropy = mean(lambda z, log_p: -log_p)
    assert found.most.shape == (3, 2)
    assert found.most[0, 0].item() == pytest.approx(variance, rel=1e-4)
    power = math.exp(2 * entropy) / (2 * math.pi * math.e)
    assert found.least[0, 0].item() == pytest.approx(power, rel=1e-4)
    assert bool((found.least <= found.most).all())


def test_entropies_do_not_cancel():
    """In float32 the entropy of this Gamma is off by a hundred nats."""
    prior = dist.Gamma(torch.full((2,), 1e8), 1e4).to_event(1)
    found = prior_of({"name": "z", "value": torch.zeros(2), "fn": prior})
    assert found.least[0, 0].item() == pytest.approx(1.0, rel=1e-5)


def test_normal_priors_of_any_scale_and_correlation(normal):
    scales = torch.tensor([0.5, 2.0])
    found = certify(local(normal, dist.Normal(7.0, scales).to_event(1)), X)
    wanted = [0.5 * (bound**2 * scales**2).log1p().sum().item() for bound in (L, M)]
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-5)
    assert found.low_per_coordinate == pytest.approx(0.5 * math.log1p(0.25 * L**2), rel=1e-5)
    covariance = torch.tensor([[2.0, 0.9], [0.9, 1.0]])
    joint = dist.MultivariateNormal(torch.ones(2), covariance)
    found = certify(shared(normal, joint), X)
    wanted = [
        0.5 * torch.logdet(torch.eye(2) + 6 * bound**2 * covariance).item() for bound in (L, M)
    ]
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-4)
    others = 1 - 0.81 / 2  # the variance of the second given the first
    assert found.low_per_coordinate == pytest.approx(0.5 * math.log1p(6 * others), rel=1e-4)
    assert "multivariate Normal" in str(found)


def test_priors_that_differ_from_row_to_row_count_by_the_least_and_the_most(normal):
    scales = torch.linspace(0.5, 2.0, 6).unsqueeze(-1).expand(6, 2)
    prior = dist.Normal(torch.zeros(6, 2), scales).to_event(1)
    found = certify(local(normal, prior), X)
    wanted = math.log1p(0.25 * L**2), math.log1p(4.0 * M**2)
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-5)
    bernoulli = InjectiveBernoulli(normal.injection)
    with pytest.raises(NoCertificateError, match="differs from row to row"):
        certify(local(bernoulli, prior), (X > 0).float())
