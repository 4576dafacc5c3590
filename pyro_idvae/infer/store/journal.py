# SPDX-License-Identifier: Apache-2.0
"""What a store is of, and which of its parts are done: what is written last counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pyro_idvae._files import replacing
from pyro_idvae.errors import StoreError
from pyro_idvae.infer.fit import container

RECORD, CLOSED, LOCK, DRAWS = "store.json", "closed.json", "lock", "draws.zarr"
FORMAT = 1
DIGITS = 10
"""Of the number of a part: a line that is shorter was being written when its process died."""


class Journal:
    """The folder of a store.

    ``store.json`` says what the draws are of, ``done-<process>.txt`` which blocks of rows are
    whole, ``chain-<number>.safetensors`` how many draws a chain of a joint posterior has,
    ``closed.json`` that nothing is to come; ``draws.zarr`` holds the draws, ``chains.zarr`` those
    of joint posteriors until all are there.

    Args:
        folder: of a store that is there.

    Raises:
        StoreError: if there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        except FileNotFoundError as error:
            raise StoreError(
                f"path={str(folder)!r} is no store of draws: expected a folder that "
                "mcmc(store=...) or from_guide(store=...) made"
            ) from error
        except (OSError, ValueError) as error:
            raise StoreError(f"path={str(folder)!r} cannot be read: {error}") from error
        if self.record.get("format") != FORMAT:
            raise StoreError(
                f"path={str(folder)!r} has the format {self.record.get('format')!r}: this version "
                f"reads {FORMAT}; use the one that wrote it"
            )

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Tell whether a folder is a store.

        Raises:
            StoreError: if something else is there.
        """
        if (folder / RECORD).exists():
            return True
        try:
            # What was being written when a process died ends in .part.
            other = folder.exists() and any(p.suffix != ".part" for p in folder.iterdir())
        except OSError:
            other = True
        if other:
            raise StoreError(
                f"store={str(folder)!r}: something else is there; give a folder that is empty or "
                "not there yet"
            )
        return False

    @classmethod
    def create(cls, folder: Path, record: Mapping[str, Any]) -> Journal:
        """Make a store; it is there whole, or not at all.

        Args:
            folder: where nothing is, or an empty folder.
            record: what the draws are of, in JSON.

        Raises:
            StoreError: for a place that cannot be written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / RECORD) as part:
                part.write_text(json.dumps({"format": FORMAT, **record}, indent=1))
        except OSError as error:
            raise StoreError(
                f"store={str(folder)!r} cannot be written ({error.strerror or error}): give a "
                "folder in one that can be written to"
            ) from error
        return cls(folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the store, so that no other run writes to it.

        Raises:
            StoreError: if one does.
        """
        lock = FileLock(self.folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"store={str(self.folder)!r} is being written by another process: wait for it, or "
                "give another folder"
            ) from error
        try:
            yield
        finally:
            lock.release()

    @property
    def draws(self) -> Path:
        """Where the draws are."""
        return self.folder / DRAWS

    @property
    def chains(self) -> Path:
        """Where draws of joint posteriors are until all are there."""
        return self.folder / "chains.zarr"

    def chain_file(self, chain: int) -> Path:
        """Return where the state of a chain is."""
        return self.folder / f"chain-{chain}.safetensors"

    def length(self, chain: int) -> int:
        """Return how many draws of a chain count."""
        path = self.chain_file(chain)
        return int(container.read(path)[1]["draws"]) if path.exists() else 0

    @property
    def closed(self) -> bool:
        """Whether all is done."""
        return (self.folder / CLOSED).exists()

    def close(self) -> None:
        """Say that all is done."""
        with replacing(self.folder / CLOSED) as part:
            part.write_text("{}")

    def mark(self, number: int, process: int) -> None:
        """Say that a part is whole; call it when its draws are written.

        Args:
            number: of the part.
            process: which of several processes this is.
        """
        with (self.folder / f"done-{process}.txt").open("a") as lines:
            lines.write(f"\n{number:0{DIGITS}}")

    def done(self) -> list[int]:
        """Return the numbers of the parts that are whole, in their order."""
        found: set[int] = set()
        for path in self.folder.glob("done-*.txt"):
            lines = path.read_text().splitlines()
            found.update(int(line) for line in lines if len(line) == DIGITS)
        return sorted(found)
