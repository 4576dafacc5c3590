"""How far apart the bounds of log p(x) are, and what importance weighting says for the same time.

``python benchmarks/evidence.py`` for scikit-learn's digits; with ``--images FILE``, an .npz file of
grey images as ``train_images`` and ``test_images``, for binary pixels and 32 latents too. One
thread, models trained for some minutes first. Times are of the processor, pilot included.
"""

import argparse
import time
from functools import partial

import numpy as np
import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_idvae import IDVAE, VAE, Encoder, fit, importance_log_likelihood, log_evidence
from pyro_idvae.datasets import digits
from pyro_idvae.distributions import NeuralLikelihood, make_family
from pyro_idvae.experiments.images import make_idvae, make_vae, train
from pyro_idvae.models import mlp

ROWS = 200
LATENT_DIM = 32


def sandwich(name, vae, latent_dim, **options):
    """Print both bounds on data that the model has made."""
    torch.manual_seed(0)
    z = torch.randn(ROWS, latent_dim)
    with torch.no_grad():
        x = vae.likelihood.condition(z).sample()
    found = log_evidence(
        vae.model, vae.guide, x, bounds="both", latents={"latent": z}, seed=1, **options
    )
    print(
        f"{name}, {ROWS} images of its own, {options or 'defaults'}: lower {found.mean:.3f} ± "
        f"{found.mean_standard_error:.3f}, upper {found.upper_mean:.3f} ± "
        f"{found.upper_mean_standard_error:.3f}, apart {found.upper_mean - found.mean:.3f} nats; "
        f"{found.num_temperatures} temperatures, {found.cpu_seconds:.0f} s",
        flush=True,
    )


def held_out(name, vae, x):
    """Print the lower bound and what importance weighting finds in as much time."""
    found = log_evidence(vae.model, vae.guide, x, seed=1)
    begin = time.process_time()
    importance_log_likelihood(vae.model, vae.guide, x, num_samples=500)
    number = int(500 * found.cpu_seconds / (time.process_time() - begin))
    begin = time.process_time()
    weighted = importance_log_likelihood(vae.model, vae.guide, x, num_samples=max(number, 2))
    seconds = time.process_time() - begin
    print(
        f"{name}, {len(x)} held-out images: annealed {found.mean:.3f} ± "
        f"{found.mean_standard_error:.3f} in {found.cpu_seconds:.0f} s; {number} importance "
        f"weights {weighted.mean:.3f} in {seconds:.0f} s; {found.mean - weighted.mean:.2f} nats "
        "more",
        flush=True,
    )


def binary_models(path):
    """Yield models of 784 binary pixels, trained for ten epochs."""
    file = np.load(path)
    train_images, test_images = (
        torch.as_tensor(file[f"{part}_images"] > 127).flatten(1).float()
        for part in ("train", "test")
    )
    for name in ("VAE, 784 pixels", "IDVAE, 784 pixels"):
        torch.manual_seed(0)
        if name.startswith("VAE"):
            network = mlp([LATENT_DIM, 512, 512, 784])
            likelihood = NeuralLikelihood(make_family("bernoulli"), network)
            vae = VAE(likelihood, Encoder(784, LATENT_DIM, (512, 512)))
        else:
            vae = IDVAE(
                784, LATENT_DIM, "bernoulli", hidden_dims=[512], encoder_hidden_dims=(512, 512)
            )
        fit(
            vae.model,
            vae.guide,
            train_images[:20_000],
            elbo=TraceMeanField_ELBO(),
            optimizer=partial(torch.optim.Adam, lr=1e-3, fused=True),
            num_epochs=10,
            batch_size=128,
            seed=0,
            progress=False,
        )
        yield name, vae, test_images[:ROWS]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", help="an .npz file of grey images")
    path = parser.parse_args().images
    torch.set_num_threads(1)
    data = digits()
    for name, make in (("VAE", make_vae), ("IDVAE", make_idvae)):
        vae = make(0)
        train(vae, data.train, learning_rate=2e-3, num_epochs=150, seed=0, progress=False)
        sandwich(name, vae, 16)
        held_out(name, vae, data.test[:ROWS])
    for name, vae, x in binary_models(path) if path else ():
        sandwich(name, vae, LATENT_DIM)
        held_out(name, vae, x)


if __name__ == "__main__":
    main()
