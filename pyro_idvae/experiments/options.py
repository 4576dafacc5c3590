# SPDX-License-Identifier: Apache-2.0
"""Command lines: values that are checked before any work, and errors of one line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

SEEDS = 2**32
"""How many seeds there are: what numpy's generator takes."""


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, and ends with status 2.

    Options must be written out: ``--seed`` is no short form of ``--seeds``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print a message and exit."""
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {line}; --help lists the options\n")


def whole_number(minimum: int, below: int | None = None) -> Callable[[str], int]:
    """Return a type for whole numbers of at least ``minimum``, below a limit if there is one.

    Example:
        >>> from pyro_idvae.experiments.options import whole_number
        >>> whole_number(1)("12")
        12
    """
    wanted = f"a whole number of at least {minimum}"
    if below is not None:
        wanted = f"a whole number from {minimum} to {below - 1}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum or (below is not None and number >= below):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return number

    return parse


seed = whole_number(0, below=SEEDS)


def make_folder(parser: Parser, folder: Path) -> None:
    """Make a folder for results, with those it lies in; end the program if that is not possible.

    Args:
        parser: says what is wrong.
        folder: the folder; one that is there already must be one that can be written to.
    """
    made: list[Path] = []
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        if not folder.is_dir():
            raise NotADirectoryError(0, "it is a file")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(0, "it cannot be written to")
    except (OSError, ValueError) as error:
        for path in reversed(made):
            path.rmdir()
        why = error.strerror if isinstance(error, OSError) else str(error)
        parser.error(f"argument --out: {str(folder)!r} cannot be a folder for results ({why})")
