"""Arguments that families and likelihoods refuse, and what they are called with."""

import numpy as np
import pytest
import torch
from torch import nn

from pyro_idvae.distributions import (
    BinomialFamily,
    InjectiveBeta,
    InjectiveBinomial,
    InjectiveGamma,
    InjectiveLaplace,
    InjectiveMultinomial,
    InjectiveNegativeBinomial,
    InjectiveNormal,
    InjectivePoisson,
    InjectiveStudentT,
    InjectiveZeroInflated,
    NeuralLikelihood,
    NormalFamily,
    ZeroInflatedFamily,
    information_window,
    lipschitz_bounds_for,
    make_family,
    make_injective,
)
from pyro_idvae.errors import ArgumentError, ShapeError
from pyro_idvae.transforms import brenier_injection
from tests.doors.common import told

f = brenier_injection(2, 5, hidden_dims=[8])
normal = InjectiveNormal(f)

REFUSED = [
    (
        lambda: InjectiveNormal(3),
        ArgumentError,
        "injection is a int: pass an Injection, e.g. brenier_injection(2, 5); for any",
    ),
    (
        lambda: InjectiveNormal(nn.Linear(2, 5)),
        ArgumentError,
        "injection is a Linear: pass an Injection, e.g. brenier_injection(2, 5); for any",
    ),
    (
        lambda: InjectiveNormal(f, scale=0),
        ArgumentError,
        "scale=0: expected a finite number above 0",
    ),
    (
        lambda: InjectiveNormal(f, scale=-1.0),
        ArgumentError,
        "scale=-1.0: expected a finite number above 0",
    ),
    (
        lambda: InjectiveNormal(f, scale="a"),
        ArgumentError,
        "scale='a': expected a finite number above 0",
    ),
    (
        lambda: InjectiveNormal(f, scale=torch.zeros(5)),
        ArgumentError,
        "scale must be positive and finite, in floating point: got tensor([0., 0.",
    ),
    (
        lambda: InjectiveNormal(f, scale=torch.ones(4)),
        ShapeError,
        "scale of the family has shape (4,): expected one number, or one for each of the",
    ),
    (
        lambda: InjectiveNormal(f, scale=torch.full((5,), float("nan"))),
        ArgumentError,
        "scale must be positive and finite, in floating point: got tensor([nan",
    ),
    (
        lambda: InjectiveNormal(f, scale=torch.full((5,), float("inf"))),
        ArgumentError,
        "scale must be positive and finite, in floating point: got tensor([inf",
    ),
    (
        lambda: InjectiveNormal(f, scale=torch.ones(5).long()),
        ArgumentError,
        "scale must be positive and finite, in floating point: got tensor([1",
    ),
    (
        lambda: InjectiveNormal(f, covariates=3),
        ArgumentError,
        "covariates is a int: expected a module from covariates to shifts of η",
    ),
    (
        lambda: InjectiveBinomial(f, 0),
        ArgumentError,
        "total_count=0: expected an integer of at least 1",
    ),
    (
        lambda: InjectiveBinomial(f, 1.5),
        ArgumentError,
        "total_count=1.5: expected an integer of at least 1",
    ),
    (
        lambda: InjectiveBinomial(f, "a"),
        ArgumentError,
        "total_count='a': expected an integer of at least 1",
    ),
    (lambda: InjectiveStudentT(f, df=0), ArgumentError, "df=0: expected a finite number above 0"),
    (
        lambda: InjectiveStudentT(f, df=float("inf")),
        ArgumentError,
        "df=inf: expected a finite number above 0",
    ),
    (
        lambda: InjectiveGamma(f, concentration=-1.0),
        ArgumentError,
        "concentration=-1.0: expected a finite number above 0",
    ),
    (
        lambda: InjectiveBeta(f, precision=0.0),
        ArgumentError,
        "precision=0.0: expected a finite number above 0",
    ),
    (
        lambda: InjectiveNegativeBinomial(f, concentration=0.0),
        ArgumentError,
        "concentration=0.0: expected a finite number above 0",
    ),
    (
        lambda: InjectiveLaplace(f, scale=0.0),
        ArgumentError,
        "scale=0.0: expected a finite number above 0",
    ),
    (
        lambda: InjectiveZeroInflated(normal),
        ArgumentError,
        "base is a InjectiveNormal: zero inflation wraps an injective Poisson,",
    ),
    (
        lambda: InjectiveZeroInflated(InjectivePoisson(f), gate=0.0),
        ArgumentError,
        "gate=0.0: expected a finite number above 0 below 1",
    ),
    (
        lambda: InjectiveZeroInflated(InjectivePoisson(f), gate=1.0),
        ArgumentError,
        "gate=1.0: expected a finite number above 0 below 1",
    ),
    (
        lambda: InjectiveZeroInflated(3),
        ArgumentError,
        "base is a int: zero inflation wraps an injective Poisson, NegativeBinomial or",
    ),
    (
        lambda: ZeroInflatedFamily(NormalFamily()),
        ArgumentError,
        "base is a NormalFamily: pass a family of counts",
    ),
    (lambda: ZeroInflatedFamily(3), ArgumentError, "base is a int: pass a family of counts"),
    (
        lambda: BinomialFamily(-1),
        ArgumentError,
        "total_count=-1: expected an integer of at least 1",
    ),
    (
        lambda: make_family("foo"),
        ArgumentError,
        "family='foo': expected one of bernoulli, beta, binomial, categorical, gamma,",
    ),
    (
        lambda: make_family(3),
        ArgumentError,
        "family=3: expected one of bernoulli, beta, binomial, categorical, gamma,",
    ),
    (
        lambda: make_family("normal", foo=1),
        ArgumentError,
        "['foo'] is no argument of NormalFamily: it takes scale, learn_scale",
    ),
    (
        lambda: make_family("binomial", total_count=0),
        ArgumentError,
        "total_count=0: expected an integer of at least 1",
    ),
    (
        lambda: make_injective("foo", f),
        ArgumentError,
        "family='foo': expected one of bernoulli, beta, binomial, categorical, gamma,",
    ),
    (
        lambda: make_injective("normal", 3),
        ArgumentError,
        "injection is a int: pass an Injection, e.g. brenier_injection(2, 5); for any",
    ),
    (
        lambda: make_injective("normal", f, foo=1),
        ArgumentError,
        "['foo'] is no argument of InjectiveNormal: it takes injection, scale,",
    ),
    (
        lambda: NeuralLikelihood(3, nn.Linear(2, 5)),
        ArgumentError,
        "family is a int: expected a Family such as NormalFamily()",
    ),
    (
        lambda: NeuralLikelihood(make_family("normal"), 3),
        ArgumentError,
        "network is a int: expected a module, e.g. nn.Linear(2, 5)",
    ),
    (
        lambda: NeuralLikelihood(make_family("normal"), nn.ReLU()),
        ArgumentError,
        "network has no nn.Linear to read its sizes off: pass latent_dim and",
    ),
    (
        lambda: normal(torch.zeros(7, 3)),
        ShapeError,
        "z has shape (7, 3): expected the last dimension to be 2",
    ),
    (lambda: normal(np.zeros((7, 2))), ArgumentError, "z is a ndarray: expected a torch.Tensor"),
    (
        lambda: normal(torch.zeros(7, 2).double()),
        ArgumentError,
        "x has dtype torch.float64 but the potential has torch.float32: convert one,",
    ),
    (
        lambda: normal(torch.zeros(7, 2), torch.zeros(7, 1)),
        ArgumentError,
        "covariates were given to a likelihood built without them: pass",
    ),
    (
        lambda: normal(torch.zeros(7, 2), mask=torch.ones(7, 4).bool()),
        ShapeError,
        "mask has dtype torch.bool and shape (7, 4): expected torch.bool and a shape",
    ),
    (
        lambda: normal(torch.zeros(7, 2), mask=torch.ones(7, 5)),
        ShapeError,
        "mask has dtype torch.float32 and shape (7, 5): expected torch.bool and a shape",
    ),
    (
        lambda: normal(torch.zeros(7, 2), mask="a"),
        ArgumentError,
        "mask is a str: expected a torch.Tensor of torch.bool",
    ),
    (
        lambda: normal(torch.zeros(7, 2), total_count=3),
        ArgumentError,
        "total_count was given, but a normal likelihood has none; a library size of",
    ),
    (
        lambda: normal.check_data(np.zeros((7, 5))),
        ArgumentError,
        "x is a ndarray: expected a torch.Tensor",
    ),
    (
        lambda: normal.check_data(torch.zeros(7, 4)),
        ShapeError,
        "x has shape (7, 4): expected batch + (5,)",
    ),
    (lambda: normal.check_data("abc"), ArgumentError, "x is a str: expected a torch.Tensor"),
    (
        lambda: normal.check_data(torch.zeros(7, 5), mask=torch.ones(7, 4).bool()),
        ShapeError,
        "mask has dtype torch.bool and shape (7, 4): expected torch.bool and a shape",
    ),
    (
        lambda: InjectiveNormal(f, covariates=nn.Linear(1, 5))(torch.zeros(7, 2)),
        ArgumentError,
        "covariates=None: this likelihood was built with covariates",
    ),
    (
        lambda: InjectiveNormal(f, covariates=nn.Linear(1, 4))(
            torch.zeros(7, 2), torch.zeros(7, 1)
        ),
        ShapeError,
        "covariates of shape (7, 1) give a shift of shape (7, 4): expected one that",
    ),
    (
        lambda: InjectiveNormal(f, covariates=nn.Linear(1, 5))(
            torch.zeros(7, 2), torch.zeros(6, 1)
        ),
        ShapeError,
        "covariates of shape (6, 1) give a shift of shape (6, 5): expected one that",
    ),
    (
        lambda: InjectiveNormal(f, covariates=nn.Linear(1, 5))(torch.zeros(7, 2), np.zeros((7, 1))),
        ArgumentError,
        "covariates is a ndarray: expected a torch.Tensor",
    ),
    (
        lambda: InjectiveBinomial(f, 3)(torch.zeros(7, 2), total_count=-1),
        ShapeError,
        "total_count -1: expected counts from 0 that broadcast to (7, 5)",
    ),
    (
        lambda: InjectiveBinomial(f, 3)(torch.zeros(7, 2), total_count=torch.tensor(-1)),
        ShapeError,
        "total_count tensor(-1): expected counts from 0 that broadcast to (7, 5)",
    ),
    (
        lambda: InjectiveBinomial(f, 3)(torch.zeros(7, 2), total_count="a"),
        ShapeError,
        "total_count 'a': expected counts from 0 that broadcast to (7, 5)",
    ),
    (
        lambda: InjectiveMultinomial(f)(torch.zeros(7, 2)),
        ArgumentError,
        "total_count=None: a multinomial likelihood needs the library size of each row,",
    ),
    (
        lambda: InjectiveMultinomial(f)(torch.zeros(7, 2), total_count="a"),
        ShapeError,
        "total_count 'a': expected counts from 0 that broadcast to (7,)",
    ),
    (
        lambda: InjectiveMultinomial(f)(torch.zeros(7, 2), total_count=torch.ones(6)),
        ShapeError,
        "total_count of shape (6,): expected counts from 0 that broadcast to (7,)",
    ),
    (
        lambda: information_window((1.0, 2.0), 0),
        ArgumentError,
        "latent_dim=0: expected an integer of at least 1",
    ),
    (
        lambda: information_window((2.0, 1.0), 3),
        ArgumentError,
        "lipschitz_bounds[1]=1.0: expected a finite number of at least 2",
    ),
    (
        lambda: information_window((0.0, 1.0), 3),
        ArgumentError,
        "lipschitz_bounds[0]=0.0: expected a finite number above 0",
    ),
    (
        lambda: information_window(3.0, 3),
        ArgumentError,
        "lipschitz_bounds=3.0: expected a pair of numbers (least, most)",
    ),
    (
        lambda: information_window(None, 3),
        ArgumentError,
        "lipschitz_bounds=None: expected a pair of numbers (least, most)",
    ),
    (
        lambda: lipschitz_bounds_for(low=0, high=1, latent_dim=2),
        ArgumentError,
        "low=0: expected a finite number above 0",
    ),
    (
        lambda: lipschitz_bounds_for(low=2.0, high=1.0, latent_dim=2),
        ArgumentError,
        "high=1.0: expected a finite number of at least 2",
    ),
    (
        lambda: lipschitz_bounds_for(low="a", high=1, latent_dim=2),
        ArgumentError,
        "low='a': expected a finite number above 0",
    ),
    (
        lambda: lipschitz_bounds_for(low=1.0, high=2.0, latent_dim=0),
        ArgumentError,
        "latent_dim=0: expected an integer of at least 1",
    ),
    (
        lambda: lipschitz_bounds_for(low=1.0, high=1e6, latent_dim=2),
        ArgumentError,
        "high=1000000.0 with latent_dim=2: M = exp(high / latent_dim) is beyond floating",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_bad_arguments_are_named(call, kind, message):
    told(call, kind, message)
