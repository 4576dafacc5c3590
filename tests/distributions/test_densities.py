"""The distributions that the families are made of, against Pyro's own."""

import math

import pyro.distributions as dist
import pytest
import torch

from pyro_idvae.distributions import (
    InjectivePoisson,
    InjectiveZeroInflated,
    LibraryMultinomial,
    make_family,
)
from pyro_idvae.transforms import brenier_injection


def test_library_multinomial_matches_torchs_and_expands():
    logits = torch.randn(3, 5)
    ours = LibraryMultinomial(torch.tensor(7.0), logits)
    theirs = dist.Multinomial(7, logits=logits)
    x = theirs.sample((4,))
    assert torch.allclose(ours.log_prob(x), theirs.log_prob(x), atol=1e-5)
    assert torch.allclose(ours.mean, theirs.mean)
    assert torch.allclose(ours.variance, theirs.variance)
    wide = ours.expand((2, 3))
    assert wide.batch_shape == (2, 3)
    assert wide.sample((6,)).shape == (6, 2, 3, 5)
    shapes = LibraryMultinomial.infer_shapes(total_count=(), logits=(3, 5))
    assert shapes == (torch.Size([3]), torch.Size([5]))
    with pytest.raises(ValueError, match="must sum"):
        ours.log_prob(torch.ones(3, 5))


def test_densities_survive_extreme_log_rates():
    x = torch.ones(1)
    for eta in (-110.0, -95.0, 60.0):
        log_rate = torch.tensor([eta], requires_grad=True)
        log_prob = make_family("poisson")(log_rate).log_prob(x)
        (gradient,) = torch.autograd.grad(log_prob.sum(), log_rate)
        wanted = eta - math.exp(eta)
        assert log_prob.item() == pytest.approx(wanted, rel=1e-5)
        assert gradient.item() == pytest.approx(1 - math.exp(eta), rel=1e-5)
    gamma = make_family("gamma", concentration=2.0)
    for eta in (-80.0, 200.0):
        log_mean = torch.tensor([eta], requires_grad=True)
        log_prob = gamma(log_mean).log_prob(x)
        (gradient,) = torch.autograd.grad(log_prob.sum(), log_mean)
        wanted = 2 * (math.log(2) - eta) - 2 * math.exp(-eta)
        assert log_prob.item() == pytest.approx(wanted, rel=1e-5)
        assert gradient.item() == pytest.approx(-2 + 2 * math.exp(-eta), rel=1e-5)
    inflated = InjectiveZeroInflated(
        InjectivePoisson(brenier_injection(2, 4, hidden_dims=[8]))
    ).family
    log_rate = torch.tensor([-100.0], requires_grad=True)
    inflated(log_rate).log_prob(x).sum().backward()
    assert log_rate.grad.isfinite().all()


def test_log_scale_distributions_are_pyros_own_and_expand():
    eta = torch.randn(3)
    pairs = (
        (make_family("poisson")(eta), dist.Poisson(eta.exp()), torch.tensor([0.0, 2.0, 5.0])),
        (
            make_family("gamma", concentration=2.5)(eta),
            dist.Gamma(2.5, 2.5 * (-eta).exp()),
            torch.tensor([0.1, 2.0, 5.0]),
        ),
    )
    for ours, theirs, x in pairs:
        assert torch.allclose(ours.log_prob(x), theirs.log_prob(x), atol=1e-5)
        wide = ours.expand((2, 3))
        assert wide.log_prob(x).shape == (2, 3)
        assert wide.sample().shape == (2, 3)
        assert torch.allclose(wide.mean[0], theirs.mean)
        with pytest.raises(ValueError, match="support"):
            ours.log_prob(-x - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["poisson", "negativebinomial"])
def test_counts_of_huge_rates_are_counts_of_that_rate(name, dtype):
    """Beyond exp 43.7 torch's own are negative."""
    options = {} if name == "poisson" else {"concentration": 1e4}
    for eta in (20.0, 30.0, 44.0, 80.0):
        member = make_family(name, **options)(torch.full((4000,), eta, dtype=dtype))
        x = member.sample().double()
        assert bool(member.support.check(x).all())
        spread = member.variance[0].double().sqrt()
        error = 5 * spread / 4000**0.5 if spread < math.inf else 0.01 * math.exp(eta)
        assert abs(x.mean() - math.exp(eta)) < error + 1e-6 * math.exp(eta)
        if 1e-5 * math.exp(eta) < spread < math.inf:
            assert x.std() == pytest.approx(spread.item(), rel=0.1)


def test_a_beta_of_extreme_logits_keeps_its_density_and_slope():
    family = make_family("beta", precision=4.0)
    x = torch.tensor([0.3])
    for eta in (-900.0, -95.0, 95.0, 900.0):
        leaf = torch.tensor([eta], requires_grad=True)
        found = family(leaf).log_prob(x)
        (slope,) = torch.autograd.grad(found.sum(), leaf)
        # Γ(a) ~ 1/a for the share a = 4e^(−|η|) that vanishes.
        inside = x if eta > 0 else 1 - x
        wanted = math.log(4) - abs(eta) + 3 * inside.log() - (1 - inside).log()
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
        assert slope.item() == pytest.approx(-math.copysign(1.0, eta), rel=1e-4)
    small = torch.linspace(-3, 3, 7)
    plain = dist.Beta(4 * small.sigmoid(), 4 * (-small).sigmoid())
    torch.testing.assert_close(family(small).log_prob(x), plain.log_prob(x))
    assert family(small).expand((2, 7)).log_prob(x).shape == (2, 7)
