"""What is observed has the shape of its distribution, and each number counts once."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_idvae import from_mcmc, mcmc
from pyro_idvae.errors import DataError, ShapeError
from pyro_idvae.programs import as_arguments
from pyro_idvae.programs.door import open_model
from pyro_idvae.programs.observations import check_observations
from tests.doors.common import SHORT, data, plain, small

X = data(5)


def trace_of(model, *arguments):
    return poutine.trace(model).get_trace(*arguments)


def test_one_observation_does_not_count_as_several():
    with pytest.raises(
        ShapeError, match=r"batch shape \(5,\) .* event shape \(5,\).* x\.unsqueeze"
    ):
        check_observations(trace_of(plain, X[0]))
    check_observations(trace_of(plain, X[:1]))
    vae = small()
    found = from_mcmc({"latent": torch.zeros(1, 4, 1, 2)}, vae.model, X[:1])
    assert found["log_likelihood"]["obs"].shape == (1, 4, 1)


def test_what_would_count_more_than_once_is_refused():
    def column(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def unplated(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)

    # Five rows of five would meet each other's latents; as (5, 1) they would make a matrix.
    for x in (X, X[:, :1]):
        with pytest.raises(
            ShapeError, match="more than once, or rows would meet the wrong latents"
        ):
            check_observations(trace_of(column, x))
    with pytest.raises(ShapeError, match=r"by \.to_event"):
        check_observations(trace_of(unplated, X))
    check_observations(trace_of(column, X[:, 0]))


def legal_scalars(x):
    pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.3))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("each", dist.Normal(z, 1.0), obs=torch.tensor(0.3))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


def legal_plates(x):
    """Plates of one element, a plate inside, and a sequential one."""
    with pyro.plate("group", 1, dim=-3), pyro.plate("data", len(x), dim=-2):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([1]))
        with pyro.plate("columns", x.shape[1], dim=-1):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    for i in pyro.plate("steps", 3):
        pyro.sample(f"step_{i}", dist.Normal(0.0, 1.0), obs=x[0, i])


def legal_subsample(x):
    with pyro.plate("data", len(x), subsample_size=2) as index:
        z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[index])


def legal_masks(x):
    """Where a mask hides a value, it may be anything."""
    present = torch.rand(x.shape) < 0.5
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
        hidden = torch.where(present[:, 0], x[:, 0].abs(), torch.tensor(-1.0))
        with poutine.mask(mask=present[:, 0]):
            pyro.sample("outside", dist.Gamma(2.0, rate), obs=hidden)
        pyro.sample("inside", dist.Gamma(2.0, rate).mask(present[:, 0]), obs=hidden)
        pyro.sample("part", dist.Normal(rate, 1.0), obs=x[:, 1], obs_mask=present[:, 0])
        rows = dist.Normal(rate.unsqueeze(-1).expand(x.shape), 1.0).mask(present)
        pyro.sample("rows", rows.to_event(1), obs=x)


def legal_factors(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("factor", -z.square())
        pyro.deterministic("twice", 2 * z)
        pyro.sample("point", dist.Delta(x, event_dim=1), obs=x)


def legal_discrete(x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Categorical(torch.ones(3) / 3), infer={"enumerate": "parallel"})
        total = pyro.sample("total", dist.Poisson(3.0))
        pyro.sample("x", dist.Normal(torch.arange(3.0)[y], 1.0), obs=x[:, 0])
        # Its support moves with a latent: what it leaves out is for the density to say.
        pyro.sample("n", dist.Binomial(total, torch.tensor(0.5)), obs=torch.full((len(x),), 9.0))
        pyro.sample("c", dist.Categorical(torch.ones(4) / 4), obs=torch.arange(len(x)) % 4)
        pyro.sample("one", dist.OneHotCategorical(torch.ones(5) / 5), obs=torch.eye(5))
        pyro.sample("counts", dist.Multinomial(5, torch.ones(5) / 5), obs=5 * torch.eye(5))


def legal_series(x):
    """A series of any length, for a distribution that does not say one."""
    one = torch.eye(1)
    noise = dist.MultivariateNormal(torch.zeros(1), one)
    series = dist.GaussianHMM(noise, one, noise, one, noise)
    assert series.event_shape == (1, 1)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])
        pyro.sample("series", series.expand([len(x)]), obs=x.unsqueeze(-1))


@pytest.mark.parametrize(
    "model",
    [
        legal_scalars,
        legal_plates,
        legal_subsample,
        legal_masks,
        legal_factors,
        legal_discrete,
        legal_series,
    ],
)
def test_no_false_alarm(model):
    check_observations(trace_of(model, X))


@pytest.mark.parametrize("value", [0.3, [0.3], None])
def test_observations_that_are_no_tensors(value):
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=value)

    if value is None:
        check_observations(trace_of(model, X))
        return
    with pytest.raises(DataError, match=r"the site 'x' observes .*: pass a Tensor"):
        check_observations(trace_of(model, X))


def outside(distribution, values):
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", distribution, obs=values)

    return model


@pytest.mark.parametrize(
    ("distribution", "bad"),
    [
        (dist.Poisson(2.0), 1.5),
        (dist.Poisson(2.0), -1.0),
        (dist.Bernoulli(0.5), 2.0),
        (dist.Gamma(1.0, 1.0), -1.0),
        (dist.Beta(1.0, 1.0), 1.5),
        (dist.Binomial(3, torch.tensor(0.5)), 4.0),
        (dist.Categorical(torch.ones(3) / 3), 3),
        (dist.Normal(0.0, 1.0), math.nan),
    ],
)
def test_values_outside_the_support_are_named(distribution, bad):
    values = torch.tensor([bad, *[1.0] * 4]) if bad != 3 else torch.tensor([0, 1, 2, 3, 0])
    where = r"\(3,\)" if bad == 3 else r"\(0,\)"
    model = outside(distribution, values)
    with pytest.raises(DataError, match=rf"1 values outside the support .* first at {where}"):
        open_model(model, as_arguments(X))


def test_a_sampler_is_not_begun_on_a_wrong_shape():
    with pytest.raises(ShapeError):
        mcmc(plain, X[0], **SHORT)
