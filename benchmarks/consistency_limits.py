"""How often the limits of a consistency report hold the value of endless rows.

Each case draws posterior means A of one run and B of another, many times, and counts. The truth is
what maps explain of 400,000 rows, and 0 for noise.

Wanted: 95 % limits that hold it in 92 to 98 % of the data sets, or more of noise; MCC and
permutations err low where no pairs stand out.
Run: OPENBLAS_NUM_THREADS=1 python benchmarks/consistency_limits.py (some ten minutes)
"""

import argparse

import numpy as np

from pyro_idvae.diagnostics.estimators.agreement import BIASED, agreement, in_sample
from pyro_idvae.diagnostics.estimators.alignments import affine
from pyro_idvae.diagnostics.estimators.block_moments import deal
from pyro_idvae.diagnostics.estimators.cross_products import CrossProducts
from pyro_idvae.diagnostics.estimators.jackknife import (
    correlation_limits,
    jackknife,
    share_limits,
)
from pyro_idvae.diagnostics.estimators.pairing import splits_of

BLOCKS, SPLITS, ENDLESS = 30, 8, 400_000
CASES = [
    # rows, latents, law of A, how B comes of it, standard deviation of the noise
    (360, 4, "mixture", "noise", 1.0),
    (360, 16, "normal", "noise", 1.0),
    (360, 16, "normal", "permuted", 5.0),
    (360, 4, "mixture", "permuted", 3.0),
    (360, 16, "normal", "permuted", 1.0),
    (2000, 16, "t", "permuted", 1.0),
    (360, 4, "uniform", "permuted", 0.1),
    (360, 16, "normal", "permuted", 0.05),
    (360, 4, "t", "permuted", 0.01),
    (360, 4, "mixture", "rotated", 0.3),
    (360, 16, "t", "rotated", 0.3),
    (360, 4, "mixture", "affine", 0.3),
    (360, 16, "normal", "affine", 0.3),
    (1000, 32, "mixture", "affine", 0.3),
    (360, 4, "mixture", "half", 0.5),
    (360, 16, "normal", "half", 0.3),
    (136, 16, "normal", "rotated", 1.0),
]


def draw(generator, case, rows=None):
    """Return the columns of A and of B, of as many rows as the case has by default."""
    number, latents, law, relation, size = case
    rows = number if rows is None else rows
    fixed = np.random.default_rng(9)
    turn = np.linalg.qr(fixed.normal(size=(latents, latents)))[0]
    order, signs = fixed.permutation(latents), fixed.choice([-1, 1], size=latents)
    if law == "mixture":
        centres = np.random.default_rng(5).normal(size=(5, latents))
        a = centres[generator.integers(5, size=rows)] + 0.5 * generator.normal(size=(rows, latents))
    elif law == "t":
        a = generator.standard_t(6, size=(rows, latents)) / 1.5**0.5
    elif law == "uniform":
        a = generator.uniform(-(3**0.5), 3**0.5, size=(rows, latents))
    else:
        a = generator.normal(size=(rows, latents))
    noise = size * generator.normal(size=a.shape)
    if relation == "noise":
        return a, noise
    if relation == "permuted":
        return a, a[:, order] * signs + noise
    if relation == "rotated":
        return a, a @ turn + noise
    if relation == "affine":
        return a, a @ fixed.normal(size=(latents, latents)) / latents**0.5 + noise
    same = np.arange(latents) >= latents // 2
    return a, np.where(same, a[:, order] * signs + noise, noise / size)


def truth_of(case):
    """Return what endless rows would give."""
    _, latents, *_, relation, _ = case
    if relation == "noise":
        zero = dict.fromkeys(("mcc", "permutation", "orthogonal", "affine"), 0.0)
        return {**zero, "each": np.zeros(latents)}
    large = CrossProducts.of(*draw(np.random.default_rng(7), case, ENDLESS))
    found = in_sample(large)
    each = large.explained(affine(large)) / large.spread()
    return {"mcc": found.mcc, **found.forward, "each": each}


def limits_of(a, b, generator):
    """Return limits by measure."""
    block = deal(len(a), BLOCKS, generator)
    splits = splits_of(BLOCKS, SPLITS, generator)
    found = agreement(a - a.mean(0), b - b.mean(0), block, splits)
    limits = {"mcc": correlation_limits(jackknife(found.mcc), 0.95)}
    for name, values in {**found.forward.shares, "each": found.forward.each}.items():
        limits[name] = share_limits(jackknife(values, biased=name in (*BIASED, "each")), 0.95)
    return limits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=400, help="data sets a case (%(default)s)")
    sets = parser.parse_args().sets
    for number, case in enumerate(CASES):
        truth, generator = truth_of(case), np.random.default_rng(100 + number)
        runs = [limits_of(*draw(generator, case), generator) for _ in range(sets)]
        shares = {
            name: np.mean([np.mean((r[name][0] <= value) & (value <= r[name][1])) for r in runs])
            for name, value in truth.items()
        }
        rows, latents, law, relation, size = case
        said = ", ".join(
            f"{name} {np.mean(truth[name]):.4f}: {share:.1%}" for name, share in shares.items()
        )
        print(f"{relation} ({size:g}), {law}, {latents} latents, {rows} rows: {said}", flush=True)


if __name__ == "__main__":
    main()
