"""Sampling into a store, killed at random moments by a parent.

Run as a script: ``store_script.py KERNEL RANKS KILLS SEED``. The processes that sample are forked,
so that what is imported is imported once.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import pyro_idvae as idvae
from pyro_idvae.infer.store import Journal

BY_ROW = {"num_samples": 30, "warmup_steps": 20, "num_chains": 2, "block_size": 3}
JOINT = {"num_samples": 400, "warmup_steps": 30, "num_chains": 3}
OPTIONS = {
    "vectorized": BY_ROW,
    "nuts": JOINT,
    "hmc": {**JOINT, "kernel_options": {"num_steps": 5}},
}
ROWS = {"vectorized": 36, "nuts": 2, "hmc": 2, "guide": 120}


def summed(x):
    """Two latents of which the data see the sum: there is a direction to find."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.StudentT(4.0, z.sum(-1).sin(), 0.3), obs=x)


def seen(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.unsqueeze(-1).expand(-1, 2) / 2, 0.7).to_event(1))


def sample(kernel, folder, rank, ranks, meeting):
    torch.set_num_threads(1)
    if ranks > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks
        )
    x = torch.linspace(-1, 1, ROWS[kernel])
    if kernel == "guide":
        idvae.from_guide(summed, seen, x, num_samples=200, block_size=3, seed=5, store=folder)
        return
    options = {**OPTIONS[kernel], "seed": 5, "progress": False}
    idvae.mcmc(summed, x, kernel=kernel, store=folder, **options)


def started(kernel, folder, ranks, meeting):
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            try:
                sample(kernel, folder, rank, ranks, meeting)
            except BaseException as error:  # whatever it is, the parent must see that it failed
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        children.append(child)
    return children


def ended(children):
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert all(code == 0 for code in codes), codes


def opened(folder):
    """Open what is there, as one may at every moment; return how much of it is done."""
    if not (folder / "store.json").exists():
        return 0
    posterior = idvae.open_draws(folder)["posterior"]["z"].values
    assert np.isfinite(posterior).all()
    journal = Journal(folder)
    return len(journal.done()) + sum(map(journal.length, range(3)))


def same(one, other):
    for group in ("posterior", "log_likelihood", "sample_stats", "prior", "sample_stats_prior"):
        ours, theirs = one[group], other[group]
        assert set(ours.data_vars) == set(theirs.data_vars), group
        for name in ours.data_vars:
            np.testing.assert_array_equal(ours[name].values, theirs[name].values, err_msg=name)


warnings.simplefilter("error")


def main(kernel, ranks, kills, seed):
    chance, moments, looked, runs = random.Random(seed), [], 0, 0
    start = partial(started, kernel)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        whole, meetings = place / "whole", 0
        begun = time.perf_counter()
        ended(start(whole, 1, None))
        length, all_of_it = time.perf_counter() - begun, opened(whole)
        step = 50 if kernel in ("nuts", "hmc") else 1
        while len(moments) < kills:
            runs += 1
            folder = place / f"run {runs}"
            while len(moments) < kills:
                meetings += 1
                children = start(folder, ranks, place / f"meeting {meetings}")
                # One in five is killed wherever it is, before its first block perhaps.
                done, wanted = opened(folder), 0
                if chance.random() < 0.8:
                    wanted = min(done + step * chance.randint(1, 3), all_of_it)
                while done < wanted:
                    done = opened(folder)
                    looked += 1
                until = time.perf_counter() + chance.uniform(0.0, 0.3 if wanted else 0.4 * length)
                while time.perf_counter() < until:
                    opened(folder)
                    looked += 1
                for child in children:
                    os.kill(child, signal.SIGKILL)
                codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
                moments.append(opened(folder))
                if all(code == 0 for code in codes):
                    moments.pop()
                    break
            meetings += 1
            # It goes on with another number of processes, too.
            number = 1 if runs % 2 else ranks
            ended(start(folder, number, place / f"meeting {meetings}"))
            same(idvae.open_draws(folder), idvae.open_draws(whole))
            left = [*folder.glob(".*"), *folder.rglob("*.partial")]
            assert not left, left
    print(json.dumps({"moments": moments, "looked": looked, "runs": runs}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
