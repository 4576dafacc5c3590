"""What a store costs: processor time and memory by rows, of sampling, a guide, and what reads them.

``python benchmarks/store.py --rows 10000 200000 [--draws 200] [--out DIR]``: a curved injective
model of 10 observed numbers and 2 latents, 4 chains, and as many draws of its guide. One thread.
Each step has a process of its own, whose largest memory is told.
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
    return vae, x


def sample(rows, draws, folder):
    vae, x = model_and_data(rows)
    idvae.mcmc(
        vae.model,
        x,
        kernel="vectorized",
        num_samples=draws,
        warmup_steps=WARMUP,
        num_chains=CHAINS,
        seed=0,
        store=folder,
        progress=False,
    )


def guide(rows, draws, folder):
    vae, x = model_and_data(rows)
    number = CHAINS * draws
    idvae.from_guide(vae.model, vae.guide, x, num_samples=number, seed=0, store=of_guide(folder))


def of_guide(folder):
    return folder.with_name(f"{folder.name} guide")


def compare(rows, draws, folder):
    guided, sampled = idvae.open_draws(of_guide(folder)), idvae.open_draws(folder)
    print(idvae.compare(guided, sampled), file=sys.stderr)


def report(rows, draws, folder):
    print(idvae.collapse_report(idvae.open_draws(folder)), file=sys.stderr)


STEPS = {"sample": sample, "report": report, "guide": guide, "compare": compare}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=list(STEPS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only:
        start = time.process_time()
        STEPS[options.only](options.rows[0], options.draws, options.out)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"cpu s": time.process_time() - start, "GiB": most}))
        return
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        for rows in options.rows:
            folder = (options.out or Path(scratch)) / str(rows)
            row = {"rows": rows}
            for part in STEPS:
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
