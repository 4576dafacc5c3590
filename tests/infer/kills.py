"""Fits in a folder, killed at random moments by a parent that watches the folder.

Run as a script: ``kills.py KIND KILLS SEED``. Fits run in forked processes, so that what is
imported is imported once.
"""

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyro
import torch
from torch.utils.data import DataLoader, TensorDataset

from pyro_idvae import IDVAE, fit
from pyro_idvae.infer.fit import container

EPOCHS = 60


def data():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(240, 4, generator=generator) * torch.tensor([3.0, 2.0, 1.0, 0.5])


def plain():
    return data(), {"batch_size": 30, "optimizer": partial(torch.optim.Adam, lr=0.01)}


def pyro_with_a_schedule():
    options = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.95}
    return data(), {"batch_size": 30, "optimizer": pyro.optim.ExponentialLR(options)}


def workers():
    generator = torch.Generator().manual_seed(1)
    loader = DataLoader(TensorDataset(data()), 60, shuffle=True, num_workers=2, generator=generator)
    return loader, {"num_epochs": 15}


def patience():
    return data(), {
        "batch_size": 30,
        "validation": 0.3,
        "patience": 25,
        "optimizer": partial(torch.optim.Adam, lr=0.05),
    }


KINDS = {f.__name__: f for f in (plain, pyro_with_a_schedule, workers, patience)}


def run(kind, folder, out):
    """Fit, and write what must be the same: losses, and parameters as hexadecimal numbers."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    given, options = KINDS[kind]()
    result = fit(
        vae.model,
        vae.guide,
        given,
        **{"num_epochs": EPOCHS, **options},
        seed=5,
        checkpoint=folder,
        progress=False,
    )
    weights = hashlib.sha256()
    for parameter in vae.parameters():
        weights.update(parameter.detach().numpy().tobytes())
    said = {
        "losses": result.losses,
        "validation_losses": result.validation_losses,
        "kl": result.kl,
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "weights": weights.hexdigest(),
    }
    Path(out).write_text(json.dumps(said))


def forked(kind, folder, out):
    """Return the number of a process that fits."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        try:
            run(kind, folder, out)
        except BaseException as error:  # whatever it is, the parent must see that it failed
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def end_orphans(child):
    """Kill what is left of a killed fit: a loader's worker just begun may not see it is alone."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def newest(folder):
    """Return the number of epochs of the newest checkpoint; −1 if there is none."""
    numbers = [int(path.name[6:14]) for path in folder.glob("epoch-*.safetensors")]
    return max(numbers, default=-1)


def wait_for(epochs, folder, child):
    """Wait until there is a checkpoint of so many epochs; return a status if the fit has ended."""
    while newest(folder) < epochs:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.001)
    return None


def kill(kind, kills, chance, folder, out):
    """Kill a fit so many times; return at which epochs, and how many whole files were found."""
    moments, opened = [], 0
    while len(moments) < kills:
        child = forked(kind, folder, out)
        began = time.perf_counter()
        # One in five is killed wherever it is, before its first checkpoint perhaps.
        status = None
        if chance.random() < 0.8:
            status = wait_for(newest(folder) + chance.randint(1, 3), folder, child)
        if status is None:
            time.sleep(chance.uniform(0.0, 0.05) if time.perf_counter() - began > 0.01 else 0.1)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            end_orphans(child)
        assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
        for path in folder.glob("epoch-*"):
            container.read(path)
            opened += 1
        if os.waitstatus_to_exitcode(status) == 0:
            break
        moments.append(newest(folder))
    return moments, opened


def main(kind, kills, seed):
    """Kill a fit so many times, then let it end; print what it and a whole one came to."""
    chance = random.Random(seed)
    moments, opened, round_ = [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        run(kind, None, place / "warm.json")  # what torch imports at its first step
        assert os.waitpid(forked(kind, None, place / "whole.json"), 0)[1] == 0
        whole = json.loads((place / "whole.json").read_text())
        while len(moments) < kills:  # a fit that was done too soon begins anew
            round_ += 1
            folder, out = place / f"run {round_}", place / "killed.json"
            more, whole_files = kill(kind, kills - len(moments), chance, folder, out)
            moments += more
            opened += whole_files
            assert os.waitpid(forked(kind, folder, out), 0)[1] == 0
            assert json.loads(out.read_text()) == whole, f"round {round_}, killed at {moments}"
            left = [path.name for path in folder.iterdir() if path.name.endswith(".part")]
            assert left == [], left
    print(json.dumps({"moments": moments, "opened": opened, "epochs": len(whole["losses"])}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
