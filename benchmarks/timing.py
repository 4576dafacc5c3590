"""Two things timed against each other in one run: the ratio of medians with its spread."""

import time
from statistics import median

import torch


def compare(name, ours, theirs, *, limit, rounds=60, warmup=5, inner=1):
    """Alternate A and B, print the ratio A/B of medians and the middle half of the ratios."""
    torch.set_num_threads(1)
    for _ in range(warmup):
        ours()
        theirs()
    pairs = []
    for _ in range(rounds):
        seconds = []
        for function in (ours, theirs):
            start = time.perf_counter()
            for _ in range(inner):
                function()
            seconds.append((time.perf_counter() - start) / inner)
        pairs.append(seconds)
    a, b = (median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(x / y for x, y in pairs)
    low, high = ratios[rounds // 4], ratios[-1 - rounds // 4]
    print(
        f"{name}: {1e3 * a:.3f} ms against {1e3 * b:.3f} ms, ratio {a / b:.2f} "
        f"(middle half {low:.2f} to {high:.2f}; wanted at most {limit})"
    )
    return a / b
