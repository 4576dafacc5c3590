"""What a ceiling guarantees, against the exact information by quadrature."""

import math

import numpy as np
import pytest
import torch

from pyro_idvae import IDVAE, certify
from pyro_idvae.diagnostics.certificate.ceiling import ceiling_bound, nats_within
from pyro_idvae.distributions import (
    InjectiveBernoulli,
    InjectiveBinomial,
    InjectiveCategorical,
    InjectivePoisson,
)
from pyro_idvae.transforms import brenier_injection

EDGE, POINTS = 5.0, 51


def grid(latent_dim):
    line = torch.linspace(-EDGE, EDGE, POINTS, dtype=torch.double)
    weight = (-0.5 * line.square()).softmax(0)
    if latent_dim == 1:
        return line.unsqueeze(-1), weight
    return torch.cartesian_prod(line, line), (weight.unsqueeze(1) * weight).flatten()


def outcomes(likelihood):
    """All x: of two or three coordinates, or categories."""
    width = likelihood.parameter_dim
    if not likelihood.family.factorised:
        return torch.arange(width + 1)
    most = {"bernoulli": 1, "binomial": 3, "poisson": 15}[likelihood.family.name]
    values = torch.arange(most + 1, dtype=torch.double)
    return torch.cartesian_prod(*[values] * width).reshape(-1, width)


@torch.no_grad()
def exact_information(likelihood):
    z, weight = grid(likelihood.latent_dim)
    x = outcomes(likelihood)
    log_p = torch.stack([likelihood.condition(z).log_prob(one) for one in x], 1)
    log_mean = (log_p + weight.log().unsqueeze(-1)).logsumexp(0)
    return float((weight.unsqueeze(-1) * log_p.exp() * (log_p - log_mean)).sum())


def base(size):
    rates = torch.linspace(0.2, 0.6, size)
    torch.manual_seed(1)
    return torch.bernoulli(rates.expand(2000, size))


CASES = {
    "bernoulli": InjectiveBernoulli,
    "bernoulli in noise units": lambda f: InjectiveBernoulli(f, base=base(f.data_dim)),
    "binomial": lambda f: InjectiveBinomial(f, 3),
    "categorical": InjectiveCategorical,
    "categorical in noise units": lambda f: InjectiveCategorical(
        f, base=torch.arange(f.data_dim + 1).repeat(9)
    ),
    "poisson": InjectivePoisson,
}


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_no_model_carries_less_than_is_guaranteed(name, latent_dim):
    found = []
    for window in ((0.3, 0.3), (0.3, 0.5), (0.6, 0.6), (1.0, 1.5)):
        torch.manual_seed(0)
        f = brenier_injection(latent_dim, 2, hidden_dims=[8], lipschitz_bounds=window)
        likelihood = CASES[name](f).double()
        bound = ceiling_bound(likelihood, likelihood.lipschitz_bounds())
        exact = exact_information(likelihood)
        assert 0 <= bound.nats <= exact * (1 + 1e-6)
        found.append((bound.nats, exact))
    # Not for nothing: a steady share of what there is, where the ceiling is low.
    assert max(nats / exact for nats, exact in found) > 0.02


def test_without_an_edge_it_is_the_formula():
    """(K/2)[log(1 + u) + u/(1 + u)], for a curvature that is the same everywhere."""
    for u, dim in ((0.1, 1), (0.5, 3), (2.0, 8)):
        wanted = 0.5 * dim * (math.log1p(u) + u / (1 + u))
        assert nats_within(u, dim, 1e-15) == pytest.approx(wanted, rel=1e-3)
        assert nats_within(u, dim, 0.01) < wanted


def test_a_normal_likelihood_would_be_certified_below_its_window():
    """The Bhattacharyya bound is lower than the window that is proved for Normal noise."""
    from pyro_idvae.distributions import InjectiveNormal

    f = brenier_injection(3, 5, hidden_dims=[8], lipschitz_bounds=(1.0, 1.0))
    likelihood = InjectiveNormal(f)
    bound = ceiling_bound(likelihood, (1.0, 1.0))
    wanted = 1.5 * (math.log1p(0.25) + 0.2)
    assert bound.nats == pytest.approx(wanted, rel=1e-3)
    assert bound.nats < likelihood.information_bounds()[0]


def test_rows_of_one_latent_add_up():
    f = brenier_injection(2, 4, hidden_dims=[8], lipschitz_bounds=(0.5, 0.5))
    likelihood = InjectiveBernoulli(f)
    few, many = (ceiling_bound(likelihood, (0.5, 0.5), rows).nats for rows in (1, 10))
    assert many > 3 * few


def test_certificates_say_what_is_proved_and_what_units_are():
    torch.manual_seed(0)
    low = brenier_injection(2, 4, hidden_dims=[8], lipschitz_bounds=(0.5, 0.6))
    found = certify(InjectiveBernoulli(low))
    assert 0 < found.guaranteed < found.guaranteed_at_most < found.low
    assert "certificate: at least" in str(found)
    assert found.capped_share is None
    x = torch.zeros(50, 4)
    x[::2, :3] = 1
    vae = IDVAE(4, 2, "bernoulli", base=x, wanted_nats=0.3, hidden_dims=[8])
    found = certify(vae.model, x)
    assert found.capped_share == pytest.approx(0.25)
    text = str(found)
    nats = 0.5 * math.log1p(found.lipschitz_bounds[0] ** 2)
    assert f"about {nats:.2f} nat a latent near base rates; 25 % of the features are rarer" in text
    assert "proved:" in text
    assert "with M = L it would be" in text
    assert np.isfinite(found.guaranteed)
