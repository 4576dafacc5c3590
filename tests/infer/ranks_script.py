"""What several processes run together, ``torchrun … ranks_script.py OUT SEED``; each writes."""

import sys
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import pyro_idvae as idvae
from pyro_idvae.infer.ranks import Ranks
from pyro_idvae.infer.rowwise.annealing.annealer import Annealer

ROWS, SIZE = 10, 3


def curved(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.StudentT(4.0, z.sin(), 0.5).to_event(1), obs=x)


def amortised(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.8).to_event(1))


def shared_mean(x):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(m, 1.0), obs=x)


def results(model, *, seed):
    x = torch.linspace(-1, 1, 2 * ROWS).reshape(ROWS, 2)
    draws = idvae.mcmc(
        model,
        x,
        kernel="vectorized",
        num_samples=30,
        warmup_steps=20,
        num_chains=2,
        block_size=SIZE,
        seed=seed,
        progress=False,
    )
    found = {
        f"{group} {name}": np.asarray(draws[group][name].values)
        for group in ("posterior", "prior", "log_likelihood", "log_prior", "sample_stats")
        for name in draws[group].data_vars
    }
    evidence = idvae.log_evidence(model, None, x, num_chains=4, block_size=SIZE, seed=seed)
    found["evidence"] = evidence.lower
    torch.manual_seed(0)
    weighed = idvae.importance_log_likelihood(model, amortised, x, num_samples=40, block_size=SIZE)
    found["importance"], found["tails"] = weighed.log_likelihood, weighed.pareto_k
    guided = idvae.from_guide(model, amortised, x, num_samples=30, block_size=SIZE, seed=seed)
    for group in ("posterior", "log_likelihood", "sample_stats"):
        for name in guided[group].data_vars:
            found[f"guide {group} {name}"] = np.asarray(guided[group][name].values)
    found["comparison"] = idvae.compare(guided, draws).table.to_numpy()
    few = idvae.from_guide(model, amortised, x, num_samples=20, block_size=ROWS, seed=seed)
    found["one block"] = np.asarray(few["posterior"]["z"].values)
    options = {"kernel": "nuts", "num_replications": 10, "num_draws": 9, "progress": False}
    options |= {"mcmc_options": {"warmup_steps": 5, "num_samples": 10}}
    found["calibration"] = idvae.calibrate(shared_mean, x[:3, 0], seed=seed, **options).ranks
    joint = idvae.mcmc(
        model, x[:2], num_samples=20, warmup_steps=10, num_chains=3, seed=seed, progress=False
    )
    for group in ("posterior", "prior", "sample_stats"):
        for name in joint[group].data_vars:
            found[f"joint {group} {name}"] = np.asarray(joint[group][name].values)
    torch.manual_seed(0)
    looked = idvae.autopsy(
        model, amortised, x, num_samples=30, num_chains=2, num_steps=10, block_size=SIZE, seed=seed
    )
    found["autopsy"] = np.asarray(str(looked))
    found["report"] = idvae.collapse_report(draws).table.to_numpy(dtype=str)
    return found


def main():
    out, seed = Path(sys.argv[1]), None if sys.argv[2] == "none" else int(sys.argv[2])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    ranks = Ranks.here()
    torch.manual_seed(ranks.rank)
    try:
        if len(sys.argv) > 3:
            fail(sys.argv[3], out)
            return
        np.savez(out / f"{ranks.rank}.npz", **results(curved, seed=seed))
    finally:
        torch.distributed.destroy_process_group()


def fail(kind, out):
    """Let one process raise, or have other data, and write what each of them says."""
    rank, rows = Ranks.here().rank, 12
    if rank == 1 and kind == "rows":
        rows = 6
    if rank == 1 and kind == "raise":
        Annealer._of_rows = None  # which cannot be called
    try:
        idvae.log_evidence(curved, None, torch.zeros(rows, 2), block_size=3, seed=0)
    except Exception as error:
        (out / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
