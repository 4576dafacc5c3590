"""A whole SVI training step of an injective decoder against an MLP, same encoder and batch."""

from functools import partial

import torch
from pyro.infer import TraceMeanField_ELBO
from timing import compare

from pyro_idvae import VAE, Encoder, fit
from pyro_idvae.datasets import digits
from pyro_idvae.distributions import InjectiveBernoulli, NeuralLikelihood, make_family
from pyro_idvae.experiments.images import BATCH_SIZE, make_idvae, make_vae
from pyro_idvae.models import mlp
from pyro_idvae.transforms import brenier_injection


def epoch(likelihood, encoder, data, batch_size, num_epochs=1):
    """Return a function that trains for some epochs, going on where it left off.

    The learning rate is tiny: memorised data would fill the optimiser with denormal numbers.
    """
    vae = VAE(likelihood, encoder)
    options = {
        "elbo": TraceMeanField_ELBO(),
        "batch_size": batch_size,
        "num_epochs": num_epochs,
        "progress": False,
    }
    result = fit(
        vae.model,
        vae.guide,
        data,
        optimizer=partial(torch.optim.Adam, lr=1e-7, fused=True),
        seed=0,
        **options,
    )
    return lambda: fit(vae.model, vae.guide, data, resume=result, **options)


def main():
    torch.manual_seed(0)
    x = (torch.rand(128, 784) < 0.3).float()
    compare(
        "ten steps, 784 pixels, batch 128, hidden 512",
        epoch(
            InjectiveBernoulli(brenier_injection(16, 784, hidden_dims=[512])),
            Encoder(784, 16, [512, 512]),
            x,
            None,
            num_epochs=10,
        ),
        epoch(
            NeuralLikelihood(make_family("bernoulli"), mlp([16, 512, 512, 784])),
            Encoder(784, 16, [512, 512]),
            x,
            None,
            num_epochs=10,
        ),
        limit=1.3,
        rounds=15,
    )
    images = digits().train
    compare(
        "three epochs on the digits, as in the digits experiment",
        *(
            epoch(vae.likelihood, vae.encoder, images, BATCH_SIZE, num_epochs=3)
            for vae in (make_idvae(0), make_vae(0))
        ),
        limit=1.3,
        rounds=25,
    )


if __name__ == "__main__":
    main()
