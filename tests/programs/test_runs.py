"""How often a model is run: it is the user's, and may be slow."""

import pyro
import pytest
import torch
from pyro.nn import PyroModule

from pyro_idvae import IDVAE, autopsy, certify, from_guide, importance_log_likelihood, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.infer.rowwise import chains

ROWS = 80
BEFORE_THE_FIRST_STEP = 98
TIES = 80
"""Runs on a few rows, before the first step and after warm-up, that look for what ties them."""
IN_AN_AUTOPSY = 460


class Counting(PyroModule):
    """A model that counts its runs."""

    def __init__(self, model):
        super().__init__()
        self.model, self.runs = model, 0

    def forward(self, x):
        self.runs += 1
        return self.model(x)


@pytest.fixture
def pair():
    vae = IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
    model = Counting(vae.model)  # before any part of it has run by itself
    x = vae.likelihood.condition(torch.randn(ROWS, 2)).sample()
    return model, vae.guide, x


def test_before_the_first_leapfrog_step(pair, monkeypatch):
    model, _, x = pair
    seen, iterate = [], chains.iterate

    def noting(*args, **kwargs):
        seen.append(model.runs)
        return iterate(*args, **kwargs)

    monkeypatch.setattr(chains, "iterate", noting)
    options = {"num_samples": 5, "warmup_steps": 5, "num_chains": 4, "progress": False}
    mcmc(model, x, kernel="vectorized", **options)
    assert seen[0] <= BEFORE_THE_FIRST_STEP
    # Recorded operations run none of the model's code.
    assert max(seen) - seen[0] <= 2 + TIES


def test_an_autopsy_runs_the_model_a_few_times(pair):
    model, guide, x = pair
    autopsy(model, guide, x, num_samples=50, num_chains=4, num_steps=20, seed=0)
    assert model.runs <= IN_AN_AUTOPSY


def test_draws_are_evaluated_side_by_side(pair):
    model, guide, x = pair
    from_guide(model, guide, x, num_samples=500)
    assert model.runs <= 30
    model.runs = 0
    importance_log_likelihood(model, guide, x, num_samples=500)
    assert model.runs <= 15
    model.runs = 0
    certify(model, x)
    assert model.runs <= 45  # moves of z, near and far


def test_rows_that_see_each_other_are_evaluated_one_draw_at_a_time(pair):
    _, guide, x = pair
    weight = torch.randn(5)

    def coupled(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("latent", pyro.distributions.Normal(0.0, 1.0).expand([2]).to_event(1))
            mean = (z[:, :1] + z.mean()) * weight
            pyro.sample("x", pyro.distributions.Normal(mean, 1.0).to_event(1), obs=x)

    groups = groups_of(from_guide(coupled, guide, x, num_samples=12))
    z = torch.as_tensor(groups["posterior"]["latent"].values[0])
    mean = (z[..., :1] + z.mean((1, 2), keepdim=True)) * weight
    wanted = pyro.distributions.Normal(mean, 1.0).log_prob(x).sum(-1)
    found = torch.as_tensor(groups["log_likelihood"]["x"].values[0])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
