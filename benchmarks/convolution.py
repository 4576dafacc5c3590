"""Does a convolutional potential pay? Against ridges in image space, for the same processor time.

``python benchmarks/convolution.py --data DIR [--seconds S] [--seeds N]``: Fashion-MNIST, black and
white anew in each epoch, Bernoulli pixels, 32 latents, a floor of .1 nat in noise units. One
thread. ``--laws`` checks the potential against autograd and its own bounds instead.

A convolution knows where pixels are and shares its weights; but a layer of it costs as much as so
many ridges as its filters have weights, and what it bends are patches.
"""

import argparse
import math
import time
from functools import partial

import pandas as pd
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, softplus
from torch.utils.data import DataLoader, TensorDataset

import pyro_idvae as idvae
from pyro_idvae._checks import inverse_softplus
from pyro_idvae.datasets import binarize, fashion_mnist
from pyro_idvae.distributions import make_family, make_injective
from pyro_idvae.experiments.contest import MOST_EPOCHS, Budget
from pyro_idvae.models.sized_injection import DEFAULT_FLOOR
from pyro_idvae.models.start import RIDGES, begin_at_base
from pyro_idvae.potentials import LearnablePotential, RidgePotential
from pyro_idvae.potentials.ridge import rise, rise_integral
from pyro_idvae.testing import PotentialLaws, run_laws
from pyro_idvae.transforms import Brenier, BrenierInjection, InjectiveLinear

LATENT_DIM, WIDTH, RATE, BATCH_SIZE = 32, 512, 1e-3, 128
NUM_TRAIN, NUM_JUDGED, NUM_WEIGHTS = 60_000, 500, 200


class ConvolutionalPotential(LearnablePotential):
    r"""φ(x) = α|x|²/2 + Σ_{c,p} w_c S((W_c * x)_p + b_c) + c·x: ridges that are filters.

    Its gradient is αx + Σ_c W_cᵀ * (w_c σ(W_c * x + b_c)) + c, by a transposed convolution. With
    zeros around the image a convolution is a part of a periodic one on a larger grid, so that the
    largest eigenvalue of Σ_c w_c Ŵ_c* Ŵ_cᵀ over that grid's frequencies bounds the curvature.
    """

    def __init__(self, shape, filters, size, *, strong_convexity=0.1, smoothness=None):
        super().__init__(math.prod(shape), strong_convexity=strong_convexity, smoothness=smoothness)
        self.shape, self.padding = tuple(shape), size // 2
        channels = self.shape[0]
        self.weight = nn.Parameter(
            torch.randn(filters, channels, size, size) / (channels**0.5 * size)
        )
        self.bias = nn.Parameter(torch.randn(filters))
        self.raw_out = nn.Parameter(inverse_softplus(torch.full((filters,), channels / filters)))

    def _filtered(self, x, bias=True):
        images = x.reshape(-1, *self.shape)
        return conv2d(images, self.weight, self.bias if bias else None, padding=self.padding)

    def _back(self, filtered, batch):
        found = conv_transpose2d(filtered, self.weight, padding=self.padding)
        return found.reshape(*batch, self.dim)

    def _out(self):
        return softplus(self.raw_out)[:, None, None]

    def _value(self, x):
        found = (self._out() * rise_integral(self._filtered(x))).sum((-3, -2, -1))
        return found.reshape(x.shape[:-1])

    def _gradient(self, x):
        return self._back(self._out() * rise(self._filtered(x))[0], x.shape[:-1])

    def _gradient_and_hessian(self, x):
        return self._gradient(x), self._hessian_product(x, torch.eye(self.dim).to(x))

    def _hessian_product(self, x, matrix):
        value, root = rise(self._filtered(x))
        factor = self._out() * (value / root)
        columns = matrix.expand(*x.shape[:-1], *matrix.shape[-2:]).mT
        moved = self._filtered(columns, bias=False).unflatten(0, (-1, columns.shape[-2]))
        product = self._back((factor.unsqueeze(1) * moved).flatten(0, 1), columns.shape[:-1])
        return product.mT

    def _curvature_bounds(self):
        size = self.weight.shape[-1]
        grid = [side + size - 1 for side in self.shape[1:]]
        spectrum = torch.fft.rfft2(self.weight, s=grid).permute(2, 3, 0, 1)
        weighted = softplus(self.raw_out).sqrt()[:, None] * spectrum
        high = torch.linalg.svdvals(weighted)[..., 0].square().amax()
        return torch.zeros_like(high), high


class ConvolutionalLaws(PotentialLaws):
    dim = 2 * 4 * 3

    def make(self):
        return ConvolutionalPotential((2, 4, 3), 5, 3, strong_convexity=0.3)


class CeilingLaws(ConvolutionalLaws):
    def make(self):
        return ConvolutionalPotential((2, 4, 3), 5, 3, strong_convexity=0.3, smoothness=2.0)


POTENTIALS = {
    "ridges, 512": lambda floor: RidgePotential(784, [512], strong_convexity=floor),
    "ridges, 128": lambda floor: RidgePotential(784, [128], strong_convexity=floor),
    "filters, 64 of 7 × 7": lambda floor: ConvolutionalPotential(
        (1, 28, 28), 64, 7, strong_convexity=floor
    ),
    "filters, 10 of 7 × 7": lambda floor: ConvolutionalPotential(
        (1, 28, 28), 10, 7, strong_convexity=floor
    ),
    "filters, 32 of 5 × 5": lambda floor: ConvolutionalPotential(
        (1, 28, 28), 32, 5, strong_convexity=floor
    ),
}


def model(name, base, seed):
    torch.manual_seed(seed)
    floor = DEFAULT_FLOOR ** (1 / 3)
    g1 = Brenier(RidgePotential(LATENT_DIM, [WIDTH], strong_convexity=floor))
    beta = InjectiveLinear(LATENT_DIM, 784, min_singular_value=floor, bias=False)
    last = POTENTIALS[name](floor)
    injection = BrenierInjection(g1, beta, Brenier(last))
    if isinstance(last, ConvolutionalPotential):  # as ridges are lowered by the start
        with torch.no_grad():
            last.raw_out.copy_(inverse_softplus(RIDGES * softplus(last.raw_out)))
    begin_at_base(injection, make_family("bernoulli"), base)
    likelihood = make_injective("bernoulli", injection, base=base)
    return idvae.VAE(likelihood, idvae.Encoder(784, LATENT_DIM, [512, 512]))


def inked(rows):
    return (torch.bernoulli(torch.stack([row for (row,) in rows])),)


def row(name, train, test, *, seconds, seed):
    base = binarize(train, seed=2)
    vae = model(name, base, seed)
    loader = DataLoader(TensorDataset(train), batch_size=BATCH_SIZE, shuffle=True, collate_fn=inked)
    start = time.process_time()
    fit = idvae.fit(
        vae.model,
        vae.guide,
        loader,
        elbo=TraceMeanField_ELBO(),
        optimizer=partial(torch.optim.Adam, lr=RATE, fused=True),
        num_epochs=MOST_EPOCHS,
        callbacks=[Budget(seconds)],
        max_grad_norm=100.0,
        seed=seed,
        progress=False,
    )
    used = time.process_time() - start
    torch.manual_seed(0)
    # In blocks: a filter's answers to all draws of all images are many gigabytes.
    importance = idvae.importance_log_likelihood(
        vae.model, vae.guide, test, num_samples=NUM_WEIGHTS, block_size=20
    )
    found = idvae.evaluate(
        vae.model,
        vae.guide,
        test,
        num_samples=10,
        leave_out=("certificate", "evidence", "information"),
        seed=0,
    )
    last = vae.likelihood.injection.g2.potential
    return {
        "g2": name,
        "weights": sum(p.numel() for p in last.parameters()) - last.dim,
        "seed": seed,
        "epochs": len(fit.losses),
        "seconds": used,
        "log p(x)": importance.mean,
        "± rows": importance.standard_error,
        "KL": found.kl.mean,
        "least nats": found.least_nats.mean,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--laws", action="store_true")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.laws:
        for laws in (ConvolutionalLaws, CeilingLaws):
            print(run_laws(laws))
        return
    if options.data is None:
        parser.error("--data: the folder of Fashion-MNIST")
    data = fashion_mnist(options.data)
    test = binarize(data.test[:NUM_JUDGED], seed=0)
    rows = []
    for seed in range(options.seeds):
        for name in POTENTIALS:
            rows.append(row(name, data.train[:NUM_TRAIN], test, seconds=options.seconds, seed=seed))
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)


if __name__ == "__main__":
    main()
