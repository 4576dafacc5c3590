# SPDX-License-Identifier: Apache-2.0
"""A folder of checkpoints: one run writes it, and a run that was killed goes on from it."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from pyro_idvae._files import PART
from pyro_idvae._version import __version__
from pyro_idvae.errors import CheckpointError
from pyro_idvae.infer.fit import container
from pyro_idvae.infer.fit.result import FitResult
from pyro_idvae.infer.fit.state import FitState
from pyro_idvae.infer.interrupts import warn_caller

LOCK = ".lock"
NAME = re.compile(r"^epoch-(\d{8})\.safetensors$")
HISTORY = ("losses", "validation_losses", "kl", "wall_time", "cpu_time", "stopped_early")


def versions() -> dict[str, str | int]:
    """Return what the last bits of a result depend on besides the inputs."""
    return {
        "pyro_idvae": __version__,
        "torch": version("torch"),
        "pyro": version("pyro-ppl"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


class Checkpoints:
    """The checkpoints of one run, in a folder that no other run writes to at the same time.

    Args:
        folder: made if it is not there.
        keep: files kept: the newest.
        identity: what must be the same for the run to go on: nested dicts of JSON.

    Raises:
        CheckpointError: if the folder cannot be written to, or another run has it.
    """

    def __init__(self, folder: Path, keep: int, identity: Any) -> None:
        self.folder, self.keep, self.identity = folder, keep, identity
        self.written = -1
        self.is_same_machine = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(self.folder / LOCK, timeout=0)
            self.lock.acquire()
        except Timeout as error:
            raise CheckpointError(
                f"checkpoint={str(folder)!r}: another run writes to this folder; wait for it, or "
                "give this one a folder of its own"
            ) from error
        except OSError as error:
            raise CheckpointError(
                f"checkpoint={str(folder)!r} cannot be written to ({error.strerror or error}): "
                "give the path of a folder that can"
            ) from error
        for path in self.folder.glob(".*.part"):
            if PART.match(path.name):
                path.unlink(missing_ok=True)  # whose it was is dead: this run has the lock

    def close(self) -> None:
        """Let others write to the folder."""
        self.lock.release()

    def __enter__(self) -> Checkpoints:
        """Return itself."""
        return self

    def __exit__(self, *args: Any) -> None:
        """Let others write to the folder."""
        self.close()

    def files(self) -> list[tuple[int, Path]]:
        """Return epochs done and files, the newest first."""
        found = [(NAME.match(path.name), path) for path in self.folder.iterdir()]
        return sorted(((int(m[1]), path) for m, path in found if m), reverse=True)

    def newest(self) -> FitResult | None:
        """Return the fit that the newest whole checkpoint holds; None if there is none at all.

        A damaged one is left where it is, with a warning, and the one before is taken.

        Raises:
            CheckpointError: if all are damaged, or the newest is of another model, data or
                configuration.
        """
        files = self.files()
        for epochs, path in files:
            try:
                tensors, said = container.read(path)
                if said.get("kind") != "fit":
                    raise CheckpointError(f"{path} holds weights only, and no state of a fit")
                state = FitState.from_content(tensors, said["state"])
                result = FitResult(**{name: said["history"][name] for name in HISTORY})
            except CheckpointError as error:
                warn_caller(f"{error}; the checkpoint before it is taken")
                continue
            self.is_same_machine = self._check(path, said)
            self.written = epochs
            result.state = state
            return result
        if files:
            raise CheckpointError(
                f"none of the {len(files)} checkpoints in {self.folder} can be read: remove the "
                "folder to begin anew"
            )
        return None

    def _check(self, path: Path, said: Mapping[str, Any]) -> bool:
        """Tell whether the file was written under the same versions; raise if by another fit."""
        differing = list(differences(said["identity"], self.identity))
        if differing:
            raise CheckpointError(
                f"{path} is of another run: {'; '.join(differing)}. Give this one a folder of its "
                "own, or the model, data and options of the other"
            )
        other = list(differences(said["versions"], versions()))
        if other:
            warn_caller(
                f"{path} was written elsewhere: {'; '.join(other)}. The run goes on, but its last "
                "bits may differ from those of a run that was never ended"
            )
        return not other

    def write(self, state: FitState, result: FitResult) -> None:
        """Write a checkpoint, unless there is one of this epoch, and remove the oldest.

        A disk that is full must not cost a run: there is a warning, and the run goes on.
        """
        if result.num_epochs == self.written:
            return
        tensors, said = state.as_content()
        content = {
            "kind": "fit",
            "roles": ["model", "guide"],
            "versions": versions(),
            "identity": self.identity,
            "history": {name: getattr(result, name) for name in HISTORY},
            "state": said,
        }
        path = self.folder / f"epoch-{result.num_epochs:08d}.safetensors"
        try:
            container.write(path, tensors, content)
            self.written = result.num_epochs
            for _, old in self.files()[self.keep :]:
                old.unlink(missing_ok=True)
        except (CheckpointError, OSError) as error:
            warn_caller(f"{error}. The fit goes on without this checkpoint")


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Yield in words where two nested dicts differ."""
    if not (isinstance(there, Mapping) and isinstance(here, Mapping)):
        if there != here:
            yield f"{name} was {there!r} and is {here!r}"
        return
    for key in [*there, *(key for key in here if key not in there)]:
        inner = f"{name} {key}".strip()
        yield from differences(there.get(key), here.get(key), inner)
