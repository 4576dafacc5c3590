from functools import partial
from statistics import median

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule

from pyro_idvae import IDVAE, VAE, Encoder, fit
from pyro_idvae.distributions import (
    InjectiveNormal,
    InjectivePoisson,
    InjectiveZeroInflated,
    NeuralLikelihood,
    make_family,
)
from pyro_idvae.errors import ArgumentError, DataError, NotInjectiveError, ShapeError
from pyro_idvae.transforms import brenier_injection
from tests.infer.common import ADAM

torch.manual_seed(0)
DATA = {
    "bernoulli": torch.randint(0, 2, (12, 6)).float(),
    "beta": torch.rand(12, 6) * 0.8 + 0.1,
    "binomial": torch.randint(0, 5, (12, 6)).float(),
    "categorical": torch.randint(0, 6, (12,)),
    "gamma": torch.rand(12, 6) + 0.1,
    "laplace": torch.randn(12, 6),
    "multinomial": torch.randint(0, 5, (12, 6)).float() + 1,
    "negativebinomial": torch.randint(0, 5, (12, 6)).float(),
    "normal": torch.randn(12, 6),
    "poisson": torch.randint(0, 5, (12, 6)).float(),
    "studentt": torch.randn(12, 6),
}


def build(family, **options):
    if family == "binomial":
        options["total_count"] = 4
    if family in ("poisson", "negativebinomial", "gamma"):
        # An exponential link turns a steep map into rates of thousands.
        options |= {"strong_convexity": 0.2, "min_singular_value": 0.2}
    return IDVAE(6, 2, family, hidden_dims=[8], encoder_hidden_dims=[8], **options)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("family", sorted(DATA))
def test_every_family_trains(family, covariance):
    vae = build(family, covariance=covariance)
    result = fit(
        vae.model,
        vae.guide,
        DATA[family],
        num_epochs=40,
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        seed=0,
        progress=False,
    )
    assert median(result.losses[-10:]) < median(result.losses[:10])


def test_sites_and_plates_are_those_of_pyros_examples():
    vae = build("normal")
    trace = poutine.trace(vae.model).get_trace(DATA["normal"])
    assert trace.stochastic_nodes == ["data", "latent"]
    assert trace.observation_nodes == ["obs"]
    assert trace.nodes["latent"]["fn"].event_shape == (2,)
    assert [f.name for f in trace.nodes["obs"]["cond_indep_stack"]] == ["data"]
    guide = poutine.trace(vae.guide).get_trace(DATA["normal"])
    assert guide.stochastic_nodes == ["data", "latent"]


def test_model_and_guide_train_under_plain_svi():
    vae = build("normal")
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step(DATA["normal"]) for _ in range(40)]
    assert losses[-1] < losses[0]
    before = [p.detach().clone() for p in vae.parameters()]
    svi.step(DATA["normal"])
    assert all(not torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))


def test_model_and_guide_train_under_an_elbo_module():
    vae = build("normal")
    x = DATA["normal"]
    loss = Trace_ELBO()(vae.model, vae.guide)
    loss(x)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    names = {name for name, _ in loss.named_parameters()}
    assert any("likelihood" in name for name in names)
    assert any("encoder" in name for name in names)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(x)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < losses[0]


def test_priors_of_the_users_choice():
    mixture = dist.MixtureOfDiagNormals(torch.randn(3, 2), torch.ones(3, 2), torch.zeros(3))
    vae = build("normal", prior=mixture)
    fit(vae.model, vae.guide, DATA["normal"], num_epochs=2, progress=False)

    class Learned(PyroModule):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.zeros(2))

        def forward(self):
            return dist.Normal(self.loc, 1.0).to_event(1)

    prior = Learned()
    vae = build("normal", prior=prior)
    fit(vae.model, vae.guide, DATA["normal"], num_epochs=5, progress=False)
    assert prior.loc.abs().sum() > 0
    with pytest.raises(ShapeError, match=r"\.to_event\(1\)"):
        build("normal", prior=dist.Normal(torch.zeros(2), 1.0))


def test_covariates_reach_likelihood_and_encoder():
    vae = build("poisson", covariates=torch.nn.Linear(3, 6), covariate_dim=3)
    data = (DATA["poisson"], torch.randn(12, 3))
    result = fit(vae.model, vae.guide, data, num_epochs=25, seed=0, progress=False)
    assert result.losses[-1] < result.losses[0]
    with pytest.raises(ArgumentError, match="covariate_dim=3"):
        vae.guide(DATA["poisson"])


@pytest.mark.parametrize("family", ["normal", "gamma", "poisson", "beta"])
def test_missing_values_train(family):
    vae = build(family)
    mask = torch.rand(12, 6) < 0.7
    x = torch.where(mask, DATA[family], torch.nan)
    given = {"x": x, "mask": mask}
    result = fit(vae.model, vae.guide, given, optimizer=ADAM, num_epochs=40, seed=0, progress=False)
    assert torch.tensor(result.losses).isfinite().all()
    assert sum(result.losses[-10:]) < sum(result.losses[:10])


def test_a_vae_of_a_wrapped_likelihood():
    likelihood = InjectiveZeroInflated(InjectivePoisson(brenier_injection(2, 6, [8])))
    vae = VAE(likelihood, Encoder(6, 2, [8]))
    result = fit(
        vae.model, vae.guide, DATA["poisson"], optimizer=ADAM, num_epochs=40, seed=0, progress=False
    )
    assert sum(result.losses[-10:]) < sum(result.losses[:10])
    assert vae.likelihood is likelihood
    assert vae.encoder.latent_dim == 2


def test_a_full_covariance_encoder_is_a_multivariate_normal():
    encoder = Encoder(6, 3, [8], covariance="full")
    q = encoder(torch.randn(2, 4, 6))
    assert q.batch_shape == (2, 4)
    factor = q.scale_tril
    assert (factor.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert factor.triu(1).abs().max() == 0
    assert factor.tril(-1).abs().max() > 0


@pytest.mark.parametrize("family", ["normal", "categorical"])
def test_double_precision(family):
    vae = build(family).double()
    x = DATA[family].double() if family == "normal" else DATA[family]
    result = fit(vae.model, vae.guide, x, num_epochs=2, progress=False)
    assert result.num_epochs == 2


def test_covariates_must_be_finite():
    vae = build("poisson", covariates=torch.nn.Linear(3, 6), covariate_dim=3)
    with pytest.raises(DataError, match="covariates has entries"):
        fit(vae.model, vae.guide, (DATA["poisson"], torch.full((12, 3), torch.nan)))


@pytest.mark.parametrize(
    ("family", "data_dim", "free"), [("normal", 4, 4), ("categorical", 5, 4), ("multinomial", 5, 4)]
)
def test_a_latent_larger_than_the_free_parameters_is_refused(family, data_dim, free):
    IDVAE(data_dim, free, family)
    with pytest.raises(NotInjectiveError, match=f"latent_dim=5 is larger than the {free} free"):
        IDVAE(data_dim, 5, family)


def test_bad_arguments_are_named():
    with pytest.raises(ArgumentError, match="likelihood is a Linear"):
        VAE(torch.nn.Linear(2, 2), Encoder(6, 2))
    with pytest.raises(ShapeError, match="the encoder has latent_dim=3"):
        VAE(InjectiveNormal(brenier_injection(2, 6)), Encoder(6, 3))
    with pytest.raises(ArgumentError, match="covariance='tied'"):
        Encoder(6, 2, covariance="tied")
    with pytest.raises(ArgumentError, match="family='bernouli'"):
        IDVAE(6, 2, "bernouli")
    with pytest.raises(ArgumentError, match="strong_convexity=-1"):
        IDVAE(6, 2, strong_convexity=-1.0)
    with pytest.raises(ShapeError, match="x has shape"):
        Encoder(6, 2)(torch.zeros(3, 5))


def test_a_baseline_shares_everything_but_the_decoder():
    decoder = NeuralLikelihood(make_family("normal"), torch.nn.Linear(2, 6))
    vae = VAE(decoder, Encoder(6, 2, [8]))
    assert not vae.likelihood.identifiable
    fit(vae.model, vae.guide, DATA["normal"], num_epochs=1, progress=False)
