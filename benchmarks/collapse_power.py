"""Size and power of the collapse report's verdicts on draws of known laws with autocorrelation.

Each case makes data sets whose posterior is known, as draws of 4 chains of an AR(1) process put
through the law's quantile function (effective sample size 400), and asks for the report. Wanted, at
ε = .05 nat: truly collapsed ones collapsed in 90 % and informative in at most 5 %; ones with
KL ≥ .1 collapsed in at most 1 % and informative in 90 %. Run: python benchmarks/collapse_power.py
"""

import argparse
import math
import time
import warnings

import numpy as np
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.special import ndtr
from scipy.stats import binomtest, norm

from pyro_idvae import collapse_report
from pyro_idvae.arviz_io import Variable, to_arviz

CHAINS, DRAWS, RHO, NUM_PRIOR = 4, 900, 0.8, 900
EPSILON = 0.05
GRID = np.linspace(-9.0, 9.0, 20_001)
STEP = GRID[1] - GRID[0]


def autoregressive(rng, draws=DRAWS, shape=()):
    """Return N(0, 1) draws with an effective sample size of 4/9 of the draws of a chain."""
    noise = rng.normal(size=(CHAINS, draws, *shape))
    noise[:, 1:] *= math.sqrt(1 - RHO**2)
    return lfilter([1.0], [1.0, -RHO], noise, axis=1)


def kl_of(density):
    return STEP * (density * np.log(np.maximum(density, 1e-300) / norm.pdf(GRID))).sum()


def normal_mixture(shift, scale, weight=0.5):
    return weight * norm.pdf(GRID, shift, scale) + (1 - weight) * norm.pdf(GRID, -shift, scale)


LAWS = {
    "shift": (lambda a: norm.pdf(GRID, a, 1.0), (0.01, 3.0)),
    "narrower": (lambda a: norm.pdf(GRID, 0.0, 1 / a), (1.01, 30.0)),
    "wider": (lambda a: norm.pdf(GRID, 0.0, a), (1.01, 2.0)),
    # Mean 0 and variance 1, as the prior has: the two modes are all there is to see.
    "bimodal": (lambda a: normal_mixture(a, math.sqrt(1 - a * a)), (0.3, 0.999)),
    "skewed": (lambda a: normal_mixture(a, 1.0, 0.8), (0.05, 3.0)),
}


class Law:
    """A law on the scale of an N(0, 1) prior with a wanted KL to it."""

    def __init__(self, name, kl):
        family, bounds = LAWS[name]
        self.density = family(brentq(lambda a: kl_of(family(a)) - kl, *bounds))
        self.cdf = np.cumsum(self.density) * STEP

    def draw(self, rng, shape=()):
        """Return draws with an effective sample size of 400."""
        return np.interp(ndtr(autoregressive(rng, shape=shape)), self.cdf, GRID)

    def log_ratio(self, x):
        """Return the log density relative to the prior, a log likelihood up to a constant."""
        return np.interp(x, GRID, np.log(np.maximum(self.density, 1e-300) / norm.pdf(GRID)))


def arviz(x, prior, density, prior_density, exact=True):
    """Return ArviZ data of a latent z with log likelihoods, (chain, draw[, data[, k]])."""
    dims = ("data", "k")[: x.ndim - 2]
    points = ("data",)[: density.ndim - 2]
    score = {"prior_score_z": Variable(x.astype("f4"), dims)} if exact else {}
    groups = {
        "posterior": {"z": Variable(x.astype(x.dtype if x.dtype.kind == "i" else "f4"), dims)},
        "prior": {"z": Variable(prior[None], dims)},
        "sample_stats": score,
        "log_likelihood": {"x": Variable(density.astype("f4"), points)},
        "sample_stats_prior": {
            "log_likelihood_x": Variable(prior_density[None].astype("f4"), points)
        },
    }
    return to_arviz(groups, attrs={"inference_method": "mcmc"})


def global_latent(law, exact=True):
    """One latent for all data; ``law`` None is the prior, of a constant likelihood."""

    def make(rng):
        prior = rng.normal(size=NUM_PRIOR)
        if law is None:
            x = autoregressive(rng)
            return arviz(x, prior, *constant(rng, x, prior), exact=exact)
        x = law.draw(rng)
        return arviz(x, prior, law.log_ratio(x) - 500, law.log_ratio(prior) - 500, exact=exact)

    return make


def constant(rng, *like):
    """Log likelihoods that are constant up to the rounding of single precision."""
    return tuple(-500.0 * (1 + 6e-8 * rng.integers(-1, 2, size=v.shape[:3])) for v in like)


def collapsed_vector(rng, points=8, latents=3):
    x = autoregressive(rng, shape=(points, latents))
    prior = rng.normal(size=(NUM_PRIOR, points, latents))
    return arviz(x, prior, *constant(rng, x, prior[None])[:1], constant(rng, prior[:, :, 0])[0])


def linear_gaussian(kl, points=8):
    """Points x ~ N(wz,1) of z ~ N(0,1) whose mean KL over the data is exactly as wanted."""
    slope2 = math.expm1(2 * kl)

    def make(rng):
        data = rng.normal(size=points)
        data *= math.sqrt((1 + slope2) / (data**2).mean())
        mean, sd = math.sqrt(slope2) / (1 + slope2) * data, 1 / math.sqrt(1 + slope2)
        z = mean + sd * autoregressive(rng, shape=(points,))
        prior = rng.normal(size=(NUM_PRIOR, points))
        density = [norm.logpdf(data, math.sqrt(slope2) * v, 1.0) for v in (z, prior)]
        return arviz(z, prior, *density)

    return make


def labels(kl, categories=4):
    """An integer latent with a uniform prior; one category is likelier than the others."""
    weights = np.ones(categories)

    def tilted(log_weight):
        p = np.exp(log_weight * np.eye(categories)[0])
        return p / p.sum()

    if kl:
        root = brentq(lambda a: (tilted(a) * np.log(tilted(a) * categories)).sum() - kl, 0.01, 9)
        weights = tilted(root) * categories
    edges = np.cumsum(weights / categories)[:-1]
    log_ratio = np.log(weights)

    def make(rng):
        y = np.searchsorted(edges, ndtr(autoregressive(rng)))
        prior = rng.integers(categories, size=NUM_PRIOR)
        return arviz(y, prior, log_ratio[y] - 500, log_ratio[prior] - 500, exact=False)

    return make


CASES = {
    "collapsed: global latent": (0.0, global_latent(None)),
    "collapsed: global, empirical prior": (0.0, global_latent(None, exact=False)),
    "collapsed: 8 points × 3 latents": (0.0, collapsed_vector),
    "collapsed: integer latent": (0.0, labels(0.0)),
    "KL .002: shift": (0.002, global_latent(Law("shift", 0.002))),
    "KL .002: linear-Gaussian, 8 points": (0.002, linear_gaussian(0.002)),
    **{f"KL .1: {name}": (0.1, global_latent(Law(name, 0.1))) for name in LAWS},
    "KL .1: shift, empirical prior": (0.1, global_latent(Law("shift", 0.1), exact=False)),
    "KL .1: linear-Gaussian, 8 points": (0.1, linear_gaussian(0.1)),
    "KL .1: linear-Gaussian, 1 point": (0.1, linear_gaussian(0.1, points=1)),
    "KL .1: integer latent": (0.1, labels(0.1)),
    "KL .3: bimodal": (0.3, global_latent(Law("bimodal", 0.3))),
    "KL 1: narrower": (1.0, global_latent(Law("narrower", 1.0))),
}


def interval(count, total):
    """Return the 95 % Clopper-Pearson interval of a share, in per cent."""
    low, high = binomtest(count, total).proportion_ci(0.95, method="exact")
    return f"{100 * count / total:5.1f} ({100 * low:4.1f}–{100 * high:5.1f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-data-sets", type=int, default=1000)
    total = parser.parse_args().num_data_sets
    # Rounding of a constant reaches variances of 0.
    warnings.simplefilter("error")
    print(f"ε = {EPSILON} nat, {total} data sets a case, ESS 400; per cent, 95 % intervals")
    print(f"{'case':<37}{'row':<8}{'collapsed':>20}{'informative':>21}  wanted  seconds")
    failed = 0
    for name, (kl, make) in CASES.items():
        rng = np.random.default_rng(1)
        counts = np.zeros((2, 2), dtype=int)
        start = time.perf_counter()
        for _ in range(total):
            report = collapse_report(make(rng), epsilon=EPSILON)
            verdicts = report.table["verdict"]
            # Of several latents, all collapsed or any informative.
            counts[0] += (verdicts == "collapsed").all(), (verdicts == "informative").any()
            whole = report.vector["verdict"]
            counts[1] += whole == "collapsed", whole == "informative"
        seconds = time.perf_counter() - start
        for row, (collapsed, informative) in zip(("latent", "vector"), counts, strict=True):
            if kl < EPSILON:
                good = collapsed >= 0.9 * total and informative <= 0.05 * total
            else:
                good = collapsed <= 0.01 * total and informative >= 0.9 * total
            failed += not good
            print(
                f"{name:<37}{row:<8}{interval(collapsed, total):>20}"
                f"{interval(informative, total):>21}  {'yes' if good else 'NO':<6}  {seconds:7.1f}"
            )
    print(f"{failed} rows fail" if failed else "all as wanted")


if __name__ == "__main__":
    main()
