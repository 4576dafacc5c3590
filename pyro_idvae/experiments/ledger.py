# SPDX-License-Identifier: Apache-2.0
"""Rows of a table that stay on disk, one by one, whatever ends the program that makes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_idvae._files import replacing
from pyro_idvae.errors import ArgumentError

Array = np.ndarray[Any, Any]

OPTIONS = "options.json"


class EarlierRunError(ArgumentError):
    """A folder holds rows of an earlier run, which would be lost or mixed with others."""


def begin(out: Path, options: Mapping[str, Any], *, resume: bool) -> None:
    """Make a folder for a run's rows, or see that those in it are of a run with these options.

    Args:
        out: the folder.
        options: what the rows depend on; stored beside them.
        resume: whether to go on with what is there.

    Raises:
        EarlierRunError: for a folder with rows, without ``resume``; with it, if these were made
            with other options.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, wanted = out / OPTIONS, json.loads(json.dumps(dict(options)))
    if any(out.glob("*.csv")):
        if not resume:
            raise EarlierRunError(
                f"{str(out)!r} holds rows of an earlier run: go on with --resume, or give another "
                "--out"
            )
        stored = json.loads(path.read_text()) if path.exists() else {}
        names = sorted({*stored, *wanted})
        differ = [
            f"{name} was {json.dumps(stored.get(name))}, now {json.dumps(wanted.get(name))}"
            for name in names
            if stored.get(name) != wanted.get(name)
        ]
        if differ:
            raise EarlierRunError(
                f"{str(out)!r} holds rows made with other options ({'; '.join(differ)}): give the "
                "same ones, or another --out"
            )
    with replacing(path) as part:
        part.write_text(json.dumps(wanted, indent=1) + "\n")


class Ledger:
    """The rows of a table, in memory and in a file that is whole at every moment.

    Args:
        path: the CSV file; rows that are in it already are read.

    Attributes:
        rows: all rows, in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            # The slow engine reads floats to their last bit in all versions of pandas.
            found = pd.read_csv(path, engine="python")
            self.rows = [{str(k): v for k, v in row.items()} for row in found.to_dict("records")]

    def find(self, **values: Any) -> list[dict[str, Any]]:
        """Return the rows with these values in these columns; empty if they are still to be made.

        Example:
            >>> from pathlib import Path
            >>> from tempfile import mkdtemp
            >>> from pyro_idvae.experiments.ledger import Ledger
            >>> ledger = Ledger(Path(mkdtemp()) / "table.csv")
            >>> ledger.add([{"model": "a", "seed": 0, "loss": 0.5}])
            >>> Ledger(ledger.path).find(model="a", seed=0)
            [{'model': 'a', 'seed': 0, 'loss': 0.5}]
        """
        wanted = values.items()
        return [row for row in self.rows if all(row.get(k) == v for k, v in wanted)]

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write further rows, all of them or none."""
        self.rows += [dict(row) for row in rows]
        with replacing(self.path) as part:
            self.frame().to_csv(part, index=False)

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table."""
        return pd.DataFrame(self.rows)

    def _file_of(self, name: str) -> Path:
        return self.path.with_name(re.sub(r"\W+", "_", f"{self.path.stem} {name}") + ".npy")

    def keep(self, name: str, values: Array) -> None:
        """Write numbers that a picture needs, before the row that they belong to."""
        with replacing(self._file_of(name)) as part, part.open("wb") as file:
            np.save(file, values)

    def kept(self, name: str) -> Array:
        """Return numbers that were kept."""
        found: Array = np.load(self._file_of(name))
        return found
