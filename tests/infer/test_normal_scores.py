import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pyro_idvae.infer.normal_scores import FARTHEST, normal_scores
from pyro_idvae.programs import BoundModel

X = torch.tensor([0.5, -1.0, 3.0])

KNOWN = {
    "beta": dist.Beta(5.0, 2.0),
    "cauchy": dist.Cauchy(1.0, 2.0),
    "chi2": dist.Chi2(3.0),
    "decreasing": dist.TransformedDistribution(
        dist.Normal(0.0, 1.0), [dist.transforms.AffineTransform(1.0, -2.0)]
    ),
    "dirichlet": dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])),
    "exponential": dist.Exponential(2.0),
    "gamma": dist.Gamma(2.0, 3.0),
    "gumbel": dist.Gumbel(0.0, 1.0),
    "half_cauchy": dist.HalfCauchy(2.0),
    "half_normal": dist.HalfNormal(2.0),
    "inverse_gamma": dist.InverseGamma(2.0, 2.0),
    "laplace": dist.Laplace(1.0, 2.0),
    "log_normal": dist.LogNormal(0.0, 1.0),
    "low_rank": dist.LowRankMultivariateNormal(torch.ones(2), torch.ones(2, 1), torch.ones(2)),
    "masked": dist.Normal(0.0, 2.0).mask(True),
    "mixture": dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(torch.tensor([-1.0, 1.0]), 0.5)
    ),
    "multivariate": dist.MultivariateNormal(torch.ones(2), 4 * torch.eye(2) + 1),
    "normal": dist.Normal(torch.zeros(3), 2.0).to_event(1),
    "student_t": dist.StudentT(3.0, 1.0, 2.0),
    "uniform": dist.Uniform(-1.0, 3.0),
}
UNKNOWN = {
    "bernoulli": dist.Bernoulli(0.5),
    "cholesky": dist.LKJCholesky(3),
    "several": dist.MixtureOfDiagNormals(torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)),
    "von_mises": dist.VonMises(0.0, 1.0),
}


def everything(x):
    for name, law in {**KNOWN, **UNKNOWN}.items():
        pyro.sample(name, law)
    top = pyro.sample("top", dist.Normal(0.0, 1.0))
    pyro.sample("below", dist.Normal(top, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("row", dist.Gamma(2.0, x.abs() + 1))
        pyro.sample("vector", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


@pytest.fixture(scope="module")
def drawn():
    bound = BoundModel(everything, None, ((X,), {}))
    torch.manual_seed(0)
    with pyro.poutine.trace() as trace, pyro.plate("draws", 1500, dim=-2):
        everything(X)
    draws = {name: trace.trace.nodes[name]["value"] for name in bound.latents}
    shared = draws.keys() - {"row", "vector"}
    values = {name: (v.squeeze(1) if name in shared else v)[None] for name, v in draws.items()}
    state = torch.get_rng_state()
    scores = normal_scores(bound, values)
    assert torch.equal(torch.get_rng_state(), state)
    return values, scores


def test_what_has_no_marginal_cdf_is_left_out(drawn):
    assert set(drawn[1]) == {*KNOWN, "top", "row", "vector"}


@pytest.mark.parametrize("name", [*KNOWN, "row", "vector"])
def test_prior_draws_score_as_standard_normal(drawn, name):
    values, scores = drawn
    assert scores[name].shape == values[name].shape
    assert scores[name].dtype == values[name].dtype
    columns = scores[name].reshape(1500, -1).numpy().T
    assert min(stats.kstest(column, "norm").pvalue for column in columns) > 1e-3


def test_tails_do_not_saturate_and_edges_stay_finite():
    def model(x):
        pyro.sample("g", dist.Gamma(2.0, 1.0))
        pyro.sample("l", dist.Laplace(0.0, 1.0))
        pyro.sample("n", dist.Normal(1.0, 2.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    draws = {
        "g": torch.tensor([[0.0, 1e-8, 60.0]]),
        "l": torch.tensor([[-50.0, 0.0, 50.0]]),
        "n": torch.tensor([[1.0, 101.0, -99.0]]),
    }
    scores = normal_scores(BoundModel(model, None, ((X,), {})), draws)
    assert scores["g"][0, 0] == -FARTHEST
    wanted = [stats.norm.ppf(stats.gamma(2).cdf(1e-8)), stats.norm.isf(stats.gamma(2).sf(60))]
    np.testing.assert_allclose(scores["g"][0, 1:], wanted, rtol=1e-4)
    far = stats.norm.isf(stats.laplace.sf(50.0))
    np.testing.assert_allclose(scores["l"][0], [-far, 0.0, far], rtol=1e-5)
    np.testing.assert_allclose(scores["n"][0], [0.0, 50.0, -50.0])
