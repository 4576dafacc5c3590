"""Can *collapsed* be said falsely? Posteriors with features that a smooth fit does not see.

Densities on u = F(z), the prior's own scale, are piecewise constant or Normal tilts, with a wanted
KL to the prior; draws are those of 4 chains of an AR(1) process put through the law's quantile
function. By *alone* the latent is the only one, and the limit is that of all draws' J; by *one of
two* the other latent is informative, and the limit is the stored one, of at most 1,000 draws in
which the latent is replaced.

Wanted, at ε = .05 nat: for features of posterior mass 15/ESS or more *collapsed* in at most 1 %,
and limits on J that cover in 90 % (they are one-sided, at 95 %); what is truly collapsed, J = ε/4,
called so in 90 %. Features of less mass are the blind spot: no draw may have met them.
Run: python benchmarks/blind_spots.py [--num-data-sets N]
"""

import argparse
import math
import time
import warnings

import numpy as np
from collapse_power import autoregressive, interval
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from pyro_idvae import collapse_report
from pyro_idvae._chains import effective_sample_size
from pyro_idvae.arviz_io import Variable, to_arviz

EPSILON, NUM_PRIOR = 0.05, 1000
NARROWEST = -30.0  # the logarithm of a width that doubles still resolve
CELLS = np.linspace(0.0, 1.0, 20_001)
MIDDLES = (CELLS[1:] + CELLS[:-1]) / 2


class Law:
    """A density relative to the prior, constant between edges on the scale u = F(z)."""

    def __init__(self, edges, density):
        self.edges, self.density = np.asarray(edges), np.asarray(density)
        mass = self.density * np.diff(self.edges)
        self.density = self.density / mass.sum()
        self.cdf = np.concatenate([[0.0], np.cumsum(mass / mass.sum())])
        width, log = np.diff(self.edges), np.log(self.density)
        self.kl = float((width * self.density * log).sum())
        self.j = self.kl - float((width * log).sum())

    def draw(self, scores):
        """Return u of N(0, 1) scores, by the quantile function."""
        return np.interp(ndtr(scores), self.cdf, self.edges)

    def log_ratio(self, u):
        return np.log(self.density)[np.searchsorted(self.edges, u, side="right").clip(1) - 1]


def teeth(number, mass, kl):
    """Evenly spaced teeth that hold a mass, as narrow as the wanted KL asks."""

    def law(log_width):
        width = math.exp(log_width) / number
        starts = (np.arange(number) + 0.3) / number
        edges = np.concatenate([[0.0], np.ravel(np.column_stack([starts, starts + width])), [1.0]])
        inside, outside = mass / (number * width), (1 - mass) / (1 - number * width)
        return Law(edges, np.where(np.arange(2 * number + 1) % 2, inside, outside))

    return law(brentq(lambda a: law(a).kl - kl, NARROWEST, math.log(0.999 * mass)))


def tilt(function, bounds, kl):
    """A smooth density on the scale of z."""
    z = ndtri(MIDDLES)

    def law(a):
        return Law(CELLS, np.maximum(function(z, a), 1e-12))

    return law(brentq(lambda a: law(a).kl - kl, *bounds))


def normal(z, mean, sd):
    """Density of N(mean, sd) relative to N(0, 1)."""
    return np.exp(-0.5 * ((z - mean) / sd) ** 2 + 0.5 * z**2) / sd


SMOOTH = {
    "shifted": (lambda z, a: normal(z, a, 1.0), (0.01, 3.0)),
    "narrowed": (lambda z, a: normal(z, 0.0, 1 / a), (1.01, 30.0)),
    "bimodal": (
        lambda z, a: normal(z, a, math.sqrt(1 - a * a)) + normal(z, -a, math.sqrt(1 - a * a)),
        (0.3, 0.9999),
    ),
    "skewed": (lambda z, a: 0.8 * normal(z, a, 1.0) + 0.2 * normal(z, -a, 1.0), (0.05, 3.0)),
}


def laws(ess):
    """Yield name, law, and what is wanted of it."""
    for kl in (0.06, 0.1, 0.3):
        yield f"spike of mass 15/ESS, KL {kl}", teeth(1, 15 / ess, kl), "seen"
        yield f"spike of mass .2, KL {kl}", teeth(1, 0.2, kl), "seen"
        yield f"comb of 20 teeth, mass .5, KL {kl}", teeth(20, 0.5, kl), "seen"
        yield f"bump of mass .6, KL {kl}", teeth(1, 0.6, kl), "seen"
        for name, (function, bounds) in SMOOTH.items():
            yield f"{name}, KL {kl}", tilt(function, bounds, kl), "seen"
        for mass in (5, 2):
            # A spike this small cannot be narrow enough for every KL.
            if mass / ess * (math.log(mass / ess) - NARROWEST) > 1.2 * kl:
                yield f"spike of mass {mass}/ESS, KL {kl}", teeth(1, mass / ess, kl), "blind spot"
    j = EPSILON / 4
    yield "shifted, J = ε/4", tilt(*SMOOTH["shifted"], j / 2), "collapsed"
    yield "prior, J = 0", Law([0.0, 1.0], [1.0]), "collapsed"


def moments(change):
    """Return mean, variance and effective size as the sampler stores them."""
    size = min(float(effective_sample_size(change)), float(change.size))
    return change.mean(), change.var(ddof=1), size


def data_set(rng, law, draws, other):
    """Return ArviZ data of one latent, or of two of which the other has a KL of half a nat."""
    scores = autoregressive(rng, draws, (2,) if other else (1,))
    u = law.draw(scores[..., 0])
    z, prior = ndtri(u)[..., None], rng.normal(size=(1, NUM_PRIOR, 1))
    posterior, base = law.log_ratio(u), law.log_ratio(ndtr(prior[..., 0]))
    stats = {}
    if other:
        w, w_prior = 1.0 + scores[..., 1:], rng.normal(size=(1, NUM_PRIOR, 1))
        posterior, base = posterior + w[..., 0], base + w_prior[..., 0]
        kept = np.linspace(0, draws - 1, min(250, draws)).round().astype(int)
        fresh = rng.normal(size=(4, len(kept), 2))
        changes = [
            law.log_ratio(u[:, kept]) - law.log_ratio(ndtr(fresh[..., 0])),
            w[:, kept, 0] - fresh[..., 1],
        ]
        found = np.array([moments(change) for change in changes]).T
        for name, values in zip(("mean", "variance", "size"), found, strict=True):
            stats[f"limit_{name}_z"] = Variable(values, ("k",), ())
        z, prior = np.concatenate([z, w], -1), np.concatenate([prior, w_prior], -1)
    groups = {
        "posterior": {"z": Variable(z, ("k",))},
        "prior": {"z": Variable(prior, ("k",))},
        "sample_stats": {"prior_score_z": Variable(z, ("k",)), **stats},
        "log_likelihood": {"x": Variable(posterior, ())},
        "sample_stats_prior": {"log_likelihood_x": Variable(base, ())},
    }
    return to_arviz(groups, attrs={"inference_method": "mcmc"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-data-sets", type=int, default=1000)
    parser.add_argument("--ess", type=int, nargs="+", default=[400, 1000])
    parser.add_argument("--latents", type=int, nargs="+", default=[1, 2], choices=(1, 2))
    options = parser.parse_args()
    total = options.num_data_sets
    warnings.simplefilter("ignore")
    print(f"ε = {EPSILON} nat, {total} data sets a case; per cent, 95 % intervals")
    failed = 0
    for ess in options.ess:
        draws = 900 * ess // 400
        for other in (number == 2 for number in options.latents):
            print(f"ESS {ess}, {'one of two' if other else 'alone'}")
            print(f"  {'case':<38}{'J':>6}{'collapsed':>20}{'informative':>21}{'J covered':>21}")
            for name, law, wanted in laws(ess):
                rng = np.random.default_rng(1)
                counts, start = np.zeros(3, dtype=int), time.perf_counter()
                for _ in range(total):
                    report = collapse_report(data_set(rng, law, draws, other), epsilon=EPSILON)
                    row = report.table.iloc[0]
                    counts += (
                        row["verdict"] == "collapsed",
                        row["verdict"] == "informative",
                        row["limit"] >= law.j,
                    )
                good = {
                    "seen": counts[0] <= 0.01 * total and counts[2] >= 0.9 * total,
                    "collapsed": counts[0] >= 0.9 * total,
                    "blind spot": True,
                }[wanted]
                failed += not good
                said = "blind spot" if wanted == "blind spot" else "yes" if good else "NO"
                print(
                    f"  {name:<38}{law.j:6.3f}"
                    + "".join(f"{interval(count, total):>21}" for count in counts)
                    + f"  {said}  {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
    print(f"{failed} cases fail" if failed else "all as wanted")


if __name__ == "__main__":
    main()
