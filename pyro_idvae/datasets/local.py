# SPDX-License-Identifier: Apache-2.0
"""Real data that lie in a folder of the user's."""

from __future__ import annotations

import os
from pathlib import Path

Folder = str | os.PathLike[str]


def find(folder: Folder, name: str, what: str) -> Path:
    """Return the path of a file in a folder, or say what is missing.

    Args:
        folder: where data sets are.
        name: of the file.
        what: it holds.

    Raises:
        FileNotFoundError: if it is not there.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"folder={str(folder)!r} has no file {name!r}: expected it there, with {what}"
        )
    return path
