"""How often `calibrate` calls draws miscalibrated that are right, and that are wrong in known ways.

A linear Gaussian model whose posterior is known, with correlation .6 between two latents: guides
that are exact, a fifth or a tenth too narrow, shifted by a fifth of a standard deviation, mean
field at the ELBO's optimum (too narrow, uncorrelated), and with the right margins (uncorrelated
only); 500 rows a run. Then chains: the vectorised kernel on an injective Normal model, and
autoregressive ones, of a known posterior, that are thinned as a kernel's are.

Wanted: at most 7 % of exact guides called miscalibrated, and at least 90 % of the guides a fifth
too narrow, of those shifted by a fifth, and of mean field.
Run: python benchmarks/calibration_power.py
"""

import argparse
import math
import time
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.signal import lfilter
from scipy.stats import binomtest

import pyro_idvae as idvae
from pyro_idvae.diagnostics.calibration.ranking import Measured, rank

RHO, ROWS = 0.6, 500
# x = a (z0 - z1) + noise has the posterior precision I + a² (1, -1)(1, -1)ᵀ.
A = math.sqrt(RHO / (1 - RHO))
MAP = torch.tensor([A, -A])
PRECISION = torch.eye(2) + torch.outer(MAP, MAP)
COVARIANCE = torch.linalg.inv(PRECISION)
SD = COVARIANCE.diagonal().sqrt()
X = torch.zeros(3)


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ MAP, 1.0), obs=x)


def guide(x, covariance=COVARIANCE, shift=0.0):
    mean = x.unsqueeze(-1) * (COVARIANCE @ MAP) + shift * SD
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.MultivariateNormal(mean, covariance))


GUIDES = {
    "exact": {},
    "a fifth too narrow": {"covariance": 0.8**2 * COVARIANCE},
    "a tenth too narrow": {"covariance": 0.9**2 * COVARIANCE},
    "a fifth of a sd too high": {"shift": 0.2},
    "the same, one latent": {"shift": torch.tensor([0.2, 0.0])},
    "mean field": {"covariance": torch.diag(1 / PRECISION.diagonal())},
    "right margins, uncorrelated": {"covariance": torch.diag(COVARIANCE.diagonal())},
}


def by_guide(options, seed):
    found = idvae.calibrate(
        model, X, guide=partial(guide, **options), num_replications=ROWS, seed=seed
    )
    return found.verdict, found.num_draws


def by_kernel(seed):
    torch.manual_seed(1000 + seed)
    vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[8])
    found = idvae.calibrate(
        vae.model,
        torch.zeros(3, 5),
        kernel="vectorized",
        num_replications=ROWS,
        seed=seed,
        progress=False,
    )
    return found.verdict, found.num_draws


def by_autoregression(correlation, seed, length=495):
    """Ranks of truths among chains with a known posterior, N(0, 1) twice."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(length, ROWS, 2))
    noise[1:] *= math.sqrt(1 - correlation**2)
    draws = lfilter([1.0], [1.0, -correlation], noise, axis=0)[None]
    measured = Measured(["z[0]", "z[1]"], [0, 1], draws, rng.normal(size=(ROWS, 2)), False, None)
    ranks = rank(measured, 99, rng)
    found = idvae.Calibration.of(
        ranks.ranks, ranks.num_draws, ranks.names, level=0.05, method="chains", by_row=True
    )
    return found.verdict, found.num_draws


def report(name, run, runs):
    start = time.perf_counter()
    found = [run(seed) for seed in range(runs)]
    seconds = (time.perf_counter() - start) / runs
    count = sum(verdict == "miscalibrated" for verdict, _ in found)
    low, high = binomtest(count, runs).proportion_ci()
    share = f"{100 * count / runs:.1f} % ({100 * low:.1f}-{100 * high:.1f})"
    draws = np.median([number for _, number in found])
    print(f"{name:44s}{share:>24s}{draws:8.0f}{seconds:10.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kernel-runs", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{ROWS} rows a run; called miscalibrated, with 95 % limits")
    print(f"{'':44s}{'share':>24s}{'draws':>8s}{'s a run':>10s}")
    for name, options in GUIDES.items():
        report(f"guide, {name}", partial(by_guide, options), given.runs)
    for correlation in (0.0, 0.5, 0.8, 0.95):
        name = f"exact chains of correlation {correlation}"
        report(name, partial(by_autoregression, correlation), given.runs)
    report("vectorised kernel, injective Normal", by_kernel, given.kernel_runs)


if __name__ == "__main__":
    main()
