"""Fits by several forked processes, ``fit_ranks_script.py CASE…``; prints what each came to."""

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset

import pyro_idvae as idvae

ROWS, DIM = 97, 4


class Model(PyroModule):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, DIM))

    def forward(self, x, noise):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)


class Guide(PyroModule):
    """Its noise is data: nothing else is random."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(DIM, 4)

    def forward(self, x, noise):
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            z = loc + log_scale.exp() * noise
            pyro.sample("z", dist.Delta(z, log_scale.neg().sum(-1), event_dim=1))


def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, DIM, generator=generator), torch.randn(ROWS, 2, generator=generator)


def digest(*modules):
    found = hashlib.sha256()
    for module in modules:
        for value in module.state_dict().values():
            found.update(value.numpy().tobytes())
    return found.hexdigest()


class Stop(idvae.Callback):
    """Somebody asks this process to end, in the middle of an epoch."""

    def on_step(self, progress):
        if progress.step == 17:
            os.kill(os.getpid(), signal.SIGINT)


def given_noise(rank, **options):
    torch.manual_seed(rank)  # the first process's parameters are everybody's
    model, guide = Model(), Guide()
    options = {"batch_size": 16, "num_epochs": 15, "progress": False, "seed": 3, **options}
    adam = partial(torch.optim.Adam, lr=0.01)
    result = idvae.fit(model, guide, data(), optimizer=adam, **options)
    weights = torch.cat([p.detach().flatten() for m in (model, guide) for p in m.parameters()])
    return {
        "losses": result.losses,
        "kl": result.kl,
        "weights": weights.tolist(),
        "digest": digest(model, guide),
        "validation": result.validation_losses,
    }


def drawn(rank, folder=None, end=8, kind="tensors", stop=None):
    torch.manual_seed(rank)
    vae = idvae.IDVAE(DIM, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    x = data()[0]
    options = {"batch_size": 20, "seed": 4, "progress": False, "num_epochs": end}
    if kind == "loader":
        dataset = TensorDataset(x)
        x = DataLoader(dataset, 10, sampler=DistributedSampler(dataset, shuffle=True))
        options.pop("batch_size")
    if kind == "plain loader":
        x = DataLoader(TensorDataset(x), 10, shuffle=True)
        options.pop("batch_size")
    called = [Stop()] if rank == stop else []
    result = idvae.fit(vae.model, vae.guide, x, checkpoint=folder, callbacks=called, **options)
    return {
        "losses": result.losses,
        "digest": digest(vae),
        "interrupted": result.interrupted,
        "epochs": result.num_epochs,
    }


class Rows(Dataset):
    """Rows that are no tensor, which a sampler deals out to the processes."""

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return data()[0][index]


def validated(rank):
    vae = idvae.IDVAE(DIM, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    options = {"validation": 0.3, "patience": 1, "num_epochs": 30, "seed": 4, "progress": False}
    fast = partial(torch.optim.Adam, lr=0.3)
    result = idvae.fit(vae.model, vae.guide, Rows(), batch_size=20, optimizer=fast, **options)
    return {"validation": result.validation_losses, "digest": digest(vae)}


def forked(ranks, work, place, kill=None):
    """Return what each process found; None of those that were killed after a while."""
    meeting = place / f"meeting {time.time_ns()}"
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            code = 0
            try:
                torch.set_num_threads(1)
                if ranks > 1:
                    torch.distributed.init_process_group(
                        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks
                    )
                found = work(rank)
            except BaseException as error:  # whatever it is, the parent is told
                found, code = f"{type(error).__name__}: {error}", 3
            (place / f"{rank}.json").write_text(json.dumps(found))
            os._exit(code)
        children.append(child)
    if kill is not None:
        kill(children)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(code == -signal.SIGKILL for code in codes):
        return None
    return [json.loads((place / f"{rank}.json").read_text()) for rank in range(ranks)]


def killed(place, kills, seed):
    """Kill a fit of two processes again and again; return what it and a whole one came to."""
    chance, moments = random.Random(seed), []
    (whole, _) = forked(2, partial(drawn, folder=place / "whole", end=25), place)
    runs = 0
    while len(moments) < kills:
        runs += 1
        folder = place / f"run {runs}"
        while len(moments) < kills:

            def kill(children, folder=folder):
                before = len(list(folder.glob("epoch-*"))) and newest(folder)
                until = time.perf_counter() + 20
                wanted = before + chance.randint(0, 4)
                while newest(folder) < min(wanted, 25) and time.perf_counter() < until:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.05))
                for child in children:
                    os.kill(child, signal.SIGKILL)

            if forked(2, partial(drawn, folder=folder, end=25), place, kill) is not None:
                break
            moments.append(newest(folder))
        found = forked(2, partial(drawn, folder=folder, end=25), place)
        assert found == [whole, whole], moments
    return {"moments": moments, "runs": runs}


def newest(folder):
    return max((int(path.name[6:14]) for path in folder.glob("epoch-*.safetensors")), default=0)


CASES = {
    "noise": lambda place: [forked(n, given_noise, place) for n in (1, 2)],
    "many": lambda place: [forked(n, given_noise, place) for n in (1, 3, 4)],
    "whole": lambda place: [
        forked(n, partial(given_noise, batch_size=None, validation=0.2), place) for n in (1, 2)
    ],
    "accumulated": lambda place: [
        forked(n, partial(given_noise, batch_size=8, accumulate=2), place) for n in (1, 2)
    ],
    "drawn": lambda place: forked(2, drawn, place),
    "resumed": lambda place: [
        forked(2, partial(drawn, folder=place / "one", end=4), place),
        forked(2, partial(drawn, folder=place / "one"), place),
        forked(2, partial(drawn, folder=place / "two"), place),
        forked(1, partial(drawn, folder=place / "one", end=10), place),
    ],
    "loader": lambda place: forked(2, partial(drawn, kind="loader"), place),
    "plain loader": lambda place: forked(2, partial(drawn, kind="plain loader"), place),
    "validated": lambda place: forked(2, validated, place),
    "stopped": lambda place: forked(2, partial(drawn, end=100_000, stop=1), place),
    "killed": lambda place: killed(place, 20, 0),
}


if __name__ == "__main__":
    results = {}
    for case in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            results[case] = CASES[case](Path(folder))
    print(json.dumps(results))
