import importlib
import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule

from pyro_idvae import IDVAE, VAE, AutoInjectiveLaplace, Encoder, autopsy, fit, from_guide, mcmc
from pyro_idvae.datasets import digits
from pyro_idvae.diagnostics.autopsy.kept import information_kept
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.errors import ArgumentError, DataError, SiteMismatchError
from pyro_idvae.models import mlp

OPTIONS = {"num_samples": 100, "num_chains": 4, "num_steps": 300, "seed": 0}
ADAM = partial(torch.optim.Adam, lr=0.01)


class PCA(PyroModule):
    """Probabilistic PCA at given loadings."""

    def __init__(self, w, scale=0.5):
        super().__init__()
        self.w, self.scale = w, scale

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.w.shape[1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.w.mT, self.scale).to_event(1), obs=x)


class AmortisedGuide(PyroModule):
    def __init__(self, data_dim, latent_dim, **options):
        super().__init__()
        self.encoder = Encoder(data_dim, latent_dim, [32], **options)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.encoder(x))


class PriorGuide(PyroModule):
    """Ignores what it is given."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def pca_data(rows=100, scale=0.5):
    generator = torch.Generator().manual_seed(1)
    w = torch.tensor([[2.0], [-1.0], [1.0], [0.5], [0.0]])
    z = torch.randn(rows, 1, generator=generator)
    return z @ w.mT + scale * torch.randn(rows, 5, generator=generator)


def fitted_loadings(x, latent_dim, scale=0.5):
    """Maximum likelihood in closed form (Tipping & Bishop): spare columns are 0."""
    values, vectors = torch.linalg.eigh(x.mT @ x / len(x))
    values, vectors = values.flip(0)[:latent_dim], vectors.flip(1)[:, :latent_dim]
    return vectors * (values - scale**2).clamp_min(0).sqrt()


def spare_pca():
    x = pca_data()
    w = fitted_loadings(x, 2)
    w[:, 1] = 0  # below the noise: the maximum is at 0 up to sampling
    return PCA(w), x


def constant_decoder():
    decoder = mlp([2, 8, 5])
    for p in decoder[-1].parameters():
        p.data.zero_()
    vae = VAE(NeuralLikelihood(make_family("normal"), decoder), Encoder(5, 2, [16]))
    return vae, torch.randn(60, 5)


def healthy_idvae():
    torch.manual_seed(0)
    vae = IDVAE(5, 2, "normal", scale=0.5, hidden_dims=[16], encoder_hidden_dims=[64])
    with torch.no_grad():
        x = vae.likelihood.condition(torch.randn(80, 2)).sample()
    fit(
        vae.model,
        vae.guide,
        x,
        elbo=TraceMeanField_ELBO(),
        optimizer=ADAM,
        num_epochs=250,
        seed=0,
        progress=False,
    )
    return vae, x


def wild_guide(model):
    vae, _ = constant_decoder()
    for p in vae.guide.parameters():
        p.data.normal_(0, 2.0)  # far from the prior: an approximation cannot un-collapse a model
    return vae.guide


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda model: constant_decoder()[0].guide, marks=pytest.mark.slow),
        pytest.param(AutoNormal, marks=pytest.mark.slow),
        AutoMultivariateNormal,
        wild_guide,
    ],
    ids=["encoder", "normal", "full", "wild"],
)
def test_a_constant_decoder_is_the_models_fault_whatever_the_guide(make):
    vae, x = constant_decoder()
    found = autopsy(vae.model, make(vae.model), x, **{**OPTIONS, "num_steps": 100})
    assert found.verdicts == {"latent[0]": "model", "latent[1]": "model"}
    assert found.exact.verdict == "collapsed"
    assert (found.table["exact_upper"] < 0.05).all()
    if make is wild_guide:
        assert found.guide.verdict == "informative"
        assert (found.table["guide"] < -1).all()


def test_a_spare_dimension_of_pca_is_the_models_fault_and_the_other_is_not():
    model, x = spare_pca()
    guide = AutoNormal(model)
    adam = partial(torch.optim.Adam, lr=0.03)
    fit(model, guide, x, optimizer=adam, num_epochs=250, seed=0, progress=False)
    found = autopsy(model, guide, x, **{**OPTIONS, "num_steps": 150})
    assert found.verdicts == {"z[0]": "healthy", "z[1]": "model"}
    assert math.isnan(found.table["retrained"]["z[0]"])
    assert any("no encoder to retrain" in note for note in found.notes)
    # The first latent's information in closed form.
    w = model.w[:, 0]
    precision = 1 + w.square().sum() / 0.25
    mean = (x @ w) / 0.25 / precision
    wanted = float((0.5 * (precision.log() + 1 / precision - 1 + mean.square())).mean())
    row = found.table.loc["z[0]"]
    assert row["exact_lower"] < wanted < row["exact_upper"]
    assert row["free"] == pytest.approx(wanted, abs=0.1)
    assert row["guide"] == pytest.approx(wanted, abs=0.1)


@pytest.mark.slow
def test_an_encoder_forced_to_the_prior_could_be_taught():
    vae, x = healthy_idvae()
    with torch.no_grad():
        last = vae.encoder.network[-1]
        last.weight.zero_()
        last.bias.zero_()
        last.bias[2:] = math.log(math.e - 1)  # scale 1
    found = autopsy(vae.model, vae.guide, x, **OPTIONS)
    assert set(found.verdicts.values()) == {"optimisation"}
    assert found.guide.verdict == "collapsed"
    assert (found.table["guide"].abs() < 0.05).all()
    assert (found.table["retrained"] > 0.5 * found.table["exact"]).all()


def test_a_guide_that_cannot_read_the_data_is_amortisations_fault():
    class Blind(AmortisedGuide):
        def forward(self, x):
            super().forward(torch.zeros_like(x))

    x = pca_data()
    model = PCA(torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.5, 0.0], [0.0, 0.5]]))
    found = autopsy(model, Blind(5, 2), x, **OPTIONS)
    assert set(found.verdicts.values()) == {"amortisation"}
    assert (found.table["free"] > 0.5 * found.table["exact"]).all()
    assert (found.table["retrained"] < 0.5 * found.table["exact"]).all()


def test_a_guide_without_parameters_that_is_the_prior_is_not_trained_to_the_end():
    x = pca_data()
    model = PCA(torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.5, 0.0], [0.0, 0.5]]))
    found = autopsy(model, PriorGuide(), x, **OPTIONS)
    assert set(found.verdicts.values()) == {"optimisation"}
    assert any("no parameters of its own" in note for note in found.notes)


@pytest.mark.slow
def test_a_family_too_small_for_a_correlated_posterior():
    """Two latents of which the data see the sum: a factorised q is as narrow as its conditional."""
    model = PCA(torch.ones(5, 2), scale=0.3)
    torch.manual_seed(0)
    x = torch.randn(60, 2) @ model.w.mT + 0.3 * torch.randn(60, 5)
    guide = AmortisedGuide(5, 2)
    fit(model, guide, x, optimizer=ADAM, num_epochs=600, seed=0, progress=False)
    found = autopsy(model, guide, x, **OPTIONS)
    assert set(found.verdicts.values()) == {"family"}
    assert (found.table["free"] < 0).all()
    assert found.guide.verdict == "informative"  # and wrong: confident where the posterior is not
    full = AmortisedGuide(5, 2, covariance="full")
    fit(model, full, x, optimizer=ADAM, num_epochs=600, seed=0, progress=False)
    found = autopsy(model, full, x, **OPTIONS)
    assert set(found.verdicts.values()) == {"healthy"}
    assert found.family.startswith("full-covariance")


def test_latents_that_the_data_see_together_only():
    """The sum of twenty latents is known: each alone is as good as unknown, but not the model's."""
    model = PCA(torch.full((1, 20), 1.0), scale=0.1)
    torch.manual_seed(0)
    x = torch.randn(60, 20).sum(1, keepdim=True)
    guide = AmortisedGuide(1, 20)
    found = autopsy(model, guide, x, **{**OPTIONS, "num_steps": 50})
    assert set(found.verdicts.values()) == {"joint"}
    assert found.exact.vector["verdict"] == "informative"
    # Known the others, z_k is N(., .01) to the data: the divergence is about (1 + 1)/(2 · .01) - 1.
    assert (found.exact.table["limit"] > 50).all()


def test_a_healthy_idvae():
    vae, x = healthy_idvae()
    found = autopsy(vae.model, vae.guide, x, **{**OPTIONS, "num_steps": 100})
    assert set(found.verdicts.values()) == {"healthy"}
    assert (found.table["guide"] < found.table["exact_upper"] + 0.1).all()
    text = str(found)
    assert "healthy: of the exact posterior's" in text


@pytest.mark.slow
def test_the_laplace_guide_of_an_idvae_is_healthy():
    vae, x = healthy_idvae()
    found = autopsy(vae.model, AutoInjectiveLaplace(vae.model), x, **OPTIONS)
    assert set(found.verdicts.values()) == {"healthy"}


def test_parameters_are_put_back_even_when_something_breaks(monkeypatch):
    vae, x = constant_decoder()
    store = pyro.get_param_store()
    pyro.param("somebody_elses", torch.tensor(3.0))
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    few = {"num_samples": 20, "num_chains": 2, "num_steps": 5, "seed": 0}
    autopsy(vae.model, vae.guide, x[:10], **few)
    names = set(store.keys())

    def broken(*args, **kwargs):
        for p in vae.parameters():
            p.data.add_(1.0)
        pyro.param("left_over", torch.tensor(1.0))
        raise RuntimeError("broken")

    module = importlib.import_module("pyro_idvae.diagnostics.autopsy.retrain")
    monkeypatch.setattr(module, "teach", broken)
    with pytest.raises(RuntimeError, match="broken"):
        autopsy(vae.model, vae.guide, x[:10], **few)
    for name, p in vae.named_parameters():
        assert torch.equal(p, before[name])
        assert p.requires_grad
    assert set(store.keys()) == names
    assert pyro.param("somebody_elses") == 3.0
    assert vae.training


@pytest.mark.slow
def test_rows_that_share_a_latent_are_sampled_by_nuts():
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + mean, 0.5), obs=x)

    x = 1 + torch.randn(8)
    guide = AutoNormal(model)
    fit(model, guide, x, optimizer=ADAM, num_epochs=300, seed=0, progress=False)
    found = autopsy(model, guide, x, **{**OPTIONS, "num_samples": 300, "num_chains": 2})
    assert found.verdicts["z"] == "healthy"
    assert any("one chain state for all rows" in note for note in found.notes)


def test_information_kept_is_what_it_says():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def normal_guide(shift, scale):
        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x / 2 + shift, scale))

        return guide

    x = torch.linspace(-2, 2, 9)
    exact = mcmc(
        model, x, kernel="vectorized", num_samples=500, num_chains=4, seed=0, progress=False
    )
    true = 0.5**0.5
    kl_to_prior = float((-math.log(true) + 0.5 * (true**2 + (x / 2) ** 2 - 1)).mean())
    for shift, scale in ((0.0, true), (0.3, true), (0.0, 1.2), (0.0, 0.4)):
        own = from_guide(model, normal_guide(shift, scale), x, num_samples=4000)
        lost = math.log(scale / true) + (true**2 + shift**2) / (2 * scale**2) - 0.5
        (found,) = information_kept(Latents.of(exact), Latents.of(own))
        assert found.mean() == pytest.approx(kl_to_prior - lost, abs=0.05)


def test_bad_input_is_refused():
    vae, x = constant_decoder()
    with pytest.raises(ArgumentError, match="share=0"):
        autopsy(vae.model, vae.guide, x, share=0.0)
    with pytest.raises(SiteMismatchError):
        autopsy(vae.model, lambda x: None, x)
    with pytest.raises(DataError, match="latent"):
        autopsy(vae.model, AutoDelta(vae.model), x, **OPTIONS)


@pytest.mark.slow
def test_a_vae_of_digits_has_units_that_only_the_model_lost():
    """A ReLU decoder with dead directions: real data, a real fit."""
    torch.manual_seed(0)
    x = digits().train[:300]
    decoder = NeuralLikelihood(make_family("binomial", total_count=16), mlp([8, 64, 64]))
    vae = VAE(decoder, Encoder(64, 8, [128]))
    fit(vae.model, vae.guide, x, optimizer=ADAM, num_epochs=150, seed=0, progress=False)
    with torch.no_grad():
        decoder.network[0].weight[:, 3] = 0  # one latent is unplugged
    found = autopsy(vae.model, vae.guide, x[:100], **OPTIONS)
    assert found.verdicts["latent[3]"] == "model"
    assert np.isfinite(found.table["exact"]).all()
