"""How often StopOnPlateau ends a fit that still gets better, and how soon one that does not.

Simulated losses: a line that falls by the given part of ``min_improvement`` a window, or not at
all, with noise of unit variance that is independent, correlated from epoch to epoch, or of heavy
tails.

    python benchmarks/false_stops.py [--runs N]
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from pyro_idvae.infer.fit.plateau import StopOnPlateau

WINDOW, COMPARISONS = 50, 20


def noise(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    if kind == "heavy tails (t, 3)":
        return rng.standard_t(3, shape) / 3**0.5
    white = rng.normal(size=shape)
    share = {"independent": 0.0, "correlation .5": 0.5, "correlation .9": 0.9}[kind]
    found = np.empty(shape)
    found[:, 0] = white[:, 0]
    for t in range(1, shape[1]):
        found[:, t] = share * found[:, t - 1] + (1 - share**2) ** 0.5 * white[:, t]
    return found


def stopped_at(losses: np.ndarray, stop: StopOnPlateau) -> int | None:
    """Return the number of the comparison that ends a run, or None."""
    for comparison in range(1, len(losses) // WINDOW):
        if stop.has_ended(losses[: (comparison + 1) * WINDOW], comparison):
            return comparison
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    length = WINDOW * (COMPARISONS + 1)
    print(f"window {WINDOW} epochs, alpha .05, {COMPARISONS} comparisons, {runs} runs a line")
    columns = f"{'noise':20s}{'improvement':>14s}{'fall':>10s}"
    print(f"{columns}{'stopped':>24s}{'median comparison':>20s}")
    for kind in ("independent", "correlation .5", "correlation .9", "heavy tails (t, 3)"):
        for improvement in (0.5, 1.0, 3.0):
            for fall in (1.0, 0.0):
                rng = np.random.default_rng(0)
                stop = StopOnPlateau(improvement, window=WINDOW, alpha=0.05)
                trend = -fall * improvement / WINDOW * np.arange(length)
                losses = trend + noise(kind, (runs, length), rng)
                found = [stopped_at(run, stop) for run in losses]
                count = sum(at is not None for at in found)
                low, high = stats.binomtest(count, runs).proportion_ci()
                median = np.median([COMPARISONS + 1 if at is None else at for at in found])
                share = f"{count / runs:.1%} ({low:.1%}-{high:.1%})"
                print(f"{kind:20s}{improvement:14.1f}{fall:10.0f}{share:>24s}{median:20.0f}")


if __name__ == "__main__":
    main()
