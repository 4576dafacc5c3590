"""What a ceiling M costs in log p(x), and what it guarantees; and a floor in arcsines instead.

``python benchmarks/ceiling.py [--epochs E] [--seeds N]``: scikit-learn's digits, Binomial(16)
pixels, 16 latents, floors in noise units. One thread. With arcsines of root shares the information
about each coordinate is the same wherever the shares are, and no prediction is too sharp for a
floor; but shares end at 0 and 1, where the map folds.
"""

import argparse
import math
from functools import partial

import pandas as pd
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from torch.distributions import constraints

import pyro_idvae as idvae
from pyro_idvae.datasets import MAX_INK, digits
from pyro_idvae.distributions import Family, InjectiveLikelihood, make_family, wanted_rate
from pyro_idvae.experiments.images import ENCODER_DIMS, INJECTIVE_WIDTH, LATENT_DIM, NUM_PIXELS
from pyro_idvae.models.start import begin_at_base
from pyro_idvae.transforms import brenier_injection

NATS = (0.1, 0.3)
RATIOS = (1.5, 3.0, 10.0, 30.0, math.inf)
"""M over L."""
RATE = 2e-3


class ArcsineFamily(Family):
    """x ~ Binomial(n, sin²(φ₀ + v/2√n)): one unit of v is a standard deviation wherever v is.

    Injective only while every angle stays between 0 and π/2.
    """

    name = "arcsine"

    def __init__(self, base, total_count):
        super().__init__()
        self.total_count = total_count
        self.support = constraints.integer_interval(0, total_count)
        share = (base.mean(0) / total_count).clamp(0.5 / len(base), 1 - 0.5 / len(base))
        self.register_buffer("angle", share.sqrt().asin())

    def forward(self, eta, total_count=None):
        self.refuse_total_count(total_count)
        share = (self.angle + eta / (2 * math.sqrt(self.total_count))).sin().square()
        tiny = torch.finfo(share.dtype).eps
        return dist.Binomial(self.total_count, share.clamp(tiny, 1 - tiny))

    def standardize(self, x, parameter_dim):
        return x / self.total_count


class InjectiveArcsine(InjectiveLikelihood):
    def __init__(self, injection, base):
        super().__init__(injection, ArcsineFamily(base, MAX_INK))


def model(kind, base, nats, ratio, seed):
    torch.manual_seed(seed)
    low = wanted_rate(
        make_family("binomial", total_count=MAX_INK),
        base,
        nats=nats,
        latent_dim=LATENT_DIM,
    )
    bounds = {"lipschitz_bounds": (low, ratio * low)}
    if math.isinf(ratio):
        bounds = {"strong_convexity": low ** (1 / 3), "min_singular_value": low ** (1 / 3)}
    widths = {"hidden_dims": [INJECTIVE_WIDTH]}
    if kind == "arcsine":
        injection = brenier_injection(LATENT_DIM, NUM_PIXELS, **widths, **bounds)
        family = make_family("binomial", total_count=MAX_INK)
        begin_at_base(injection, family, base)
        likelihood = InjectiveArcsine(injection, base)
        return idvae.VAE(likelihood, idvae.Encoder(NUM_PIXELS, LATENT_DIM, ENCODER_DIMS))
    return idvae.IDVAE(
        NUM_PIXELS,
        LATENT_DIM,
        "binomial",
        total_count=MAX_INK,
        base=base,
        encoder_hidden_dims=ENCODER_DIMS,
        **widths,
        **bounds,
    )


def row(kind, nats, ratio, *, seed, epochs, data):
    vae = model(kind, data.train, nats, ratio, seed)
    idvae.fit(
        vae.model,
        vae.guide,
        data.train,
        elbo=TraceMeanField_ELBO(),
        optimizer=partial(torch.optim.Adam, lr=RATE, fused=True),
        num_epochs=epochs,
        batch_size=128,
        validation=0.1,
        seed=seed,
        progress=False,
    )
    found = idvae.evaluate(
        vae.model,
        vae.guide,
        data.test[:200],
        num_samples=100,
        evidence_options={"proposal": "guide", "num_chains": 8},
        leave_out=("certificate", "information"),
        seed=0,
    )
    low, high = vae.likelihood.lipschitz_bounds()
    sure = None if kind == "arcsine" else idvae.certify(vae.likelihood).guaranteed
    return {
        "units": kind,
        "wanted": nats,
        "M/L": ratio,
        "seed": seed,
        "L": low,
        "M": high,
        "log p(x)": found.evidence.mean,
        "± MC": found.evidence.mcse,
        "KL": found.kl.mean,
        "least nats": found.least_nats.mean,
        "guaranteed": sure,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = digits()
    wanted = [("noise", nats, ratio) for nats in NATS for ratio in RATIOS]
    wanted += [("arcsine", nats, math.inf) for nats in NATS]
    rows = []
    for kind, nats, ratio in wanted:
        for seed in range(options.seeds):
            rows.append(row(kind, nats, ratio, seed=seed, epochs=options.epochs, data=data))
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)


if __name__ == "__main__":
    main()
