from functools import partial

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from pyro_idvae import fit, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.models import GaussianMixture, ProbabilisticPCA

THETA, MU, SIGMA = torch.tensor(0.3), torch.tensor([-1.0, 2.0]), torch.tensor([0.5, 1.5])


def test_the_mixtures_likelihood_is_that_of_its_site():
    x = torch.randn(9)
    mixture = GaussianMixture()
    values = {"theta": THETA, "mu": MU, "sigma": SIGMA}
    trace = poutine.trace(poutine.condition(mixture, values)).get_trace(x)
    trace.compute_log_prob()
    found = mixture.log_likelihood(x, **values)
    assert torch.allclose(found, trace.nodes["x"]["log_prob"], atol=1e-5)


def test_assignments_obey_bayes_rule():
    x = torch.linspace(-3, 4, 8)
    mixture = GaussianMixture()
    first = THETA * dist.Normal(MU[0], SIGMA[0]).log_prob(x).exp()
    second = (1 - THETA) * dist.Normal(MU[1], SIGMA[1]).log_prob(x).exp()
    found = mixture.assignment(x, THETA, MU, SIGMA).probs
    assert torch.allclose(found[:, 0], first / (first + second), atol=1e-5)


def test_equal_components_say_nothing_about_the_weight():
    x, mixture = torch.randn(9), GaussianMixture()
    values = [
        mixture.log_likelihood(x, torch.tensor(t), torch.ones(2), torch.ones(2)) for t in (0.1, 0.8)
    ]
    assert torch.allclose(*values)


def test_pca_formulas_agree_with_each_other_and_with_the_joint():
    pca = ProbabilisticPCA(5, 2, scale=0.7)
    w = torch.randn(5, 2, dtype=torch.double)
    x, z = torch.randn(4, 5, dtype=torch.double), torch.randn(4, 2, dtype=torch.double)
    joint = dist.Normal(z @ w.T, 0.7).log_prob(x).sum(-1) + dist.Normal(
        torch.zeros_like(z), 1.0
    ).log_prob(z).sum(-1)
    found = pca.marginal(w).log_prob(x) + pca.posterior(x, w).log_prob(z)
    assert torch.allclose(found, joint)
    posterior = pca.posterior(x, w)
    covariance = posterior.covariance_matrix
    wanted = 0.5 * (
        covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        + posterior.mean.square().sum(-1)
        - 2
        - covariance.logdet()
    )
    assert torch.allclose(pca.kl_to_prior(x, w), wanted)


def test_a_spare_dimension_keeps_its_prior():
    pca = ProbabilisticPCA(3, 2)
    w = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    posterior = pca.posterior(torch.randn(5, 3), w)
    assert torch.allclose(posterior.mean[:, 1], torch.zeros(5), atol=1e-6)
    assert torch.allclose(posterior.variance[:, 1], torch.ones(5))
    assert (posterior.variance[:, 0] < 0.2).all()


def test_nuts_finds_the_posterior_given_the_loadings():
    torch.manual_seed(0)
    pca = ProbabilisticPCA(4, 2, scale=0.8)
    w, x = torch.randn(4, 2), torch.randn(3, 4)
    model = poutine.condition(pca, data={"w": w})
    data = groups_of(
        mcmc(model, x, num_samples=300, warmup_steps=100, num_chains=1, seed=0, progress=False)
    )
    draws = torch.tensor(data["posterior"]["z"].values[0])
    exact = pca.posterior(x, w)
    # At least a hundred effective draws, and five standard errors.
    error = exact.variance.sqrt() / 10
    assert ((draws.mean(0) - exact.mean).abs() < 5 * error).all()
    assert torch.allclose(draws.var(0), exact.variance, rtol=0.5)


@pytest.mark.parametrize("auto", [AutoNormal, AutoMultivariateNormal])
def test_variational_guides_fit_both(auto):
    torch.manual_seed(0)
    x = torch.cat([torch.randn(60) - 3, torch.randn(60) + 3])
    adam = partial(torch.optim.Adam, lr=0.05)
    mixture, pca = GaussianMixture(), ProbabilisticPCA(5, 1)
    for model, data in ((mixture, x), (pca, torch.randn(20, 5))):
        guide = auto(model)
        result = fit(model, guide, data, optimizer=adam, num_epochs=150, seed=0, progress=False)
        assert sum(result.losses[-20:]) < sum(result.losses[:20])
        if model is mixture:
            assert 0.3 < guide.median(data)["theta"].item() < 0.7


def test_bad_arguments_are_named():
    with pytest.raises(ShapeError, match="x has shape"):
        GaussianMixture()(torch.zeros(3, 2))
    with pytest.raises(ArgumentError, match="concentration=0"):
        GaussianMixture(concentration=0.0)
    with pytest.raises(ShapeError, match="w has shape"):
        ProbabilisticPCA(3, 2).marginal(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="x has shape"):
        ProbabilisticPCA(3, 2)(torch.zeros(4, 2))
