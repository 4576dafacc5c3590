"""Every module can be made a ``PyroModule`` after the fact, and then computes the same."""

import copy
import pickle

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule
from pyro.nn.module import to_pyro_module_

from pyro_idvae import distributions, models, potentials, transforms
from pyro_idvae.distributions import InjectiveNormal, NeuralLikelihood, make_family
from pyro_idvae.models import (
    IDVAE,
    VAE,
    BayesianModel,
    Encoder,
    GaussianMixture,
    ProbabilisticPCA,
    mlp,
)
from pyro_idvae.transforms import brenier_injection
from tests.testing import table

CLASSES = [
    value
    for module in (potentials, transforms, distributions, models)
    for value in (getattr(module, name) for name in module.__all__)
    if isinstance(value, type) and issubclass(value, torch.nn.Module)
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_public_module_class_has_a_pyro_module(cls):
    made = PyroModule[cls]
    assert issubclass(made, cls)
    assert issubclass(made, PyroModule)
    assert PyroModule[cls] is made


def same_after_conversion(module, compute):
    """Check a converted copy, a pickled one of that, and the conversion of each part."""
    converted = copy.deepcopy(module)  # before it is used: Pyro converts nothing used alone
    wanted = compute(module)
    to_pyro_module_(converted)
    assert isinstance(converted, PyroModule)
    assert isinstance(converted, type(module))
    assert all(isinstance(part, PyroModule) for part in converted.modules())
    for other in (converted, pickle.loads(pickle.dumps(converted)), copy.deepcopy(converted)):
        pyro.clear_param_store()
        for found, value in zip(compute(other), wanted, strict=True):
            assert torch.equal(found, value)
    assert len(list(converted.parameters())) == len(list(module.parameters()))


@pytest.mark.parametrize("name", table.POTENTIALS)
def test_potentials(name):
    potential = table.POTENTIALS[name]()
    x = torch.randn(4, potential.dim)
    same_after_conversion(potential, lambda p: (p(x), *p.gradient_and_hessian(x), p.smoothness()))


@pytest.mark.parametrize("name", table.CONDITIONAL_POTENTIALS)
def test_conditional_potentials(name):
    potential = table.CONDITIONAL_POTENTIALS[name]()
    x, context = torch.randn(4, 3), torch.randn(4, 2)
    same_after_conversion(
        potential,
        lambda p: (p(x, context), p.condition(context).gradient(x), p.gradient(x, context)),
    )


@pytest.mark.parametrize(
    ("cases", "name"),
    [
        (cases, name)
        for cases in (table.BIJECTIONS, table.INJECTIONS)
        for name in cases
        if name != "helmert"
    ],
)
def test_transforms(cases, name):
    transform = cases[name].make()
    x = torch.randn(4, cases[name].input_dim)

    def compute(t):
        y, log_det = t.call_and_ladj(x)
        return y, log_det, t.inv(y.detach()), torch.tensor(t.lipschitz_bounds())

    same_after_conversion(transform, compute)


@pytest.mark.parametrize("name", table.CONDITIONAL_BIJECTIONS)
def test_conditional_transforms(name):
    transform = table.CONDITIONAL_BIJECTIONS[name].make()
    x, context = torch.randn(4, 3), torch.randn(4, 2)
    same_after_conversion(transform, lambda t: t.condition(context).call_and_ladj(x))


@pytest.mark.parametrize("name", table.FAMILIES)
def test_families(name):
    case = table.FAMILIES[name]
    family = case.make()
    size = family.parameter_dim(3)
    eta = torch.randn(4, size)
    x = family(eta, case.total_count).sample()
    same_after_conversion(
        family,
        lambda f: (
            f(eta, case.total_count).log_prob(x),
            f.standardize(x, size),
            f.initial_eta(x, size),
        ),
    )


@pytest.mark.parametrize("name", table.LIKELIHOODS)
def test_likelihoods(name):
    case = table.LIKELIHOODS[name]
    likelihood = case.make()
    z = torch.randn(4, likelihood.latent_dim)
    x = likelihood.condition(z, **case.options).sample()
    same_after_conversion(
        likelihood, lambda lik: (lik.condition(z, **case.options).log_prob(x), lik.eta(z))
    )


def traced(program, *args):
    pyro.set_rng_seed(0)
    return (poutine.trace(program).get_trace(*args).log_prob_sum(),)


X = torch.randn(6, 5)
PAIRS = {
    "idvae": lambda: IDVAE(5, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8]),
    "vae": lambda: VAE(
        NeuralLikelihood(make_family("normal"), mlp([2, 8, 5])),
        Encoder(5, 2, [8], covariance="full"),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_model_and_guide(name):
    vae = PAIRS[name]()
    same_after_conversion(vae, lambda v: (*traced(v.model, X), *traced(v.guide, X)))
    pyro.clear_param_store()
    vae = PAIRS[name]()
    to_pyro_module_(vae)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    before = [parameter.detach().clone() for parameter in vae.parameters()]
    svi.step(X)
    assert not any(map(torch.equal, before, vae.parameters()))


def test_models_that_are_pyro_modules_already():
    likelihood = InjectiveNormal(brenier_injection(2, 5, hidden_dims=[8]))
    for model, data in (
        (models.VAEModel(likelihood), X),
        (GaussianMixture(), X[:, 0]),
        (ProbabilisticPCA(5, 2), X),
    ):
        same_after_conversion(model, lambda m, data=data: traced(m, data))


def test_a_bayesian_model_of_a_converted_one():
    model = models.VAEModel(InjectiveNormal(brenier_injection(2, 5, hidden_dims=[8])))
    to_pyro_module_(model)
    bayesian = BayesianModel(model)
    wanted = traced(bayesian, X)
    to_pyro_module_(bayesian)
    assert traced(bayesian, X) == wanted
