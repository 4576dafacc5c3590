"""A user's own model, the VAE of Pyro's tutorial, goes through every diagnostic as it is."""

import copy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import nn

import pyro_idvae as idvae
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.datasets import digits


class Decoder(nn.Module):
    def __init__(self, z_dim, hidden_dim):
        super().__init__()
        self.fc1 = nn.Linear(z_dim, hidden_dim)
        self.fc21 = nn.Linear(hidden_dim, 784)
        self.softplus = nn.Softplus()
        self.sigmoid = nn.Sigmoid()

    def forward(self, z):
        hidden = self.softplus(self.fc1(z))
        loc_img = self.sigmoid(self.fc21(hidden))
        return loc_img  # noqa: RET504


class TutorialEncoder(nn.Module):
    def __init__(self, z_dim, hidden_dim):
        super().__init__()
        self.fc1 = nn.Linear(784, hidden_dim)
        self.fc21 = nn.Linear(hidden_dim, z_dim)
        self.fc22 = nn.Linear(hidden_dim, z_dim)
        self.softplus = nn.Softplus()

    def forward(self, x):
        x = x.reshape(-1, 784)
        hidden = self.softplus(self.fc1(x))
        z_loc = self.fc21(hidden)
        z_scale = torch.exp(self.fc22(hidden))
        return z_loc, z_scale


class TutorialVAE(nn.Module):
    def __init__(self, z_dim=50, hidden_dim=400, use_cuda=False):
        super().__init__()
        self.encoder = TutorialEncoder(z_dim, hidden_dim)
        self.decoder = Decoder(z_dim, hidden_dim)
        if use_cuda:
            self.cuda()
        self.use_cuda = use_cuda
        self.z_dim = z_dim

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z_loc = torch.zeros(x.shape[0], self.z_dim, dtype=x.dtype, device=x.device)
            z_scale = torch.ones(x.shape[0], self.z_dim, dtype=x.dtype, device=x.device)
            z = pyro.sample("latent", dist.Normal(z_loc, z_scale).to_event(1))
            loc_img = self.decoder.forward(z)
            pyro.sample(
                "obs",
                dist.Bernoulli(loc_img, validate_args=False).to_event(1),
                obs=x.reshape(-1, 784),
            )
            return loc_img

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            z_loc, z_scale = self.encoder.forward(x)
            pyro.sample("latent", dist.Normal(z_loc, z_scale).to_event(1))


def images(rows):
    """Digits in the tutorial's shape: 28 × 28 pixels of 0 and 1."""
    small = (digits().train[:rows] > 8).float().reshape(rows, 8, 8)
    large = small.repeat_interleave(3, 1).repeat_interleave(3, 2)
    return nn.functional.pad(large, (2, 2, 2, 2)).unsqueeze(1)


@pytest.fixture(scope="module")
def once_trained():
    torch.set_num_threads(1)
    pyro.clear_param_store()
    torch.manual_seed(0)
    x = images(100)
    vae = TutorialVAE(z_dim=4, hidden_dim=64)
    svi = SVI(vae.model, vae.guide, Adam({"lr": 5.0e-3}), loss=Trace_ELBO())
    losses = [svi.step(x) for _ in range(250)]
    assert losses[-1] < 0.7 * losses[0]
    return vae, x[:30]


@pytest.fixture
def trained(once_trained):
    pyro.clear_param_store()
    return copy.deepcopy(once_trained)


def test_it_goes_through_every_diagnostic(trained):
    vae, x = trained
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    svi = idvae.from_guide(vae.model, vae.guide, x, num_samples=200)
    exact = idvae.mcmc(
        vae.model,
        x,
        kernel="vectorized",
        num_samples=100,
        num_chains=3,
        warmup_steps=150,
        seed=0,
        progress=False,
    )
    acceptance = groups_of(exact)["sample_stats"]["acceptance_rate"].values
    assert acceptance.mean() > 0.7
    report = idvae.collapse_report(exact)
    assert list(report.table.index) == [f"latent[{k}]" for k in range(4)]
    assert report.verdict == "informative"
    assert report.vector["lower"] > report.table["kl"].max()
    of_guide = idvae.collapse_report(svi)
    assert of_guide.method == "svi"
    comparison = idvae.compare(svi, exact)
    assert len(comparison.table) == 120
    assert np.isfinite(comparison.per_latent["wasserstein"]).all()
    for name, p in vae.named_parameters():
        assert torch.equal(p, before[name])


@pytest.mark.slow
def test_an_autopsy_of_it_goes_through(trained):
    vae, x = trained
    found = idvae.autopsy(
        vae.model,
        vae.guide,
        x,
        num_samples=100,
        num_chains=2,
        num_steps=60,
        mcmc_options={"warmup_steps": 100},
        seed=0,
    )
    assert set(found.verdicts) == {f"latent[{k}]" for k in range(4)}
    assert set(found.verdicts.values()) <= {
        "healthy", "optimisation", "amortisation", "family", "model", "undecided",
    }  # fmt: skip
    assert (found.table["exact"] > 0).all()
    assert np.isfinite(found.table[["guide", "free", "retrained"]].to_numpy()).all()


@pytest.mark.slow
def test_a_latent_that_its_decoder_ignores_is_the_models_fault(trained):
    vae, x = trained
    with torch.no_grad():
        vae.decoder.fc1.weight[:, 2] = 0
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    found = idvae.autopsy(
        vae.model,
        vae.guide,
        x,
        num_samples=100,
        num_chains=4,
        num_steps=40,
        mcmc_options={"warmup_steps": 100},
        seed=0,
    )
    assert found.verdicts["latent[2]"] == "model"
    assert all(v != "model" for name, v in found.verdicts.items() if name != "latent[2]")
    assert np.isfinite(found.table[["guide", "free", "retrained"]].to_numpy()).all()
    for name, p in vae.named_parameters():
        assert torch.equal(p, before[name])
