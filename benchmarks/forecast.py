"""Forecasts against trained decoders: latents kept on four data sets at four sizes of noise.

``python benchmarks/forecast.py [--epochs E] [--mlp]`` prints the table of linear decoders, and with
``--mlp`` that of multilayer perceptrons, for which a forecast is a hint.
"""

import argparse
from functools import partial

import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

import pyro_idvae as idvae
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.models import mlp

LATENT_DIM, ACTIVE = 10, 0.01
SCALES = (0.3, 0.5, 0.7, 1.0)
LOADERS = {
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "diabetes": load_diabetes,
    "digits": load_digits,
}


class LinearEncoder(torch.nn.Module):
    def __init__(self, data_dim, latent_dim):
        super().__init__()
        self.loc = torch.nn.Linear(data_dim, latent_dim)
        self.log_scale = torch.nn.Parameter(torch.zeros(latent_dim))

    def forward(self, x):
        return dist.Normal(self.loc(x), self.log_scale.exp()).to_event(1)


def standardised(name):
    x = torch.as_tensor(LOADERS[name]().data).float()
    x = x[:, x.std(0) > 0]
    return (x - x.mean(0)) / x.std(0)


def trained(x, scale, *, linear, epochs, seed):
    torch.manual_seed(seed)
    width, latent_dim = x.shape[1], min(LATENT_DIM, x.shape[1])
    if linear:
        network, encoder = torch.nn.Linear(latent_dim, width), LinearEncoder(width, latent_dim)
    else:
        network = mlp([latent_dim, 64, width])
        encoder = idvae.Encoder(width, latent_dim, [64])
    vae = idvae.VAE(NeuralLikelihood(make_family("normal", scale=scale), network), encoder)
    for rate in (1e-2, 1e-3):
        idvae.fit(
            vae.model,
            vae.guide,
            x,
            elbo=TraceMeanField_ELBO(),
            optimizer=partial(torch.optim.Adam, lr=rate),
            num_epochs=epochs,
            seed=seed,
            progress=False,
        )
    active = int((idvae.active_units(vae.model, vae.guide, x) > ACTIVE).sum())
    return active, float(idvae.kl_to_prior(vae.model, vae.guide, x).mean(0).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=1500)
    parser.add_argument("--mlp", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| data | noise, sd | forecast: latents, nats | trained: active, KL |")
    print("|---|---|---|---|")
    worst = 0
    for name in LOADERS:
        x = standardised(name)
        for scale in SCALES:
            found = idvae.forecast(x, scale=scale, latent_dim=LATENT_DIM)
            active, kl = trained(x, scale, linear=not options.mlp, epochs=options.epochs, seed=0)
            worst = max(worst, abs(active - found.active))
            told = f"{found.active}, {found.nats.sum():.2f} | {active}, {kl:.2f}"
            print(f"| {name} | {scale} | {told} |", flush=True)
    print(f"latents that were missed by, at most: {worst}")


if __name__ == "__main__":
    main()
