"""Forecasts: exact for probabilistic PCA, and what trained linear decoders do."""

from functools import partial

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from scipy.stats import binomtest
from sklearn.datasets import load_wine

import pyro_idvae as idvae
from pyro_idvae.distributions import (
    NegativeBinomialFamily,
    NeuralLikelihood,
    make_family,
)
from pyro_idvae.errors import ArgumentError, DataError, ShapeError


class LinearEncoder(torch.nn.Module):
    def __init__(self, data_dim, latent_dim):
        super().__init__()
        self.loc = torch.nn.Linear(data_dim, latent_dim)
        self.log_scale = torch.nn.Parameter(torch.zeros(latent_dim))

    def forward(self, x):
        return dist.Normal(self.loc(x), self.log_scale.exp()).to_event(1)


def data(rows=200, seed=0):
    torch.manual_seed(seed)
    spread = torch.tensor([4.0, 2.0, 1.5, 1.0, 0.5, 0.3])
    return torch.randn(rows, 6).double() @ torch.linalg.qr(torch.randn(6, 6).double())[0] * spread


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_maximum_of_pca_has_these_latents_at_these_nats(scale):
    """KL of the exact posteriors, row by row, at the closed form of the maximum."""
    x = data()
    found = idvae.forecast(x, scale=scale)
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.mT @ centred / len(x))
    values, vectors = values.flip(0), vectors.flip(1)
    kept = values > scale**2
    assert found.active == int(kept.sum())
    loadings = vectors[:, kept] * (values[kept] - scale**2).sqrt()
    precision = torch.eye(found.active).double() + loadings.mT @ loadings / scale**2
    covariance = torch.linalg.inv(precision)
    mean = centred @ loadings @ covariance / scale**2
    # Along its own axis each latent is independent of the others.
    variance = covariance.diagonal()
    kl = 0.5 * (variance + mean.square() - 1 - variance.log()).mean(0)
    np.testing.assert_allclose(found.nats, kl.numpy(), rtol=0, atol=1e-6)
    assert found.exact


def test_a_weight_on_the_kl_is_noise_of_that_variance():
    x = data()
    weighted = idvae.forecast(x, scale=1.0, beta=2.25)
    louder = idvae.forecast(x, scale=1.5)
    assert weighted.active == louder.active
    np.testing.assert_allclose(weighted.nats, louder.nats)


def test_scales_for_each_feature_and_few_latents():
    x = data()
    scale = torch.linspace(0.5, 2.0, 6)
    found = idvae.forecast(x, scale=scale)
    np.testing.assert_allclose(
        found.eigenvalues, idvae.forecast(x / scale, scale=1.0).eigenvalues, rtol=1e-6
    )
    few = idvae.forecast(x, scale=0.1, latent_dim=2)
    assert few.active == 2
    assert few.nats.shape == (2,)


@pytest.mark.parametrize("scale", [1.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_trained_linear_decoders_keep_what_was_forecast(scale):
    x = torch.as_tensor(load_wine().data).float()
    x = (x - x.mean(0)) / x.std(0)
    torch.manual_seed(0)
    found = idvae.forecast(x, scale=scale, latent_dim=8)
    decoder = NeuralLikelihood(make_family("normal", scale=scale), torch.nn.Linear(8, 13))
    vae = idvae.VAE(decoder, LinearEncoder(13, 8))
    idvae.fit(
        vae.model,
        vae.guide,
        x,
        elbo=TraceMeanField_ELBO(),
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        num_epochs=1000,
        seed=0,
        progress=False,
    )
    active = int((idvae.active_units(vae.model, vae.guide, x) > 0.01).sum())
    assert abs(active - found.active) <= 1
    kl = float(idvae.kl_to_prior(vae.model, vae.guide, x).mean(0).sum())
    assert kl == pytest.approx(found.nats.sum(), rel=0.1)


@pytest.mark.parametrize(("rows", "width"), [(400, 50), (60, 5), (50, 200)])
def test_noise_alone_is_below_its_edge_in_nineteen_of_twenty_data_sets(rows, width):
    torch.manual_seed(0)
    found = [idvae.forecast(torch.randn(rows, width), scale=1.0) for _ in range(200)]
    above = sum(one.above_noise > 0 for one in found)
    assert binomtest(above, len(found), 0.05).pvalue > 1e-3
    assert found[0].active > min(rows, width) // 4 - 1
    assert f"{found[0].above_noise} of these are larger" in str(found[0])


@pytest.mark.parametrize("name", ["poisson", "bernoulli", "categorical", "multinomial", "gamma"])
def test_other_families_by_their_scores(name):
    """Independent data have the variance of their noise; what moves together has more."""
    torch.manual_seed(0)
    rows, width = 4000, 6
    if name == "categorical":
        x = torch.randint(width, (rows,))
        found = idvae.forecast(x, family=name)
        assert abs(found.eigenvalues[:-1] - 1).max() < 0.2
        return
    family = make_family(name)
    total = torch.full((rows,), 20.0) if name == "multinomial" else None
    eta = torch.zeros(rows, family.parameter_dim(width))
    if name == "gamma":
        family = make_family("gamma", concentration=2.0)
    noise = idvae.forecast(family(eta, total).sample(), family=family)
    assert noise.above_noise <= 1
    assert abs(noise.eigenvalues - 1).max() < 0.2
    moved = eta + torch.randn(rows, 1) * torch.linspace(-2, 2, eta.shape[1])
    signal = idvae.forecast(family(moved, total).sample(), family=family)
    assert signal.above_noise >= 1
    assert signal.eigenvalues[0] > 1.2 * signal.eigenvalues[1]
    assert not signal.exact
    assert "hint" in str(signal)


def test_more_features_than_rows():
    found = idvae.forecast(torch.randn(5, 40), scale=1.0)
    assert found.eigenvalues.shape == (40,)
    assert found.active <= 5
    ax = idvae.plot_forecast(found)
    assert ax.get_legend_handles_labels()[1][2] == f"kept: {found.active}"
    assert "keeps 0 latents, 0.00 nats" in str(idvae.forecast(torch.randn(9, 2), scale=50.0))


@pytest.mark.parametrize(("scale", "lost"), [(0.01, False), (3.0, True)])
def test_the_picture_names_what_is_in_view(scale, lost):
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    found = idvae.forecast(x, scale=scale)
    legend = idvae.plot_forecast(found).get_legend()
    labels = [text.get_text() for text in legend.get_texts()]
    assert f"kept: {found.active}" in labels
    assert ("collapse" in labels) == lost == (found.active < 6)


def test_bad_input_is_refused():
    x = torch.randn(9, 3)
    for call, error, words in (
        (lambda: idvae.forecast(x), ArgumentError, "scale=None: the forecast is for a size"),
        (lambda: idvae.forecast(x, scale=0.0), ArgumentError, "scale=0"),
        (lambda: idvae.forecast(x.tolist(), scale=1.0), ArgumentError, "x is a list"),
        (lambda: idvae.forecast(x[:1], scale=1.0), DataError, "two rows at least"),
        (lambda: idvae.forecast(x[0], scale=1.0), ShapeError, r"expected \(rows, features\)"),
        (lambda: idvae.forecast(x / 0, scale=1.0), DataError, "not finite"),
        (lambda: idvae.forecast(x, scale=1.0, beta=0), ArgumentError, "beta=0"),
        (lambda: idvae.forecast(x, scale=1.0, latent_dim=0), ArgumentError, "latent_dim=0"),
        (lambda: idvae.forecast(x, scale=1.0, family="poisson"), ArgumentError, "scale was given"),
        (lambda: idvae.forecast(x, family="poisson"), DataError, "outside the support"),
        (lambda: idvae.forecast(x, family="nothing"), ArgumentError, "family='nothing'"),
        (
            lambda: idvae.forecast(x, scale=1.0, family=NegativeBinomialFamily()),
            ArgumentError,
            "has its own",
        ),
        (lambda: idvae.plot_forecast(x), ArgumentError, "forecast is a Tensor"),
    ):
        with pytest.raises(error, match=words):
            call()
