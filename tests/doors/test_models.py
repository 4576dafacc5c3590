"""Arguments that models, guides and encoders refuse."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_idvae.distributions import InjectiveNormal
from pyro_idvae.errors import ArgumentError, NotInjectiveError, ShapeError
from pyro_idvae.models import (
    IDVAE,
    VAE,
    BayesianModel,
    Encoder,
    GaussianMixture,
    ProbabilisticPCA,
    VAEGuide,
    VAEModel,
    mlp,
)
from pyro_idvae.transforms import brenier_injection
from tests.doors.common import data, small, told

X = data()
normal = InjectiveNormal(brenier_injection(2, 5, hidden_dims=[8]))

REFUSED = [
    (lambda: IDVAE(0, 2), ArgumentError, "data_dim=0: expected an integer of at least 1"),
    (lambda: IDVAE(5, 0), ArgumentError, "latent_dim=0: expected an integer of at least 1"),
    (
        lambda: IDVAE(5, 6),
        NotInjectiveError,
        "latent_dim=6 is larger than the 5 free parameters of a bernoulli likelihood",
    ),
    (lambda: IDVAE(5, 2.5), ArgumentError, "latent_dim=2.5: expected an integer of at least 1"),
    (lambda: IDVAE("a", 2), ArgumentError, "data_dim='a': expected an integer of at least 1"),
    (
        lambda: IDVAE(5, 2, "foo"),
        ArgumentError,
        "family='foo': expected one of bernoulli, beta, binomial, categorical, gamma,",
    ),
    (
        lambda: IDVAE(5, 2, 3),
        ArgumentError,
        "family=3: expected one of bernoulli, beta, binomial, categorical, gamma,",
    ),
    (
        lambda: IDVAE(5, 2, "normal", foo=3),
        ArgumentError,
        "['foo'] is no argument of NormalFamily: it takes scale, learn_scale",
    ),
    (
        lambda: IDVAE(5, 2, "normal", hidden_dims=[]),
        ArgumentError,
        "hidden_dims=[]: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: IDVAE(5, 2, "normal", encoder_hidden_dims=[]),
        ArgumentError,
        "hidden_dims=[]: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: IDVAE(5, 2, "normal", encoder_hidden_dims=3),
        ArgumentError,
        "hidden_dims=3: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: IDVAE(5, 2, "normal", covariance="foo"),
        ArgumentError,
        "covariance='foo': expected 'diagonal' or 'full'",
    ),
    (
        lambda: IDVAE(5, 2, "normal", prior=3),
        ArgumentError,
        "prior is a int: expected a Pyro distribution, or a module that returns one",
    ),
    (
        lambda: IDVAE(5, 2, "normal", prior="normal"),
        ArgumentError,
        "prior is a str: expected a Pyro distribution, or a module that returns one",
    ),
    (
        lambda: IDVAE(5, 2, "normal", prior=dist.Normal(0.0, 1.0)),
        ShapeError,
        "prior has event shape () but the likelihood has latent_dim=2: declare",
    ),
    (
        lambda: IDVAE(5, 2, "normal", prior=dist.Normal(torch.zeros(3), 1.0).to_event(1)),
        ShapeError,
        "prior has event shape (3,) but the likelihood has latent_dim=2: declare",
    ),
    (
        lambda: IDVAE(5, 2, "normal", prior=lambda: dist.Normal(torch.zeros(2), 1.0).to_event(1)),
        ArgumentError,
        "prior is a function: expected a Pyro distribution, or a module that returns one",
    ),
    (
        lambda: IDVAE(5, 2, "normal", covariates=3),
        ArgumentError,
        "covariates=given with covariate_dim=0: likelihood and encoder both take them,",
    ),
    (
        lambda: IDVAE(5, 2, "normal", covariate_dim=-1),
        ArgumentError,
        "covariates=None with covariate_dim=-1: likelihood and encoder both take them,",
    ),
    (
        lambda: IDVAE(5, 2, "normal", covariates=nn.Linear(2, 5)),
        ArgumentError,
        "covariates=given with covariate_dim=0: likelihood and encoder both take them,",
    ),
    (
        lambda: IDVAE(5, 2, "normal", covariate_dim=2),
        ArgumentError,
        "covariates=None with covariate_dim=2: likelihood and encoder both take them, or",
    ),
    (
        lambda: IDVAE(5, 2, "normal", rate_window=(1.0, 2.0), lipschitz_bounds=(1.0, 2.0)),
        ArgumentError,
        "rate_window sets lipschitz_bounds: leave out one of them",
    ),
    (
        lambda: IDVAE(5, 2, "bernoulli", rate_window=(1.0, 2.0)),
        ArgumentError,
        "rate_window=(1.0, 2.0): nats are guaranteed for the normal family only, not for",
    ),
    (
        lambda: IDVAE(5, 2, "normal", rate_window=(2.0, 1.0)),
        ArgumentError,
        "high=1.0: expected a finite number of at least 2",
    ),
    (
        lambda: IDVAE(5, 2, "normal", rate_window=3.0),
        ArgumentError,
        "rate_window=3.0: expected a pair of numbers (least, most)",
    ),
    (
        lambda: IDVAE(5, 2, "normal", rate_window=(1.0, 1e9)),
        ArgumentError,
        "high=1000000000.0 with latent_dim=2: M = exp(high / latent_dim) is beyond",
    ),
    (
        lambda: IDVAE(5, 2, "normal", lipschitz_bounds=(2.0, 1.0)),
        ArgumentError,
        "lipschitz_bounds[1]=1.0: expected a finite number of at least 2",
    ),
    (
        lambda: IDVAE(5, 2, "normal", strong_convexity=-1.0),
        ArgumentError,
        "strong_convexity=-1.0: expected a finite number above 0",
    ),
    (
        lambda: IDVAE(5, 2, "categorical", covariate_dim=True),
        ArgumentError,
        "covariates=None with covariate_dim=True: likelihood and encoder both take them,",
    ),
    (
        lambda: IDVAE(1, 1, "categorical"),
        ArgumentError,
        "num_categories=1: expected an integer of at least 2",
    ),
    (
        lambda: VAE(3, Encoder(5, 2)),
        ArgumentError,
        "likelihood is a int: pass an injective likelihood or a NeuralLikelihood",
    ),
    (
        lambda: VAE(normal, 3),
        ArgumentError,
        "encoder is a int: expected a module from observations to a distribution of z",
    ),
    (
        lambda: VAE(normal, Encoder(5, 3)),
        ShapeError,
        "the encoder has latent_dim=3 but the likelihood has latent_dim=2: they must be",
    ),
    (
        lambda: VAE(normal, None),
        ArgumentError,
        "encoder is a NoneType: expected a module from observations to a distribution of",
    ),
    (
        lambda: VAEModel(3),
        ArgumentError,
        "likelihood is a int: pass an injective likelihood or a NeuralLikelihood",
    ),
    (
        lambda: VAEModel(normal, prior=3),
        ArgumentError,
        "prior is a int: expected a Pyro distribution, or a module that returns one",
    ),
    (
        lambda: VAEGuide(3, 3),
        ArgumentError,
        "encoder is a int: expected a module from observations to a distribution of z",
    ),
    (
        lambda: VAEGuide(Encoder(5, 2), None),
        ArgumentError,
        "prepare is a NoneType: expected a function of (x, mask)",
    ),
    (
        lambda: BayesianModel(3),
        ArgumentError,
        "model is a int: pass a module, such as vae.model; a function can name its",
    ),
    (
        lambda: BayesianModel(lambda x: None),
        ArgumentError,
        "model is a function: pass a module, such as vae.model; a function can name its",
    ),
    (
        lambda: BayesianModel(nn.ReLU()),
        ArgumentError,
        "model has no parameters that require grad: nothing gets a prior",
    ),
    (
        lambda: BayesianModel(small().model, prior=0),
        ArgumentError,
        "prior=0: expected a finite number above 0",
    ),
    (
        lambda: BayesianModel(small().model, prior=-1.0),
        ArgumentError,
        "prior=-1.0: expected a finite number above 0",
    ),
    (
        lambda: BayesianModel(small().model, prior="a"),
        ArgumentError,
        "prior='a': expected a finite number above 0",
    ),
    (
        lambda: BayesianModel(small().model, prior=lambda n, p: 3)(X),
        ArgumentError,
        "prior of 'likelihood.injection.g1.potential.shift' is a int: expected a Pyro",
    ),
    (
        lambda: BayesianModel(small().model, prior=lambda n, p: dist.Normal(0.0, 1.0))(X),
        ShapeError,
        "prior of 'likelihood.injection.g1.potential.shift' has shape (): expected that",
    ),
    (
        lambda: BayesianModel(small())(X),
        ArgumentError,
        "model is a IDVAE, which has a guide too: pass its .model",
    ),
    (lambda: Encoder(0, 2), ArgumentError, "input_dim=0: expected an integer of at least 1"),
    (lambda: Encoder(5, 0), ArgumentError, "latent_dim=0: expected an integer of at least 1"),
    (
        lambda: Encoder(5, 2, []),
        ArgumentError,
        "hidden_dims=[]: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: Encoder(5, 2, "abc"),
        ArgumentError,
        "hidden_dims='abc': expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: Encoder(5, 2, covariance="foo"),
        ArgumentError,
        "covariance='foo': expected 'diagonal' or 'full'",
    ),
    (
        lambda: Encoder(5, 2, activation=3),
        ArgumentError,
        "activation is a int: expected a constructor such as nn.ReLU",
    ),
    (
        lambda: Encoder(5, 2)(torch.zeros(7, 4)),
        ShapeError,
        "x has shape (7, 4): expected the last dimension to be 5",
    ),
    (
        lambda: Encoder(5, 2)(np.zeros((7, 5))),
        ArgumentError,
        "x is a ndarray: expected a torch.Tensor",
    ),
    (
        lambda: Encoder(5, 2)(torch.zeros(7, 5), torch.zeros(7, 1)),
        ArgumentError,
        "covariates=given: the encoder was built with covariate_dim=0",
    ),
    (
        lambda: Encoder(5, 2, covariate_dim=1)(torch.zeros(7, 5)),
        ArgumentError,
        "covariates=None: the encoder was built with covariate_dim=1",
    ),
    (
        lambda: mlp([]),
        ArgumentError,
        "widths=[]: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (lambda: mlp([3]), ArgumentError, "widths=[3]: expected at least an input and an output"),
    (lambda: mlp([3, 0]), ArgumentError, "widths entry=0: expected an integer of at least 1"),
    (
        lambda: mlp(3),
        ArgumentError,
        "widths=3: expected a non-empty list of layer widths, e.g. [64]",
    ),
    (
        lambda: mlp([3, 2], activation=3),
        ArgumentError,
        "activation is a int: expected a constructor such as nn.ReLU",
    ),
    (
        lambda: GaussianMixture(concentration=0),
        ArgumentError,
        "concentration=0: expected a finite number above 0",
    ),
    (
        lambda: GaussianMixture(mean_scale=-1),
        ArgumentError,
        "mean_scale=-1: expected a finite number above 0",
    ),
    (
        lambda: GaussianMixture(scale_scale="a"),
        ArgumentError,
        "scale_scale='a': expected a finite number above 0",
    ),
    (
        lambda: ProbabilisticPCA(0, 1),
        ArgumentError,
        "data_dim=0: expected an integer of at least 1",
    ),
    (
        lambda: ProbabilisticPCA(5, 1, scale=0),
        ArgumentError,
        "scale=0: expected a finite number above 0",
    ),
    (
        lambda: ProbabilisticPCA(5, 1, loading_scale=-1),
        ArgumentError,
        "loading_scale=-1: expected a finite number above 0",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_bad_arguments_are_named(call, kind, message):
    told(call, kind, message)
