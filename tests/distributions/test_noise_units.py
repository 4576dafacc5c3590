"""Noise units: what a unit is, at what rates, and how far from them a start may go."""

import math

import pytest
import torch

from pyro_idvae import IDVAE, load, save
from pyro_idvae.distributions import (
    InjectivePoisson,
    NegativeBinomialFamily,
    PoissonFamily,
    in_noise_units,
    make_family,
    make_injective,
    wanted_rate,
)
from pyro_idvae.errors import (
    ArgumentError,
    CheckpointError,
    DataError,
    NoClosedFormError,
    ShapeError,
)
from pyro_idvae.infer.laplace.log_joint import LogJoint
from pyro_idvae.transforms import brenier_injection, injective_linear
from tests.testing.table import at_base, base_of

WITH_UNITS = {
    "bernoulli": {},
    "beta": {"precision": 8.0},
    "binomial": {"total_count": 4},
    "gamma": {"concentration": 3.0},
    "negativebinomial": {"concentration": 3.0},
    "poisson": {},
}


@pytest.mark.parametrize("name", WITH_UNITS)
def test_at_the_base_rates_the_information_is_one_and_the_mean_is_the_datas(name):
    family = at_base(name, **WITH_UNITS[name]).double()
    assert not family.capped_rates().any()
    here = torch.zeros(3).double()
    information = family.fisher_information(here)
    torch.testing.assert_close(information, torch.ones(3).double(), rtol=1e-12, atol=0)
    base = base_of(make_family(name, **WITH_UNITS[name]))
    wanted = base.double().mean(0)
    if name == "beta":  # the smoothed start of a family without a mean of its own
        return
    torch.testing.assert_close(family(here).mean, wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", [*WITH_UNITS, "categorical", "multinomial"])
def test_a_float32_family_takes_float64_parameters(name):
    """As its certificate does, which is worked out in float64."""
    counts = (torch.tensor(5.0),) if name == "multinomial" else ()
    family = at_base(name, *counts, **WITH_UNITS.get(name, {}))
    torch.manual_seed(0)
    eta, other = torch.randn(2, 4, family.parameter_dim(3)).double()
    x = family(eta, *counts).sample().float()
    for measured in (
        lambda eta: family.bhattacharyya(eta, other.to(eta), *counts),
        lambda eta: family.fisher_information(eta, *counts),
        lambda eta: family.least_curvature(eta, 0.3),
        lambda eta: family(eta, *counts).log_prob(x),
    ):
        try:
            rough = measured(eta.float())
        except NoClosedFormError:
            continue
        torch.testing.assert_close(measured(eta).float(), rough, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "trials"), [("categorical", 1), ("multinomial", 5)])
@pytest.mark.parametrize("size", [2, 3, 50])
def test_a_step_of_logits_is_as_long_as_it_was_asked_for(name, trials, size):
    """Var_p(logits) = |v|²/n, to the last digits; a common shift is out of reach."""
    torch.manual_seed(0)
    total = None if trials == 1 else torch.tensor(float(trials))
    family = make_family(name)
    base = base_of(family, total, rows=5000, data_dim=size)
    family = in_noise_units(family, base, size - 1).double()
    v = torch.randn(7, size - 1).double()
    probs = family.basis._probs
    change = family.basis.directions(v)
    variance = (probs * change.square()).sum(-1) - (probs * change).sum(-1).square()
    torch.testing.assert_close(trials * variance, v.square().sum(-1), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        family.basis.units(change + torch.randn(7, 1).double()), v, rtol=1e-11, atol=1e-12
    )
    here = family.fisher_information(torch.zeros(size - 1).double(), total)
    torch.testing.assert_close(here, torch.eye(size - 1).double(), rtol=0, atol=1e-12)


def test_one_set_of_rates_makes_origin_unit_and_basis():
    """A word that was never seen gets the floor everywhere, and the rates still sum to 1."""
    counts = torch.tensor([[5.0, 3.0, 2.0, 0.0], [4.0, 4.0, 2.0, 0.0]])
    family = in_noise_units(make_family("multinomial"), counts, 3)
    assert family.capped_rates().tolist() == [False, False, False, True]
    start = family(torch.zeros(3), torch.tensor(10.0)).logits.exp()
    torch.testing.assert_close(start, family.basis.probs)
    assert start[3] > 0
    assert float(start.sum()) == pytest.approx(1, rel=1e-6)
    binary = torch.zeros(50, 2)
    binary[::2, 1] = 1
    family = in_noise_units(make_family("bernoulli"), binary, 2)
    assert family.capped_rates().tolist() == [True, False]
    p = float(family(torch.zeros(2)).mean[0])
    assert p * (1 - p) == pytest.approx(0.05, rel=1e-4)
    assert float(family.unit()[0]) == pytest.approx(0.05**-0.5, rel=1e-4)


@pytest.mark.parametrize(("rate", "nats"), [(0.01, 0.3), (0.1, 0.3), (0.1, 1.0), (5.0, 1.0)])
def test_the_start_stays_within_a_thousand_times_the_base_rates(rate, nats):
    torch.manual_seed(0)
    x = torch.poisson(torch.full((1000, 500), rate))
    vae = IDVAE(500, 8, "poisson", base=x, wanted_nats=nats)
    log_rate = vae.likelihood.condition(torch.randn(2000, 8)).base_dist.log_rate.detach()
    three = 3 * log_rate.std(0)
    assert (three <= 1.1 * math.log(1000)).all()
    # The mean over the prior is the base rate, but for the spread of the draws.
    gap = (log_rate.mean(0) - x.mean(0).clamp_min(0.5 / len(x)).log()).abs()
    assert (gap < 6 * log_rate.std(0) / 500**0.5).all()


def test_a_learned_dispersion_keeps_the_unit():
    family = in_noise_units(
        NegativeBinomialFamily(3.0), base_of(NegativeBinomialFamily(3.0)), 3
    ).double()
    with torch.no_grad():
        family.family.log_concentration.fill_(math.log(0.5))
    information = family.fisher_information(torch.zeros(3).double())
    torch.testing.assert_close(information, torch.ones(3).double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["poisson", "categorical"])
def test_covariates_stay_outside_the_units(name):
    torch.manual_seed(0)
    size = 4
    simplex = name == "categorical"
    base = base_of(make_family(name), data_dim=size + simplex)
    likelihood = make_injective(
        name, injective_linear(2, size), covariates=torch.nn.Linear(3, size), base=base
    ).double()
    z, c = torch.randn(5, 2).double(), torch.randn(5, 3).double()
    plain = make_injective(name, likelihood.injection).double()
    own = likelihood.condition(z, c)
    without = likelihood.family(likelihood.eta(z))
    shift = likelihood.covariates(c)
    if simplex:
        wanted = plain.family(shift).logits + without.logits
        torch.testing.assert_close(own.logits, wanted.log_softmax(-1))
    else:
        torch.testing.assert_close(own.base_dist.log_rate, without.log_rate + shift)
    x = own.sample()
    joint = LogJoint(likelihood, x, c, {})
    torch.testing.assert_close(joint.log_joint(z) + 0.5 * z.square().sum(-1), own.log_prob(x))


def test_a_model_in_noise_units_is_saved_whole(tmp_path):
    torch.manual_seed(0)
    x = torch.poisson(torch.rand(40, 6) + 0.2)
    vae = IDVAE(6, 2, "poisson", base=x, hidden_dims=[8], encoder_hidden_dims=[8])
    save(tmp_path / "model", vae.model, vae.guide)
    other = IDVAE(6, 2, "poisson", base=2 * x, hidden_dims=[8], encoder_hidden_dims=[8])
    load(tmp_path / "model", other.model, other.guide)
    z = torch.randn(5, 2)
    assert torch.equal(other.likelihood.condition(z).mean, vae.likelihood.condition(z).mean)
    plain = IDVAE(6, 2, "poisson", hidden_dims=[8], encoder_hidden_dims=[8])
    with pytest.raises(CheckpointError, match="base_eta"):
        load(tmp_path / "model", plain.model, plain.guide)


def test_families_that_are_in_units_of_noise_stay_as_they_are():
    for name in ("normal", "laplace", "studentt"):
        family = make_family(name)
        assert in_noise_units(family, torch.randn(10, 3), 3) is family


def test_wanted_rates():
    x = torch.poisson(torch.full((50, 8), 2.0))
    floor = wanted_rate("poisson", x, nats=0.3, latent_dim=2)
    assert 0.5 * math.log1p(floor**2) == pytest.approx(0.3)
    several = wanted_rate(PoissonFamily(), x, nats=0.3, latent_dim=2, repeats=10)
    assert several == pytest.approx(floor / 10**0.5)
    far = wanted_rate("studentt", x, nats=0.3, latent_dim=2)
    assert far == pytest.approx(floor / (5 / 7) ** 0.5, rel=1e-6)
    tokens = torch.randint(9, (100,))
    assert wanted_rate("categorical", tokens, nats=0.3, latent_dim=2, repeats=10) == several
    sentences = tokens.reshape(10, 10)
    assert wanted_rate("categorical", sentences, nats=0.3, latent_dim=2, repeats=10) == several
    vae = IDVAE(8, 2, "poisson", base=x, wanted_nats=0.3)
    parts = (vae.likelihood.injection.g1.potential.floor, vae.likelihood.injection.beta.floor)
    assert parts[0] ** 2 * parts[1] == pytest.approx(floor)


def test_linear_normals_have_the_nats_that_were_asked_for():
    x = torch.randn(50, 8)
    floor = wanted_rate("normal", x, nats=0.3, latent_dim=2)
    f = injective_linear(2, 8, min_singular_value=floor, max_singular_value=floor)
    low, high = make_injective("normal", f, base=x).information_bounds()
    assert low == pytest.approx(0.6, rel=1e-5)
    assert high == pytest.approx(0.6, rel=1e-5)


def test_bad_input_is_refused():
    x = torch.poisson(torch.full((50, 8), 2.0))
    family = PoissonFamily()
    with pytest.raises(ArgumentError, match="family is a str"):
        in_noise_units("poisson", x, 8)
    with pytest.raises(ArgumentError, match="base is a list"):
        in_noise_units(family, x.tolist(), 8)
    with pytest.raises(ShapeError, match=r"base has shape \(50, 8\)"):
        in_noise_units(family, x, 7)
    with pytest.raises(DataError, match="no observations"):
        in_noise_units(family, x[:0], 8)
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="1 entries that are not finite or outside"):
            in_noise_units(family, torch.cat([x[:1, :7], torch.tensor([[wrong]])], 1), 8)
    with pytest.raises(DataError, match="no counts at all"):
        in_noise_units(make_family("multinomial"), torch.zeros(3, 4), 3)
    with pytest.raises(ArgumentError, match="spread="):
        in_noise_units(family, x, 8, spread=-1.0)
    with pytest.raises(ArgumentError, match="in noise units already"):
        in_noise_units(in_noise_units(family, x, 8), x, 8)
    with pytest.raises(ArgumentError, match="wanted_nats=0.3 without base"):
        IDVAE(8, 2, "poisson", wanted_nats=0.3)
    with pytest.raises(ArgumentError, match="leave out strong_convexity"):
        IDVAE(8, 2, "poisson", base=x, wanted_nats=0.3, strong_convexity=1.0)
    for nats in (0.0, -1.0, math.nan, 21.0):
        with pytest.raises(ArgumentError, match="nats="):
            wanted_rate("poisson", x, nats=nats, latent_dim=2)
    with pytest.raises(ArgumentError, match="only 0 of 8 features are frequent enough"):
        wanted_rate("bernoulli", torch.zeros(50, 8), nats=0.3, latent_dim=2)
    rare = torch.poisson(torch.full((1000, 500), 0.01))
    with pytest.raises(ArgumentError, match="frequent enough for such a floor"):
        wanted_rate("poisson", rare, nats=1.0, latent_dim=8)
    with pytest.raises(ArgumentError, match="base has no features"):
        wanted_rate("poisson", x[0, 0], nats=0.3, latent_dim=2)
    with pytest.raises(DataError, match="there are no observations"):
        wanted_rate("categorical", torch.zeros(0, 5).long(), nats=0.3, latent_dim=2)
    with pytest.raises(DataError, match="not finite"):
        wanted_rate("categorical", torch.tensor([0.0, math.nan, 3.0]), nats=0.3, latent_dim=1)
    with pytest.raises(ArgumentError, match="family is a int"):
        wanted_rate(3, x, nats=0.3, latent_dim=2)
    assert InjectivePoisson(brenier_injection(2, 8), base=x).family.name == "poisson"
