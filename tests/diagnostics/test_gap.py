"""What inference loses of log p(x), split as Cremer et al. do: against the closed form."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_idvae as idvae

LATENT_DIM, DATA_DIM, NOISE, ROWS = 3, 5, 0.6, 80
OPTIMISER = 0.01
"""Nats that the search of the best q may leave."""

torch.manual_seed(0)
LOADINGS = torch.randn(DATA_DIM, LATENT_DIM, dtype=torch.float64)
PRECISION = torch.eye(LATENT_DIM) + LOADINGS.mT @ LOADINGS / NOISE**2
COVARIANCE = torch.linalg.inv(PRECISION)
PULL = COVARIANCE @ LOADINGS.mT / NOISE**2
WIDTH = PRECISION.diagonal() ** -0.5
X = torch.randn(ROWS, LATENT_DIM, dtype=torch.float64) @ LOADINGS.mT
X = X + NOISE * torch.randn(ROWS, DATA_DIM, dtype=torch.float64)


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(LATENT_DIM), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ LOADINGS.mT, NOISE).to_event(1), obs=x)


def mean_field(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x @ PULL.mT, WIDTH).to_event(1))


def full(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.MultivariateNormal(x @ PULL.mT, COVARIANCE))


def biased(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x @ PULL.mT + 0.3, 1.5 * WIDTH).to_event(1))


def amortised(x):
    """An encoder that sees the first three pixels."""
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x[:, :3] @ PULL.mT[:3], WIDTH).to_event(1))


def kl(mean, covariance):
    """Return the mean KL of a guide to the posterior."""
    gap = mean - X @ PULL.mT
    distance = torch.einsum("ni,ij,nj->n", gap, PRECISION, gap)
    volume = COVARIANCE.logdet() - covariance.logdet()
    return float(0.5 * ((PRECISION @ covariance).trace() - LATENT_DIM + distance + volume).mean())


BEST = kl(X @ PULL.mT, torch.diag(WIDTH**2))
CASES = {
    mean_field: (BEST, BEST),
    full: (0.0, 0.0),
    biased: (kl(X @ PULL.mT + 0.3, torch.diag(2.25 * WIDTH**2)), BEST),
    amortised: (kl(X[:, :3] @ PULL.mT[:3], torch.diag(WIDTH**2)), BEST),
}


@pytest.mark.parametrize("guide", CASES, ids=lambda guide: guide.__name__)
def test_family_and_amortisation_lose_what_the_closed_form_says(guide):
    total, family = CASES[guide]
    found = idvae.autopsy(model, guide, X, num_samples=200, num_steps=250, seed=0)
    gap = found.gap
    for part, wanted, left in (
        (gap.total, total, 0.0),
        (gap.family, family, OPTIMISER),
        (gap.amortisation, total - family, OPTIMISER),
    ):
        assert abs(part.mean - wanted) < 3 * part.mcse + left
    assert f"the guide loses {gap.total.mean:.2f}" in str(found)
    assert "its family" in str(gap)


def test_rows_that_share_a_latent_have_no_gap_of_their_own():
    def shared(x):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    def guide(x):
        pyro.sample("scale", dist.LogNormal(0.0, 0.3))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.7))

    options = {"kernel": "nuts", "warmup_steps": 30}
    found = idvae.autopsy(
        shared, guide, torch.randn(4), num_samples=30, num_chains=2, mcmc_options=options, seed=0
    )
    assert found.gap is None
    assert "log p(x)" not in str(found)
