import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import ConditionalDistribution
from pyro.nn import PyroModule

from pyro_idvae.distributions import (
    InjectiveBernoulli,
    InjectiveBeta,
    InjectiveBinomial,
    InjectiveCategorical,
    InjectiveGamma,
    InjectiveLikelihood,
    InjectiveMultinomial,
    InjectiveNegativeBinomial,
    InjectiveNormal,
    InjectivePoisson,
    InjectiveStudentT,
    InjectiveZeroInflated,
    NeuralLikelihood,
    NormalFamily,
    make_family,
    make_injective,
)
from pyro_idvae.errors import ArgumentError, DataError, NoCertificateError, ShapeError
from pyro_idvae.transforms import brenier_injection, injective_linear


def injection(latent=2, data=4):
    return brenier_injection(latent, data, hidden_dims=[8])


def test_a_likelihood_is_a_pyro_module_and_a_conditional_distribution():
    likelihood = InjectiveNormal(injection())
    assert isinstance(likelihood, PyroModule)
    assert isinstance(likelihood, ConditionalDistribution)
    assert likelihood.latent_dim == 2
    assert likelihood.event_shape == (4,)
    assert likelihood.identifiable
    z = torch.randn(3, 2)
    assert torch.equal(likelihood(z).base_dist.loc, likelihood.condition(z).base_dist.loc)


def test_the_abstract_class_and_other_maps_are_refused():
    with pytest.raises(TypeError, match="abstract"):
        InjectiveLikelihood(injection(), NormalFamily())
    with pytest.raises(ArgumentError, match="pass an Injection"):
        InjectiveNormal(torch.nn.Linear(2, 4))


@pytest.mark.parametrize("learn", [False, True])
def test_the_window_in_nats_does_not_move_with_the_scale(learn):
    f = brenier_injection(2, 4, hidden_dims=[8], lipschitz_bounds=(0.7, 3.0)).double()
    likelihood = InjectiveNormal(f, scale=torch.tensor([0.1, 1.0, 5.0, 2.0]), learn_scale=learn)
    low, high = likelihood.information_bounds()
    assert low == pytest.approx(math.log1p(0.7**2))
    assert high == pytest.approx(math.log1p(9.0))
    if learn:
        with torch.no_grad():
            likelihood.family.log_scale.add_(3.0)
        assert likelihood.information_bounds() == (low, high)


def test_the_window_moves_with_the_floor():
    bounds = [
        InjectiveNormal(brenier_injection(2, 4, strong_convexity=a)).information_bounds()[0]
        for a in (0.5, 1.0, 2.0)
    ]
    assert bounds == sorted(bounds)
    assert bounds[0] > 0


def test_linear_maps_with_equal_singular_values_have_an_exact_window():
    f = injective_linear(3, 5, min_singular_value=2.0, max_singular_value=2.0).double()
    low, high = InjectiveNormal(f, scale=0.3).information_bounds()
    assert low == high == pytest.approx(1.5 * math.log(5.0), rel=1e-12)


def test_other_families_have_no_window():
    with pytest.raises(NoCertificateError, match="a bernoulli likelihood has no bound"):
        InjectiveBernoulli(injection()).information_bounds()
    neural = NeuralLikelihood(make_family("normal"), torch.nn.Linear(2, 4))
    for method in (neural.lipschitz_bounds, neural.information_bounds):
        with pytest.raises(NoCertificateError, match="not identifiable"):
            method()
    assert "not identifiable" in repr(neural)


def test_a_neural_likelihood_reads_its_sizes_or_asks():
    network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 5))
    likelihood = NeuralLikelihood(make_family("categorical"), network)
    assert likelihood.latent_dim == 3
    assert likelihood.condition(torch.zeros(2, 3)).probs.shape == (2, 6)
    with pytest.raises(ArgumentError, match="pass latent_dim and parameter_dim"):
        NeuralLikelihood(make_family("normal"), torch.nn.Identity())


@pytest.mark.parametrize(
    ("likelihood", "mean"),
    [
        (InjectivePoisson(injection()), torch.exp),
        (InjectiveNegativeBinomial(injection(), concentration=2.0), torch.exp),
        (InjectiveGamma(injection(), concentration=2.0), torch.exp),
        (InjectiveBeta(injection(), precision=7.0), torch.sigmoid),
        (InjectiveBernoulli(injection()), torch.sigmoid),
        (InjectiveBinomial(injection(), 5), lambda f: 5 * torch.sigmoid(f)),
        (InjectiveNormal(injection(), scale=3.0), lambda f: 3 * f),
        (InjectiveStudentT(injection(), scale=3.0), lambda f: 3 * f),
    ],
)
def test_the_parameters_say_what_they_are_meant_to(likelihood, mean):
    z = 0.2 * torch.randn(3, 2)
    wanted = mean(likelihood.injection(z))
    assert torch.allclose(likelihood.condition(z).base_dist.mean, wanted, rtol=1e-4)


def test_covariates_shift_the_parameters_outside_the_injection():
    shift = torch.nn.Linear(3, 4)
    likelihood = InjectivePoisson(injection(), covariates=shift)
    z, c = torch.randn(5, 2), torch.randn(5, 3)
    rate = likelihood.condition(z, c).base_dist.rate
    assert torch.allclose(rate.log(), likelihood.injection(z) + shift(c), atol=1e-5)
    bounds = likelihood.lipschitz_bounds()
    with torch.no_grad():
        shift.weight.mul_(100.0)
    assert likelihood.lipschitz_bounds() == bounds
    with pytest.raises(ArgumentError, match="covariates=None"):
        likelihood.condition(z)
    with pytest.raises(ArgumentError, match="built without them"):
        InjectivePoisson(injection()).condition(z, c)


def test_missing_values_add_nothing_and_pass_no_nan():
    likelihood = InjectiveGamma(injection())
    z = torch.randn(3, 2, requires_grad=True)
    x = torch.rand(3, 4) + 0.1
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0, 1] = mask[2] = False
    broken = torch.where(mask, x, torch.nan)
    filled = likelihood.fill_missing(broken, mask)
    log_prob = likelihood.condition(z, mask=mask).log_prob(filled)
    (gradient,) = torch.autograd.grad(log_prob.sum(), z)
    assert gradient.isfinite().all()
    each = likelihood.condition(z).base_dist.log_prob(filled)
    assert torch.allclose(log_prob, (each * mask).sum(-1))
    assert log_prob[2] == 0
    likelihood.check_data(broken, mask)
    with pytest.raises(DataError, match=r"x\[0, 1\]=nan is not finite"):
        likelihood.check_data(broken)


def test_rows_of_a_multinomial_can_be_missing():
    likelihood = InjectiveMultinomial(injection(2, 3))
    x = torch.tensor([[1.0, 2.0, 0.0, 0.0], [torch.nan] * 4])
    mask = torch.tensor([True, False])
    options = likelihood.data_options(x, mask)
    assert options["total_count"].tolist() == [3.0, 0.0]
    with pytest.warns(UserWarning, match="1 rows have a library size of 0"):
        conditional = likelihood.condition(torch.zeros(2, 2), **options)
    assert conditional.log_prob(likelihood.fill_missing(x, mask))[1] == 0


@pytest.mark.parametrize("mask", [torch.ones(3, 4), torch.ones(3, 5, dtype=torch.bool)])
def test_a_wrong_mask_is_refused(mask):
    with pytest.raises(ShapeError, match="mask has dtype"):
        InjectiveNormal(injection()).condition(torch.zeros(3, 2), mask=mask)


@pytest.mark.parametrize(
    ("likelihood", "x", "error", "message"),
    [
        (InjectiveNormal(injection()), torch.zeros(3, 5), ShapeError, r"batch \+ \(4,\)"),
        (InjectiveNormal(injection()), torch.zeros(0, 4), DataError, "no observations"),
        (InjectiveNormal(injection()), torch.zeros(3, 4).long(), ArgumentError, r"x\.float"),
        (InjectiveNormal(injection()), torch.zeros(3, 4).double(), ArgumentError, "convert one"),
        (InjectiveNormal(injection()), torch.full((3, 4), torch.inf), DataError, "not finite"),
        (InjectiveBernoulli(injection()), torch.full((3, 4), 0.5), DataError, "support of bern"),
        (InjectivePoisson(injection()), -torch.ones(3, 4), DataError, "support of poisson"),
        (InjectiveBinomial(injection(), 3), torch.full((3, 4), 4.0), DataError, "binomial"),
        (InjectiveGamma(injection()), torch.zeros(3, 4), DataError, "support of gamma"),
        (InjectiveBeta(injection()), torch.ones(3, 4), DataError, "support of beta"),
        (InjectiveCategorical(injection()), torch.tensor([0, 5]), DataError, "categorical"),
    ],
)
def test_data_that_cannot_be_are_refused(likelihood, x, error, message):
    with pytest.raises(error, match=message):
        likelihood.check_data(x)


def test_categories_may_be_integers():
    likelihood = InjectiveCategorical(injection())
    likelihood.check_data(torch.tensor([0, 4]))
    assert likelihood.event_shape == ()
    assert likelihood.condition(torch.zeros(2, 2)).log_prob(torch.tensor([0, 4])).shape == (2,)


def test_bad_arguments_of_families_are_named():
    with pytest.raises(ArgumentError, match="scale=0"):
        InjectiveNormal(injection(), scale=0.0)
    with pytest.raises(ArgumentError, match="scale must be positive"):
        InjectiveNormal(injection(), scale=torch.tensor([1.0, -1.0]))
    with pytest.raises(ShapeError, match="4 parameters"):
        InjectiveNormal(injection(), scale=torch.ones(3)).condition(torch.zeros(2, 2))
    with pytest.raises(ArgumentError, match="gate=1"):
        InjectiveZeroInflated(InjectivePoisson(injection()), gate=1.0)
    with pytest.raises(ArgumentError, match="base is a InjectiveNormal"):
        InjectiveZeroInflated(InjectiveNormal(injection()))
    with pytest.raises(ArgumentError, match="total_count=0"):
        InjectiveBinomial(injection(), 0)
    with pytest.raises(ArgumentError, match="has none"):
        InjectiveNormal(injection()).condition(torch.zeros(2, 2), total_count=torch.ones(2, 4))
    with pytest.raises(ArgumentError, match="total_count=None"):
        InjectiveMultinomial(injection()).condition(torch.zeros(2, 2))
    with pytest.raises(ArgumentError, match="family='cauchy'"):
        make_family("cauchy")
    assert isinstance(make_injective("poisson", injection()), InjectivePoisson)


def test_binomial_trials_may_differ_by_row():
    likelihood = InjectiveBinomial(injection(), 5)
    counts = torch.tensor([[2.0], [9.0]])
    assert (
        likelihood.condition(torch.zeros(2, 2), total_count=counts).base_dist.total_count.max() == 9
    )


def test_zero_inflation_adds_zeros():
    base = InjectivePoisson(injection())
    gated = InjectiveZeroInflated(base, gate=0.4)
    z, x = torch.zeros(1, 2), torch.zeros(1, 4)
    plain = base.condition(z).base_dist.log_prob(x).exp()
    found = gated.condition(z).base_dist.log_prob(x).exp()
    assert torch.allclose(found, 0.4 + 0.6 * plain, atol=1e-5)


def test_an_enumerated_latent_above_an_injective_likelihood():
    from pyro.infer import SVI, TraceEnum_ELBO, config_enumerate

    likelihood = InjectiveNormal(injection(), scale=0.5)
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    x = likelihood.condition(centres[torch.arange(60) % 2]).sample()
    loc = torch.nn.Parameter(torch.randn(2, 2))

    @config_enumerate
    def model():
        pyro.module("likelihood", likelihood)
        weights = pyro.param("weights", torch.ones(2) / 2, constraint=dist.constraints.simplex)
        places = pyro.param("places", loc)
        with pyro.plate("data", 60):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("x", likelihood.condition(places[k]), obs=x)

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.03}), TraceEnum_ELBO())
    losses = [svi.step() / 60 for _ in range(150)]
    assert losses[-1] < losses[0] - 1
    assert abs(pyro.param("weights")[0].item() - 0.5) < 0.15
