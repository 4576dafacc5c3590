"""Users' own programs: chains of latents, autoguides, masks, subsampling, particles."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from torch.distributions import constraints

from pyro_idvae.errors import ArgumentError, SiteMismatchError
from pyro_idvae.infer.objectives import (
    OBJECTIVES,
    Beta,
    FreeBits,
    Lagging,
    TargetRate,
    make_objective,
)
from tests.infer.common import data, small
from tests.infer.objectives.common import DOUBLE, Chain

SEVERAL = sorted(set(OBJECTIVES) - {"latent_reconstruction"})


def mean_loss(objective, model, guide, *args, repeats=100):
    losses = []
    for seed in range(repeats):
        pyro.set_rng_seed(seed)
        losses.append(objective.loss(model, guide, *args))
    found = torch.tensor(losses)
    return float(found.mean()), float(found.std()) / repeats**0.5


@pytest.mark.parametrize("backwards", [False, True])
def test_closed_forms_are_right_whatever_the_order_of_the_guide(backwards):
    """z2 given z1 in the model, z1 given z2 in the guide: no closed form for z2's KL then."""
    chain = Chain(rows=3)

    def guide(x):
        with pyro.plate("rows", len(x)):
            second = pyro.sample("second", dist.Normal(0.3 * x.sum(-1), 0.7))
            pyro.sample("first", dist.Normal(0.9 * second, 0.3))

    guide = guide if backwards else chain.guide
    found, error = mean_loss(FreeBits(0.0, groups="row"), chain.model, guide, chain.x)
    exact, other = mean_loss(Trace_ELBO(), chain.model, guide, chain.x)
    if backwards:
        # Row by row a draw's log q − log p may be negative, and is floored at 0: the plain sum is
        # what must agree.
        found, error = mean_loss(Lagging(inner_steps=0), chain.model, guide, chain.x)
    assert abs(found - exact) <= 4 * (error**2 + other**2) ** 0.5


@pytest.mark.parametrize("kind", [AutoNormal, AutoMultivariateNormal, AutoDelta])
def test_autoguides(kind):
    def model(x):
        scale = pyro.sample("scale", dist.LogNormal(torch.zeros((), dtype=DOUBLE), 0.5))
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2, dtype=DOUBLE), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, scale).to_event(1), obs=x)

    x = torch.ones(4, 2, dtype=DOUBLE)
    guide = kind(model)
    objective = TargetRate(0.0, penalty=1e-9)
    guide(x)
    found, error = mean_loss(Lagging(inner_steps=0), model, guide, x)
    exact, other = mean_loss(Trace_ELBO(), model, guide, x)
    assert abs(found - exact) <= 4 * (error**2 + other**2) ** 0.5 + 1e-9
    assert torch.tensor(objective.loss_and_grads(model, guide, x)).isfinite()


def test_coordinates_of_an_autoguide_have_floors_of_their_own():
    def model(x):
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    x = torch.zeros(5, 3)
    guide = AutoNormal(model)
    guide(x)
    losses = []
    for nats in (90.0, 91.0):
        pyro.set_rng_seed(0)
        losses.append(FreeBits(nats).loss(model, guide, x))
    assert losses[1] - losses[0] == pytest.approx(3 * 5, rel=1e-4)


def test_masked_rows_count_for_nothing():
    def model(x, present):
        with pyro.plate("rows", len(x)), poutine.mask(mask=present):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x, present):
        with pyro.plate("rows", len(x)), poutine.mask(mask=present):
            pyro.sample("z", dist.Normal(0.5 * x, 0.5).to_event(1))

    x, present = torch.randn(6, 2), torch.tensor([True, True, False, True, False, False])
    for objective in (FreeBits(0.4), FreeBits(0.4, groups="row"), TargetRate(3.0)):
        pyro.set_rng_seed(0)
        found = objective.loss(model, guide, x, present)
        bad = x.clone()
        bad[~present] = 1e6
        pyro.set_rng_seed(0)
        assert objective.loss(model, guide, bad, present) == pytest.approx(found)
        (run,) = objective.runs(model, guide, ((x, present), {}), training=False)
        assert float(run.size) == 3


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"batch_norm", "latent_reconstruction"}))
def test_models_that_subsample_their_plate(name):
    """A step on 10 of 50 rows stands for all: losses of 50 rows have the same size."""
    sizes = {"subsample": 10}

    def plate():
        return pyro.plate("rows", 50, subsample_size=sizes["subsample"])

    def model(x):
        with plate() as index:
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x[index])

    def guide(x):
        with plate() as index:
            pyro.sample("z", dist.Normal(0.5 * x[index], 0.7).to_event(1))

    x, objective = torch.randn(50, 2), make_objective(name)
    losses = torch.tensor([objective.loss(model, guide, x) for _ in range(40)])
    sizes["subsample"] = 50
    whole = torch.tensor([objective.loss(model, guide, x) for _ in range(40)])
    error = (losses.var() + whole.var()).div(40).sqrt()
    exempt = "minibatch" in objective.exempt
    assert abs(losses.mean() - whole.mean()) <= 4.5 * error + exempt * 0.3 * whole.mean()


@pytest.mark.parametrize("name", SEVERAL)
def test_particles_side_by_side_are_those_one_by_one(name):
    vae, x = small().double(), data(30).double()
    if name in ("annealed", "beta"):
        several = {"elbo": TraceMeanField_ELBO(num_particles=5)}
        beside = {"elbo": TraceMeanField_ELBO(num_particles=5, vectorize_particles=True)}
    else:
        several = {"num_particles": 5}
        beside = {"num_particles": 5, "vectorize_particles": True}
    means = [
        mean_loss(make_objective(name, **options), vae.model, vae.guide, x, repeats=12)
        for options in (several, beside)
    ]
    gap = abs(means[0][0] - means[1][0])
    assert gap <= 4.5 * (means[0][1] ** 2 + means[1][1] ** 2) ** 0.5, means


def test_sites_that_are_summed_out_or_not_reparametrised():
    x = torch.tensor([-1.0, 2.0])

    def model(x):
        p = pyro.param("p", torch.tensor(0.4), constraint=constraints.unit_interval)
        with pyro.plate("rows", len(x)):
            k = pyro.sample("k", dist.Bernoulli(p), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(4 * k - 2, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def summing(x):
        with pyro.plate("rows", len(x)):
            return pyro.sample("z", dist.Normal(x, 0.5))

    def drawing(x):
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(x, 0.5))
            pyro.sample("k", dist.Bernoulli(logits=z))

    losses = []
    for beta in (0.0, 0.5, 1.0):
        pyro.set_rng_seed(0)
        summed = Beta(beta, elbo=TraceEnum_ELBO(max_plate_nesting=1))
        losses.append(float(summed.loss_and_grads(model, summing, x)))
    assert losses[1] == pytest.approx(0.5 * (losses[0] + losses[2]))
    assert losses[0] != losses[2]
    assert torch.tensor(Beta(0.5).loss_and_grads(model, drawing, x)).isfinite()
    with pytest.raises(ArgumentError, match="'k'] are to be summed out, which FreeBits cannot"):
        FreeBits().loss(model, summing, x)
    with pytest.raises(ArgumentError, match="'k' from a Bernoulli, which cannot be repar"):
        FreeBits().loss(model, drawing, x)


def test_a_guide_of_other_sites_is_refused():
    vae = small()

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("other", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(SiteMismatchError, match="the guide lacks"):
        FreeBits().loss(vae.model, guide, data())


def test_shapes_are_checked_as_pyro_does():
    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0))

    with pytest.raises(ValueError, match="invalid log_prob shape"):
        FreeBits().loss(model, guide, torch.zeros(3))
