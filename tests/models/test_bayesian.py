import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule

from pyro_idvae import IDVAE, VAE, BayesianModel, Encoder, fit, mcmc
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError, ShapeError


class Line(PyroModule):
    """x ~ N(a t, 1) for known t: with a ~ N(0, 1) the posterior is Normal in closed form."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([5.0]))
        self.fixed = torch.nn.Parameter(torch.tensor(0.0), requires_grad=False)

    def forward(self, t, x):
        loc = self.slope * t + self.fixed
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def test_nuts_finds_the_posterior_of_a_parameter():
    t = torch.linspace(-1, 1, 20)
    x = 0.7 * t + 0.1
    model = Line()
    draws = mcmc(
        BayesianModel(model),
        (t, x),
        num_samples=300,
        warmup_steps=60,
        num_chains=2,
        seed=0,
        progress=False,
    )
    slope = groups_of(draws)["posterior"]["slope"].values
    precision = 1 + float((t * t).sum())
    wanted = float((t * x).sum()) / precision
    error = precision**-0.5 / 150**0.5  # a quarter of the draws count
    assert abs(slope.mean() - wanted) < 4 * error
    assert slope.std() == pytest.approx(precision**-0.5, rel=0.15)
    assert model.slope.item() == 5.0
    assert model.slope.requires_grad
    assert not list(pyro.get_param_store().keys())


def test_the_joint_density_is_prior_times_model_at_the_drawn_parameters():
    torch.manual_seed(0)
    vae = VAE(NeuralLikelihood(make_family("normal"), torch.nn.Linear(2, 3)), Encoder(3, 2, [4]))
    model = BayesianModel(vae.model, prior=0.5)
    x = torch.randn(4, 3)
    trace = poutine.trace(model).get_trace(x)
    trace.compute_log_prob()
    weight = trace.nodes["likelihood.network.weight"]["value"]
    bias = trace.nodes["likelihood.network.bias"]["value"]
    z = trace.nodes["latent"]["value"]
    assert weight.shape == (3, 2)
    wanted = dist.Normal(z @ weight.T + bias, 1.0).log_prob(x).sum(-1)
    torch.testing.assert_close(trace.nodes["obs"]["log_prob"], wanted)
    prior = dist.Normal(0.0, 0.5).log_prob(weight).sum()
    torch.testing.assert_close(trace.nodes["likelihood.network.weight"]["log_prob"], prior)
    assert not any(node["type"] == "param" for node in trace.nodes.values())


def test_priors_by_name():
    def prior(name, parameter):
        scale = 0.1 if name.endswith("bias") else 2.0
        return dist.Normal(parameter, scale)

    vae = IDVAE(3, 1, "normal", hidden_dims=[4], encoder_hidden_dims=[4])
    trace = poutine.trace(BayesianModel(vae.model, prior)).get_trace(torch.randn(2, 3))
    site = trace.nodes["likelihood.injection.g2.potential.bias"]["fn"]
    assert site.event_shape == (4,)
    assert site.base_dist.scale.unique() == 0.1
    own = vae.likelihood.injection.g2.potential.bias
    torch.testing.assert_close(site.base_dist.loc, own.detach())


def test_a_small_injective_decoder_by_nuts():
    torch.manual_seed(0)
    vae = IDVAE(2, 1, "normal", scale=0.5, hidden_dims=[2], encoder_hidden_dims=[4])
    model = BayesianModel(vae.model, prior=lambda name, p: dist.Normal(p, 0.1))
    x = torch.randn(4, 2)
    draws = mcmc(
        model,
        x,
        num_samples=10,
        warmup_steps=10,
        num_chains=1,
        kernel_options={"max_tree_depth": 4},
        seed=0,
        progress=False,
    )
    groups = groups_of(draws)
    assert np.isfinite(groups["log_likelihood"]["obs"]).all()
    names = {f"likelihood.injection.{n}" for n, _ in vae.likelihood.injection.named_parameters()}
    assert names | {"latent"} == set(groups["posterior"].data_vars)


def test_guides_are_fitted_to_it():
    t = torch.linspace(-1, 1, 20)
    model = BayesianModel(Line())
    guide = AutoNormal(model)
    fit(model, guide, (t, 0.7 * t), num_epochs=300, seed=0, progress=False,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.02))  # fmt: skip
    wanted = float(0.7 * (t * t).sum() / (1 + (t * t).sum()))
    assert guide.median()["slope"].item() == pytest.approx(wanted, abs=0.1)


def test_bad_input_is_refused():
    vae = IDVAE(3, 1, "normal", hidden_dims=[4], encoder_hidden_dims=[4])
    with pytest.raises(ArgumentError, match="model is a function"):
        BayesianModel(lambda x: None)
    with pytest.raises(ArgumentError, match="prior=-1"):
        BayesianModel(vae.model, prior=-1.0)
    with pytest.raises(ArgumentError, match="no parameters"):
        BayesianModel(torch.nn.ReLU())
    model = BayesianModel(vae.model, lambda name, p: dist.Normal(torch.zeros(7), 1.0))
    with pytest.raises(ShapeError, match=r"has shape \(7,\)"):
        model(torch.randn(2, 3))
    with pytest.raises(ValueError, match="not finite"):
        mcmc(BayesianModel(vae.model), torch.full((2, 3), torch.nan))
    with pytest.raises(ArgumentError, match="not in the data plate"):
        mcmc(BayesianModel(vae.model), torch.randn(2, 3), kernel="vectorized")
