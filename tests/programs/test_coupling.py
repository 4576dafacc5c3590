"""Rows that are tied by a switch on all of them together."""

import time

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from pyro_idvae import IDVAE
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.rowwise.vectorized import RowSampler
from pyro_idvae.programs import BoundModel, as_arguments, check_factorises

SWITCHES = {
    "sum above 0": lambda z: z.sum() > 0,
    "sum above 1": lambda z: z.sum() > 1,
    "sum above 3": lambda z: z.sum() > 3,
    "sum far below 0": lambda z: z.sum() < -50,
    "mean above 1": lambda z: z.mean() > 1,
    "difference of sums": lambda z: z[:, 0].sum() > z[:, 1].sum() + 20,
    "largest above 0": lambda z: z.max() > 0,
    "largest above 3": lambda z: z.max() > 3,
    "smallest below -1": lambda z: z.min() < -1,
    "one far out": lambda z: z.abs().max() > 20,
    "norm above 5": lambda z: z.norm() > 5,
    "square above 4": lambda z: z.square().mean() > 4,
    "more than half positive": lambda z: (z[:, 0] > 0).sum() > len(z) / 2,
    "all positive": lambda z: bool((z > 0).all()),
    "first above 0": lambda z: z[0, 0] > 0,
    "last above 2": lambda z: z[-1, 0] > 2,
    "median above 1": lambda z: z[:, 0].median() > 1,
    "of one sign": lambda z: z[0, 0] * z[1, 0] > 0,
    "spread above 1.5": lambda z: z[:, 0].std() > 1.5,
}
X = {rows: torch.randn(rows, 2, generator=torch.Generator().manual_seed(rows)) for rows in (4, 90)}


def switched(switch):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            shift = 1.0 if switch(z) else 0.0
            pyro.sample("x", dist.Normal(z + shift, 1.0).to_event(1), obs=x)

    return model


def refusals(name, rows, seeds):
    """Return how often a model with a switch is refused."""
    refused = 0
    for seed in range(seeds):
        torch.manual_seed(seed)
        bound = BoundModel(switched(SWITCHES[name]), None, as_arguments(X[rows]))
        try:
            check_factorises(bound)
        except ArgumentError as error:
            refused += "depends on other rows, at the site 'x'" in str(error)
    return refused


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("rows", X)
def test_a_switch_on_all_rows_together_is_found(name, rows):
    assert refusals(name, rows, 2) == 2


@pytest.mark.parametrize("name", [n for n in SWITCHES if n.startswith(("sum", "norm", "more"))])
def test_it_is_found_whatever_the_seed(name):
    assert refusals(name, 90, 20) == 20


@pytest.mark.slow
@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("rows", X)
def test_each_is_found_whatever_the_seed(name, rows):
    assert refusals(name, rows, 20) == 20


def test_the_same_on_another_scale_and_support():
    def positive(x):
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.LogNormal(5.0, 0.1))
            pyro.sample("x", dist.Normal(rate if rate.sum() > 170 * len(x) else -rate, 1.0), obs=x)

    for seed in range(5):
        torch.manual_seed(seed)
        bound = BoundModel(positive, None, as_arguments(X[90][:, 0]))
        with pytest.raises(ArgumentError, match="depends on other rows"):
            check_factorises(bound)


def own_switch(x):
    """Each row switches by itself."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.where(z > 1, z + 1, z), 1.0).to_event(1), obs=x)


def heavy(x):
    with pyro.plate("data", len(x)):
        scale = pyro.sample("scale", dist.HalfCauchy(1.0))
        share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
        pyro.sample("x", dist.StudentT(2.0, share[..., 0], scale), obs=x[:, 0])


def far_away(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(1e3 * x[:, 0], 1.0))
        pyro.sample("x", dist.Poisson((z / 1e3).exp()), obs=x[:, 1].abs().round())


def chosen(x):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Categorical(torch.ones(2) / 2))
        z = pyro.sample("z", dist.Normal(2.0 * y, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x[:, 0])


def breaks_far_out(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        if float(z.abs().max()) > 8:
            raise ValueError("no such latents")
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


@pytest.mark.parametrize("model", [own_switch, heavy, far_away, chosen, breaks_far_out])
def test_rows_that_are_independent_pass(model):
    for seed in range(5):
        torch.manual_seed(seed)
        bound = BoundModel(model, None, as_arguments(X[90]))
        check_factorises(bound)
        assert bound.factorises


def test_a_switch_where_only_the_posterior_lives_is_found_after_warm_up():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            mean = z.mean()
            band = 0.0 if 0.9 < mean < 1.1 and z.std() < 0.2 else 1.0
            pyro.sample("x", dist.Normal(z + 0.05 * band, 0.05), obs=x)

    torch.manual_seed(0)
    bound = BoundModel(model, None, as_arguments(torch.full((20,), 1.0)))
    bound.factorises = True  # as if what is known of prior draws had said so
    sampler = RowSampler(bound, chains=1, warmup_steps=30)
    for _ in range(29):
        sampler.advance()
    with pytest.raises(ArgumentError, match="depends on other rows"):
        sampler.advance()


def test_the_check_is_cheap():
    vae = IDVAE(64, 8, "bernoulli", hidden_dims=[64], encoder_hidden_dims=[16])
    bound = BoundModel(vae.model, None, as_arguments((torch.rand(500, 64) < 0.5).float()))
    begin = time.process_time()
    check_factorises(bound)
    assert time.process_time() - begin < 2.0
    assert constraints.real.check(bound.values()["latent"]).all()
