"""Families over their supports, to the ends: densities against scipy, draws, moments."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from pyro_idvae.distributions import ZeroInflatedFamily, make_family
from tests.properties.common import SEEDS, searched

C = 2.5
"""Shape, precision or concentration of the families that have one."""


def log_beta_density(eta, x):
    """Return log Beta(x; cm, c(1 − m)) by log m, which does not underflow."""
    total = special.gammaln(C)
    for logit, log_x in ((eta, np.log(x)), (-eta, np.log1p(-x))):
        share = C * special.expit(logit)
        log_share = np.log(C) - np.logaddexp(0, -logit)
        total = total + (share - 1) * log_x - special.gammaln(share + 1) + log_share
    return total


def log_negative_binomial(eta, x):
    logits = eta - np.log(C)
    ways = special.gammaln(x + C) - special.gammaln(C) - special.gammaln(x + 1)
    return ways - x * np.logaddexp(0, -logits) - C * np.logaddexp(0, logits)


def log_gamma_density(eta, x):
    relative = np.log(x) - eta
    return C * (np.log(C) + relative - np.exp(relative)) - np.log(x) - special.gammaln(C)


def log_binomial(eta, x):
    ways = special.gammaln(17) - special.gammaln(x + 1) - special.gammaln(17 - x)
    return ways - x * np.logaddexp(0, -eta) - (16 - x) * np.logaddexp(0, eta)


REAL = [0.0, 1.0, -3.7, 1e-30, -1e-30, 1e6, -1e6, 1e30, -1e30]
POSITIVE = [1e-30, 1e-6, 0.3, 1.0, 1e6, 1e30]
SHARES = [1e-30, 1e-6, 0.5, 1 - 1e-6, 1 - 2.0**-53]
COUNTS = [0.0, 1.0, 10.0, 1234.0, 1e6]
DOUBLE = torch.tensor(C, dtype=torch.double)
FAMILIES = {
    "normal": ({}, lambda eta, x: stats.norm(eta).logpdf(x), REAL),
    # Scipy's own takes the logarithm of a density that underflows.
    "laplace": ({}, lambda eta, x: -np.abs(x - eta) - np.log(2), REAL),
    "studentt": ({"df": DOUBLE}, lambda eta, x: stats.t(C, eta).logpdf(x), REAL),
    "gamma": ({"concentration": DOUBLE}, log_gamma_density, POSITIVE),
    "beta": ({"precision": DOUBLE}, log_beta_density, SHARES),
    "poisson": ({}, lambda eta, x: x * eta - np.exp(eta) - special.gammaln(x + 1), COUNTS),
    "negativebinomial": ({"concentration": DOUBLE}, log_negative_binomial, COUNTS),
    "bernoulli": ({}, lambda eta, x: -np.logaddexp(0, np.where(x > 0, -eta, eta)), [0.0, 1.0]),
    "binomial": ({"total_count": 16}, log_binomial, [0.0, 1.0, 8.0, 16.0]),
}

ETAS = st.one_of(
    st.floats(-1e3, 1e3), st.sampled_from([0.0, -1e3, 1e3, 1e-9, 43.0, 60.0, -90.0, 700.0])
)


@pytest.mark.parametrize("name", FAMILIES)
@searched(40)
@given(etas=st.lists(ETAS, min_size=1, max_size=4), pick=SEEDS)
def test_densities_are_scipys_to_the_ends_of_the_support(name, etas, pick):
    options, reference, values = FAMILIES[name]
    family = make_family(name, **options).double()
    x = np.random.default_rng(pick).choice(values, size=len(etas))
    eta = torch.tensor(etas, dtype=torch.double, requires_grad=True)
    observed = torch.as_tensor(x)
    assert bool(family.check_support(observed, len(etas)).all())
    found = family(eta).log_prob(observed)
    (slope,) = torch.autograd.grad(found.sum(), eta)
    with np.errstate(over="ignore"):
        wanted = reference(np.array(etas), x)
    terms = 1 + np.abs(wanted)
    if values is COUNTS:
        terms = terms + np.abs(x * etas) + special.gammaln(x + 1)
    assert not bool(slope.isnan().any())
    found = found.detach().numpy()
    finite = np.isfinite(wanted)
    assert (found[~finite] == -np.inf).all()
    assert (np.abs(found[finite] - wanted[finite]) <= 1e-12 * terms[finite]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FAMILIES)
@searched(30)
@given(etas=st.lists(ETAS, min_size=1, max_size=4), seed=SEEDS)
def test_draws_lie_in_the_support_and_moments_are_numbers(name, dtype, etas, seed):
    options, _, _ = FAMILIES[name]
    member = make_family(name, **options).to(dtype)(torch.tensor(etas, dtype=dtype))
    torch.manual_seed(seed)
    draws = member.sample((20,))
    assert draws.shape == (20, len(etas))
    assert bool(member.support.check(draws).all())
    assert not bool(member.mean.isnan().any())
    assert not bool(member.variance.isnan().any())
    assert bool((member.variance >= 0).all())
    wide = member.expand((2, len(etas)))
    assert wide.sample().shape == (2, len(etas))
    with torch.no_grad():
        np.testing.assert_array_equal(wide.log_prob(draws[:2]), member.log_prob(draws[:2]))


@searched(60)
@given(
    eta=st.lists(ETAS, min_size=1, max_size=5), total=st.sampled_from([0, 1, 30, 10**6]), seed=SEEDS
)
@pytest.mark.filterwarnings("ignore:.*library size of 0:UserWarning")
def test_categories_and_their_counts(eta, total, seed):
    eta = torch.tensor(eta, dtype=torch.double, requires_grad=True)
    one, many = make_family("categorical").double(), make_family("multinomial").double()
    torch.manual_seed(seed)
    member = one(eta)
    x = member.sample((10,))
    assert bool(one.check_support(x, len(eta)).all())
    code = torch.arange(len(eta) + 1)
    np.testing.assert_allclose(member.log_prob(code).exp().sum().item(), 1.0, rtol=1e-12)
    counted = many(eta, torch.tensor(float(total)).double())
    counts = counted.sample((3,))
    assert bool((counts >= 0).all())
    assert bool((counts.sum(-1) == total).all())
    found = counted.log_prob(counts)
    logits = member.logits.detach().numpy()
    x = counts.numpy()
    ways = special.gammaln(total + 1) - special.gammaln(x + 1).sum(-1)
    wanted = ways + (x * (logits - special.logsumexp(logits))).sum(-1)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-10, atol=1e-8)
    (slope,) = torch.autograd.grad(found.sum() + member.log_prob(code).sum(), eta)
    assert bool(slope.isfinite().all())
    assert not bool(counted.mean.isnan().any())
    assert not bool(counted.variance.isnan().any())


@searched(40)
@given(
    gate=st.sampled_from([1e-6, 0.1, 0.999999]),
    eta=st.floats(-1e3, 700),  # beyond 709 the slope of exp η itself is infinite
    base=st.sampled_from(["poisson", "negativebinomial"]),
)
def test_extra_zeros_mix_two_densities(gate, eta, base):
    family = ZeroInflatedFamily(make_family(base), gate).double()
    share = family.gate_logits.sigmoid().item()
    leaf = torch.tensor([eta] * 3, dtype=torch.double, requires_grad=True)
    x = torch.tensor([0.0, 1.0, 1e6], dtype=torch.double)
    found = family(leaf).log_prob(x)
    plain = family.base(leaf).log_prob(x).detach().numpy()
    wanted = np.log1p(-share) + plain
    wanted[0] = np.logaddexp(math.log(share), wanted[0])
    (slope,) = torch.autograd.grad(found.sum(), leaf)
    assert not bool(slope.isnan().any())
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-9, atol=1e-12)
    draws = family(leaf.detach()).sample((10,))
    assert bool(family.check_support(draws, 3).all())
