"""Freely optimised guides of any family, and what each keeps."""

import math
import re

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from pyro.nn import PyroModule
from torch.nn.functional import softplus

from pyro_idvae import IDVAE, Encoder, autopsy
from pyro_idvae.diagnostics.autopsy.freed import FreedDistribution
from pyro_idvae.diagnostics.autopsy.marginals import marginal_log_prob
from pyro_idvae.models import mlp

ROWS = 60
OPTIONS = {"num_samples": 100, "num_chains": 4, "num_steps": 300, "seed": 0}
FAMILIES = {
    "normal": dist.Normal(torch.randn(5), torch.rand(5) + 0.1),
    "to_event": dist.Normal(torch.randn(5, 2), torch.rand(5, 2) + 0.1).to_event(1),
    "scalar": dist.Normal(0.0, 1.0).expand([5, 2]).to_event(1),
    "full": dist.MultivariateNormal(torch.randn(5, 2), torch.eye(2) + 0.5),
    "low_rank": dist.LowRankMultivariateNormal(
        torch.randn(5, 2), torch.ones(5, 2, 1), torch.ones(5, 2)
    ),
    "gamma": dist.Gamma(torch.rand(5) + 1, torch.rand(5) + 1),
    "log_normal": dist.LogNormal(torch.randn(5), torch.ones(5)),
    "student_t": dist.StudentT(torch.full((5,), 4.0), torch.randn(5), torch.ones(5)),
    "masked": dist.Normal(torch.randn(5), torch.ones(5)).mask(torch.tensor(True)),
    "mixture": dist.MixtureSameFamily(
        dist.Categorical(torch.rand(5, 3)), dist.Normal(torch.randn(5, 3), torch.ones(5, 3))
    ),
    "mixture_of_vectors": dist.MixtureSameFamily(
        dist.Categorical(torch.rand(5, 3)),
        dist.Normal(torch.randn(5, 3, 2), torch.ones(5, 3, 2)).to_event(1),
    ),
    "diagonal_mixture": dist.MixtureOfDiagNormals(
        torch.randn(5, 3, 2), torch.ones(5, 3, 2), torch.randn(5, 3)
    ),
    "affine": dist.TransformedDistribution(
        dist.Normal(torch.randn(5, 2), torch.ones(5, 2)).to_event(1),
        [transforms.affine_autoregressive(2, hidden_dims=[4])],
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_freed_distribution_begins_where_the_guide_is(name):
    fn = FAMILIES[name]
    freed = FreedDistribution(fn)
    value = fn.sample()
    torch.testing.assert_close(freed().log_prob(value), fn.log_prob(value), rtol=1e-4, atol=1e-5)
    # Each row has its own arguments.
    freed().log_prob(value)[0].backward()
    gradients = [p.grad for p in freed.raw.values()]
    gradients += [p.grad for part in freed.parts.values() for p in part.raw.values()]
    seen = [g for g in gradients if g is not None]
    assert seen
    assert all(bool((g[1:] == 0).all()) for g in seen)
    assert any(bool((g[0] != 0).any()) for g in seen)


@pytest.mark.parametrize("name", FAMILIES)
def test_closed_marginals_integrate_to_one(name):
    fn = FAMILIES[name]
    grid = (
        torch.linspace(-40, 40, 160_001) if name != "gamma" else torch.linspace(1e-4, 60, 160_001)
    )
    if name == "log_normal":
        grid = torch.linspace(1e-4, 400, 400_001)
    shape = fn.batch_shape + fn.event_shape
    values = grid.reshape(-1, *(1,) * len(shape)).expand(-1, *shape)
    found = marginal_log_prob(fn, values)
    if name == "affine":
        assert found is None
        return
    total = found.exp().sum(0) * (grid[1] - grid[0])
    torch.testing.assert_close(total, torch.ones(shape), rtol=0.01, atol=0.01)


def squared(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z**2, 0.3), obs=x)


def two_normals(x, shift=0.0):
    """Two Normals with the moments of the halves of p(z | x), by quadrature."""
    grid = torch.linspace(0.0, 4.0, 401)
    p = (-0.5 * grid**2 - 0.5 * ((x.unsqueeze(-1) - grid**2) / 0.3) ** 2).softmax(-1)
    mean = (p * grid).sum(-1)
    sd = (p * (grid - mean.unsqueeze(-1)) ** 2).sum(-1).sqrt()
    loc = torch.stack([mean, -mean], -1) + shift
    with pyro.plate("data", len(x)):
        components = dist.Normal(loc, sd.unsqueeze(-1).expand(loc.shape))
        pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(torch.ones_like(loc)), components))


@pytest.fixture
def squares():
    torch.manual_seed(0)
    return torch.randn(ROWS) ** 2 + 0.3 * torch.randn(ROWS)


def test_a_mixture_that_is_nearly_exact_is_healthy(squares):
    found = autopsy(squared, two_normals, squares, **OPTIONS)
    assert found.verdicts == {"z": "healthy"}
    row = found.table.loc["z"]
    assert row["guide"] == pytest.approx(row["exact"], abs=0.1)
    assert row["free"] > 0.9 * row["exact"]
    assert "MixtureSameFamily with free arguments" in found.family
    assert "Chains disagree" in str(found)


def test_a_single_normal_is_too_small_for_two_modes(squares):
    class Guide(PyroModule):
        def __init__(self):
            super().__init__()
            self.network = mlp([1, 16, 2])

        def forward(self, x):
            loc, scale = self.network(x.unsqueeze(-1)).unbind(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc, softplus(scale) + 0.01))

    found = autopsy(squared, Guide(), squares, **OPTIONS)
    assert found.verdicts == {"z": "family"}


def summed(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True), 0.1).to_event(1), obs=x)


def test_a_flow_that_was_hardly_trained_is_optimisations_fault():
    class Flow(PyroModule):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder(1, 2, [32])
            self.flow = transforms.affine_autoregressive(2, hidden_dims=[8])

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.TransformedDistribution(self.encoder(x), [self.flow]))

    torch.manual_seed(0)
    x = 1.4 * torch.randn(ROWS, 1)
    found = autopsy(summed, Flow(), x, **OPTIONS)
    assert set(found.verdicts.values()) == {"optimisation"}
    assert "under transforms" in found.family
    assert (found.table["retrained"] > 0.5 * found.table["exact"]).all()


def chained_pair():
    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(a + b, 0.2), obs=x)

    def guide(x, weight=0.0):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(weight * x / 2, 0.7 if weight else 1.0))
            pyro.sample("b", dist.Normal(weight * (x - a), 0.2 if weight else 1.0 + 0 * a**2))

    return model, guide


def test_sites_that_depend_on_one_another_are_unknown():
    model, _ = chained_pair()
    torch.manual_seed(0)
    x = 1.4 * torch.randn(ROWS)

    def lost(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(torch.zeros_like(x), 1.0))
            pyro.sample("b", dist.Normal(0.1 * a, 1.0))

    found = autopsy(model, lost, x, **OPTIONS)
    assert set(found.verdicts.values()) == {"unknown"}
    assert math.isnan(found.table["free"]["a"])
    assert any("depend on one another" in note for note in found.notes)
    assert "what its family can hold is not known" in found.table["evidence"]["b"]


@pytest.mark.slow
def test_sites_that_depend_on_one_another_as_they_should_are_healthy():
    model, guide = chained_pair()
    torch.manual_seed(0)
    x = 1.4 * torch.randn(ROWS)
    good = autopsy(model, lambda x: guide(x, 1.0), x, **OPTIONS)
    assert set(good.verdicts.values()) == {"healthy"}


def known_by_heart():
    """Return a model, an encoder that knows its training rows by heart, these rows, and others."""
    torch.manual_seed(0)
    loadings = torch.randn(2, 40) / 3

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ loadings, 1.0).to_event(1), obs=x)

    precision = torch.eye(2) + loadings @ loadings.mT
    covariance = torch.linalg.inv(precision)
    known, held_out = (torch.randn(ROWS, 2) @ loadings + torch.randn(ROWS, 40) for _ in range(2))

    class ByHeart(PyroModule):
        """Right for rows it has seen, the prior for all others."""

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            seen = (torch.cdist(x, known) < 1e-3).any(-1).to(x).unsqueeze(-1)
            mean = seen * (x @ loadings.mT @ covariance) * self.scale
            sd = seen * covariance.diagonal().sqrt() + (1 - seen)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(mean, sd).to_event(1))

    return model, ByHeart(), known, held_out


def test_rows_that_were_held_out():
    model, guide, known, held_out = known_by_heart()
    found = autopsy(model, guide, held_out, reference=known, **{**OPTIONS, "num_steps": 100})
    assert set(found.verdicts.values()) == {"generalisation"}
    assert (found.table["guide_reference"] > 0.5 * found.table["exact_reference"]).all()
    assert "its encoder was fitted to those" in str(found)


@pytest.mark.slow
def test_rows_that_were_held_out_alone_and_those_that_were_not():
    model, guide, known, held_out = known_by_heart()
    without = autopsy(model, guide, held_out, **OPTIONS)
    assert "generalisation" not in without.verdicts.values()
    assert any("pass some of those as reference=" in note for note in without.notes)
    assert set(autopsy(model, guide, known, **OPTIONS).verdicts.values()) == {"healthy"}


def test_an_injective_likelihood_is_not_said_to_ignore_its_latents():
    torch.manual_seed(0)
    vae = IDVAE(5, 2, "normal", scale=1.0, rate_window=(0.001, 0.01), hidden_dims=[16])
    x = torch.randn(ROWS, 5)
    found = autopsy(vae.model, vae.guide, x, **{**OPTIONS, "num_steps": 50})
    assert set(found.verdicts.values()) == {"model"}
    text = str(found)
    assert "the likelihood depends on it, being injective, but by less than ε" in text
    advice = re.search(r"raise its least rate L some (\S+) times for 0.1 nat", text)
    assert 1.5 < float(advice[1]) < 15
    assert "does not depend" not in text


def test_a_small_mode_missed_in_some_rows_does_not_make_a_guide_wrong():
    """3 sin, 3 cos of 1.1 z: a second mode of a mass of a few in a thousand in some rows."""

    def circle(z):
        return torch.stack([3 * torch.sin(1.1 * z), 3 * torch.cos(1.1 * z)], -1)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(circle(z), 0.2).to_event(1), obs=x)

    def guide(x):
        angle = torch.atan2(x[:, 0], x[:, 1])
        sd = 1 / (1 + (3.3 / 0.2) ** 2) ** 0.5
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(angle / 1.1, sd))

    torch.manual_seed(0)
    x = circle(torch.randn(80)) + 0.2 * torch.randn(80, 2)
    found = autopsy(model, guide, x, seed=0, num_steps=50)
    assert found.verdicts == {"z": "healthy"}
    assert found.table["guide"]["z"] < found.table["exact"]["z"]
    assert "confidently wrong at" in str(found)
    assert np.isfinite(found.exact.chains.worst_rhat)
