"""What comes back from ``pickle`` and ``copy.deepcopy`` is the same and does the same."""

import copy
import pickle
from functools import cache

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_idvae import (
    IDVAE,
    VAE,
    AutoInjectiveLaplace,
    BayesianModel,
    Encoder,
    VectorizedHMC,
    autopsy,
    certify,
    collapse_report,
    compare,
    consistency,
    evaluate,
    evaluation_table,
    find_witness,
    from_guide,
    importance_log_likelihood,
    mcmc,
)
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.distributions import make_injective
from pyro_idvae.models import GaussianMixture, ProbabilisticPCA
from pyro_idvae.transforms import brenier_injection

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
COPIES = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "deepcopy": copy.deepcopy,
}


@cache
def small():
    torch.manual_seed(0)
    return IDVAE(4, 2, "normal", hidden_dims=[6], encoder_hidden_dims=[6])


@cache
def drawn():
    torch.manual_seed(0)
    pair = small()
    guide = from_guide(pair.model, pair.guide, X, num_samples=50)
    options = {"num_samples": 40, "num_chains": 2, "seed": 0, "progress": False}
    return guide, mcmc(pair.model, X, kernel="vectorized", **options)


def wide_prior(name, parameter):
    return dist.Normal(torch.zeros_like(parameter), 3.0).to_event(parameter.dim())


PROGRAMS = {
    "IDVAE": lambda: small().model,
    "its guide": lambda: small().guide,
    "VAE": lambda: VAE(small().likelihood, Encoder(4, 2, [6])).model,
    "BayesianModel": lambda: BayesianModel(small().model, prior=0.7),
    "BayesianModel of a function": lambda: BayesianModel(small().model, prior=wide_prior),
    "ProbabilisticPCA": lambda: ProbabilisticPCA(4, 1),
    "Laplace": lambda: AutoInjectiveLaplace(small().model),
}


def joint(program, x):
    torch.manual_seed(5)
    trace = poutine.trace(program).get_trace(x)
    return float(trace.log_prob_sum().detach())


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name, way):
    program = PROGRAMS[name]()
    with torch.no_grad():
        before = joint(program, X)
        assert joint(COPIES[way](program), X) == before
        again = COPIES[way](COPIES[way](program))
    assert joint(again, X) == before
    ours, theirs = program.state_dict(), again.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_copy_is_independent():
    model = BayesianModel(small().model)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.model.parameters():
            parameter.zero_()
    assert any(bool(p.any()) for p in model.model.parameters())


@pytest.mark.parametrize("way", COPIES)
def test_whole_models(way):
    for model in (small(), VAE(small().likelihood, Encoder(4, 2, [6]))):
        again = COPIES[way](model)
        # The halves of one model still share what they shared.
        assert again.model.likelihood is again.likelihood
        assert joint(again.guide, X) == joint(model.guide, X)
    assert joint(COPIES[way](GaussianMixture()), X[:, 0]) == joint(GaussianMixture(), X[:, 0])


FAMILIES = {
    "normal": {},
    "bernoulli": {},
    "binomial": {"total_count": 3},
    "categorical": {},
    "multinomial": {},
    "poisson": {},
    "negative_binomial": {},
    "gamma": {},
    "beta": {},
    "laplace": {},
    "student_t": {},
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods(family, way):
    torch.manual_seed(0)
    size = 3 if family in ("categorical", "multinomial") else 4
    likelihood = make_injective(family, brenier_injection(2, size), **FAMILIES[family])
    again = COPIES[way](likelihood)
    z = torch.randn(3, 2)
    assert again.lipschitz_bounds() == likelihood.lipschitz_bounds()
    if family == "multinomial":
        return  # its number of trials comes with the data
    x = likelihood.condition(z).sample()
    ours, theirs = (part.condition(z).log_prob(x) for part in (likelihood, again))
    assert torch.equal(ours, theirs)


@cache
def evaluated():
    return evaluate(small().model, small().guide, X, num_samples=20, leave_out=["evidence"])


REPORTS = {
    "a certificate": lambda: certify(small().likelihood),
    "a certificate of a model": lambda: certify(small().model, X),
    "a collapse report": lambda: collapse_report(drawn()[1]),
    "a comparison": lambda: compare(*drawn()),
    "an autopsy": lambda: autopsy(
        small().model, small().guide, X, num_samples=40, num_chains=2, num_steps=2, seed=0
    ),
    "a witness": lambda: find_witness(small().likelihood, num_starts=2, num_steps=2),
    "a witness of a model": lambda: find_witness(small().model, X, num_starts=2, num_steps=2),
    "an importance estimate": lambda: importance_log_likelihood(
        small().model, small().guide, X, num_samples=40
    ),
    "an evaluation": evaluated,
    "a table of evaluations": lambda: evaluation_table({"a": evaluated(), "b": evaluated()}),
    "consistency": lambda: consistency([X.repeat(4, 1), X.repeat(4, 1) + 0.1]),
    "latents": lambda: Latents.of(drawn()[1]),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports(name):
    report = REPORTS[name]()
    for way in COPIES.values():
        again = way(report)
        assert type(again) is type(report)
        assert str(again) == str(report)


@pytest.mark.parametrize("way", COPIES)
def test_draws(way):
    for data in drawn():
        again = COPIES[way](data)
        for group, dataset in groups_of(data).items():
            assert groups_of(again)[group].identical(dataset)
        assert str(collapse_report(again)) == str(collapse_report(data))


@pytest.mark.parametrize("way", COPIES)
def test_kernels(way):
    kernel = COPIES[way](VectorizedHMC(ProbabilisticPCA(4, 1)))
    assert isinstance(kernel, VectorizedHMC)


def test_a_model_with_priors_on_its_weights_can_be_sent_to_processes():
    """What is sent is pickled; a function defined in a function would not be."""
    model = BayesianModel(small().model, prior=2.0)
    again = pickle.loads(pickle.dumps(model))
    name = model.names[0]
    parameter = small().model.get_parameter(name)
    assert again.names == model.names
    assert float(again.prior(name, parameter).variance.reshape(-1)[0]) == 4.0
