"""Masses of modes, against quadrature."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_idvae import IDVAE, collapse_report, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.infer.chain_mass import chain_mass
from pyro_idvae.programs import BoundModel

ROWS = 80
GRID = torch.linspace(-6, 6, 24_001, dtype=torch.float64)


def circle(z):
    return torch.stack([3 * torch.sin(1.1 * z), 3 * torch.cos(1.1 * z)], -1)


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(circle(z), 0.2).to_event(1), obs=x)


@pytest.fixture(scope="module")
def data():
    torch.manual_seed(0)
    return circle(torch.randn(ROWS)) + 0.2 * torch.randn(ROWS, 2)


@pytest.fixture(scope="module")
def exact(data):
    """p(z | x) on a grid, of shape (rows, grid)."""
    x = data.double()
    log_p = dist.Normal(0.0, 1.0).log_prob(GRID)
    gap = (x.unsqueeze(1) - circle(GRID)).square().sum(-1)
    return (log_p - gap / (2 * 0.2**2)).softmax(-1)


@pytest.fixture(scope="module")
def draws(data):
    return mcmc(model, data, kernel="vectorized", seed=1, progress=False)


def test_chains_get_the_masses_of_their_modes(draws, exact):
    groups = groups_of(draws)
    mass = groups["sample_stats"]["chain_mass"].values
    uneven = np.ptp(mass, axis=0) > 0
    assert uneven.sum() >= 5
    np.testing.assert_allclose(mass.sum(0), 1, rtol=1e-5)
    middle = groups["posterior"]["z"].values.mean(1)
    for row in np.flatnonzero(uneven):
        for c in range(4):
            # The mass within half a turn of the chain's mean, and the chains that share it.
            near = abs(GRID.numpy() - middle[c, row]) < 1.5
            same = abs(middle[:, row] - middle[c, row]) < 0.5
            wanted = float(exact[row].numpy()[near].sum())
            assert abs(mass[same, row].sum() - wanted) < 0.03 + 0.1 * wanted


def test_the_report_says_what_quadrature_says(draws, exact):
    log_prior = dist.Normal(0.0, 1.0).log_prob(GRID) + torch.log(GRID[1] - GRID[0])
    kl = (exact * (exact.clamp_min(1e-300).log() - log_prior)).sum(-1).mean()
    report = collapse_report(draws)
    row = report.table.loc["z"]
    assert row["verdict"] == "informative"
    assert row["kl"] == pytest.approx(float(kl), abs=0.06)
    text = str(report)
    assert "Chains disagree in" in text
    assert "count by the masses of their modes" in text
    assert report.chains.worst_rhat > 2
    # Counting every chain alike, a mode of mass 1e-5 has a quarter of the draws.
    values = groups_of(draws)["posterior"]["z"].values
    alike = float(np.var(values, axis=(0, 1)).mean())
    truth = float(((exact * GRID**2).sum(-1) - (exact * GRID).sum(-1) ** 2).mean())
    assert alike > 3 * truth
    assert 1 - row["contraction"] == pytest.approx(truth, abs=0.1)


def test_rows_that_cannot_be_weighed_are_left_out(data):
    bound = BoundModel(model, None, ((data,), {}))
    torch.manual_seed(0)
    agreeing = torch.randn(4, 100, ROWS) * 0.1
    found = chain_mass(bound, {"z": agreeing})
    assert (found.mass == 0.25).all()
    assert found.size.isinf().all()
    # Draws that have nothing to do with the posterior: its weights tell nothing.
    astray = agreeing.clone()
    astray[0, :, :3] = 40 + 1e-4 * torch.randn(100, 3)
    astray[1:, :, :3] = 20 + 1e-4 * torch.randn(3, 100, 3)
    found = chain_mass(bound, {"z": astray})
    assert (found.mass[:, :3].isnan().all(0) | (found.mass[0, :3] < 1e-6)).all()
    assert (found.mass[:, 3:] == 0.25).all()
    assert chain_mass(bound, {"z": agreeing[:1]}) is None


def test_several_latents_and_constrained_ones():
    def pair(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            s = pyro.sample("s", dist.LogNormal(0.0, 0.3))
            pyro.sample("x", dist.Normal(s * z[:, 0] ** 2 + 0.3 * z[:, 1], 0.2), obs=x)

    x = torch.full((20,), 2.0)
    draws = mcmc(pair, x, kernel="vectorized", seed=0, progress=False)
    stats = groups_of(draws)["sample_stats"]
    mass, size = stats["chain_mass"].values, stats["chain_mass_size"].values
    side = groups_of(draws)["posterior"]["z"].values[..., 0].mean(1) > 0
    known = np.isfinite(mass).all(0) & (np.ptp(mass, axis=0) > 0) & (side.sum(0) % 4 > 0)
    assert known.sum() >= 4
    # The modes mirror one another: half of the mass on each side, however many chains it has.
    right = (mass * side).sum(0)[known]
    within = abs(right - 0.5) < 4.5 * 0.5 / np.sqrt(size[known])
    # A chain may not have been through the whole of its curved mode.
    assert within.mean() >= 0.9
    assert np.median(abs(right - 0.5)) < 0.06


def test_injective_models_agree():
    torch.manual_seed(0)
    vae = IDVAE(5, 2, "normal", scale=0.5, hidden_dims=[16], encoder_hidden_dims=[16])
    x = vae.likelihood.condition(torch.randn(30, 2)).sample()
    draws = mcmc(vae.model, x, kernel="vectorized", seed=0, num_samples=200, progress=False)
    assert (groups_of(draws)["sample_stats"]["chain_mass"].values == 0.25).all()


@pytest.mark.slow
def test_where_kernels_tell_nothing_annealed_particles_do():
    """In sixteen dimensions no density made of draws is near enough to weigh with."""
    size, rows = 16, 10
    loc = torch.zeros(size)
    loc[0] = 0.4

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))
            rest = torch.tanh(z[..., 1:]) + 0.3 * z[..., 1:].roll(1, -1)
            mean = torch.cat([z[..., :1].square(), rest], -1)
            pyro.sample("x", dist.Normal(mean, 0.3).to_event(1), obs=x)

    torch.manual_seed(0)
    x = torch.cat([torch.full((rows, 1), 2.0), 0.5 * torch.randn(rows, size - 1)], 1)
    draws = mcmc(model, x, kernel="vectorized", num_samples=200, seed=0, progress=False)
    stats = groups_of(draws)["sample_stats"]
    mass, worth = stats["chain_mass"].values, stats["chain_mass_size"].values
    right = groups_of(draws)["posterior"]["z"].values[..., 0].mean(1) > 0
    split = (right.sum(0) % 4 > 0) & np.isfinite(mass).all(0)
    assert split.sum() >= 3
    log_p = dist.Normal(0.4, 1.0).log_prob(GRID)
    log_p = log_p + dist.Normal(GRID.square(), 0.3).log_prob(torch.tensor(2.0))
    wanted = float(log_p.softmax(0)[GRID > 0].sum())
    assert wanted > 0.7
    found = (mass * right).sum(0)[split]
    error = np.sqrt(wanted * (1 - wanted) / worth[split])
    assert (abs(found - wanted) < 4 * error).all()
    assert (worth[split] < 256).all()
