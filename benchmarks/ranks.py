"""How much faster are two processes than one, sampling, annealing and training on the same rows?

``python benchmarks/ranks.py [--rows N] [--repeats R] [--only NAME]`` runs itself by torchrun on one
process and on two, in turn, one thread each, and prints the seconds of both and the ratios of
medians. Both must be free to have a core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import pyro_idvae as idvae

SIZES = (1, 2)


def fitted(batch):
    """Train a pair for pictures of 28 by 28: 64 batches and more, four epochs."""
    torch.manual_seed(0)
    hidden = {"hidden_dims": [512], "encoder_hidden_dims": [512, 512]}
    vae = idvae.IDVAE(784, 32, "bernoulli", **hidden)
    x = (torch.rand(max(16 * batch, 16_384), 784) < 0.3).float()
    idvae.fit(vae.model, vae.guide, x, batch_size=batch, num_epochs=4, seed=0, progress=False)


def timed(rows, folder, only):
    """Return the seconds of each piece of work in this process's group."""
    size = torch.distributed.get_world_size()
    torch.manual_seed(0)
    vae = idvae.IDVAE(10, 2, "normal", scale=0.3, hidden_dims=[32], encoder_hidden_dims=[32])
    with torch.no_grad():
        x = vae.likelihood.condition(torch.randn(rows, 2)).sample()
    sampling = {"kernel": "vectorized", "num_samples": 100, "warmup_steps": 100, "progress": False}
    work = {
        "sampling alone": lambda: idvae.mcmc(
            vae.model, x, seed=0, num_limit_draws=0, num_prior_samples=1, **sampling
        ),
        "mcmc, limits and all": lambda: idvae.mcmc(vae.model, x, seed=0, **sampling),
        "log_evidence": lambda: idvae.log_evidence(
            vae.model, None, x, num_chains=8, num_temperatures=20, seed=0
        ),
        "mcmc to a store": lambda: idvae.mcmc(
            vae.model, x, seed=0, store=folder / f"draws of {size} processes", **sampling
        ),
        "fit, batches of 256": lambda: fitted(256),
        "fit, batches of 1,024": lambda: fitted(1024),
        "fit, batches of 4,096": lambda: fitted(4096),
    }
    work = {name: run for name, run in work.items() if only in name}
    idvae.mcmc(vae.model, x[:50], seed=0, **sampling)
    found = {}
    for name, run in work.items():
        torch.distributed.barrier()
        began = time.perf_counter()
        run()
        torch.distributed.barrier()
        found[name] = time.perf_counter() - began
    return found


def launched(size, folder, options):
    """Return what a group of processes measured."""
    out = Path(folder) / "seconds.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={size}", __file__, "--out", str(out)]
    command += ["--rows", str(options.rows), "--only", options.only]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return json.loads(out.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="work whose name has this in it")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if "RANK" in os.environ:
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo")
        found = timed(options.rows, options.out.parent, options.only)
        if torch.distributed.get_rank() == 0:
            options.out.write_text(json.dumps(found))
        torch.distributed.destroy_process_group()
        return
    seconds = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            for size in SIZES:
                own = Path(folder) / f"{repeat} {size}"
                own.mkdir()
                seconds[size].append(launched(size, own, options))
    for name in seconds[1][0]:
        one, two = ([run[name] for run in seconds[size]] for size in SIZES)
        ratios = [a / b for a, b in zip(one, two, strict=True)]
        print(
            f"{name:22s} {statistics.median(one):8.1f} s, "
            f"{statistics.median(two):8.1f} s by two: ratio of medians "
            f"{statistics.median(one) / statistics.median(two):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
