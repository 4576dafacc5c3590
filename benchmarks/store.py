"""What a store costs: processor time and memory by rows, of the sampling and of the report.

``python benchmarks/store.py --rows 10000 200000 [--draws 200] [--out DIR]``: a curved injective
model of 10 observed numbers and 2 latents, 4 chains. One thread. Each size is sampled in a process
of its own, and reported on in another: the largest memory is that of either.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

import pyro_idvae as idvae

CHAINS, WARMUP = 4, 200


def model_and_data(rows):
    torch.manual_seed(0)
    vae = idvae.IDVAE(10, 2, "normal", hidden_dims=[32], encoder_hidden_dims=[16])
    with torch.no_grad():
        x = vae.likelihood.condition(torch.randn(rows, 2)).sample()
    return vae.model, x


def sample(rows, draws, folder):
    model, x = model_and_data(rows)
    idvae.mcmc(
        model,
        x,
        kernel="vectorized",
        num_samples=draws,
        warmup_steps=WARMUP,
        num_chains=CHAINS,
        seed=0,
        store=folder,
        progress=False,
    )


def report(rows, draws, folder):
    print(idvae.collapse_report(idvae.open_draws(folder)), file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=["sample", "report"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only:
        start = time.process_time()
        {"sample": sample, "report": report}[options.only](
            options.rows[0], options.draws, options.out
        )
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"cpu s": time.process_time() - start, "GiB": most}))
        return
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        for rows in options.rows:
            folder = (options.out or Path(scratch)) / str(rows)
            row = {"rows": rows}
            for part in ("sample", "report"):
                command = [sys.executable, __file__, "--only", part, "--rows", str(rows)]
                command += ["--draws", str(options.draws), "--out", str(folder)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                row |= {f"{part}, {name}": value for name, value in found.items()}
            size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            row |= {"store, GB": size / 1e9, "ms a row": 1000 * row["sample, cpu s"] / rows}
            table.append(row)
            print(pd.DataFrame(table).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
