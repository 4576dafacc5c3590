# SPDX-License-Identifier: Apache-2.0
"""Files that are published on the web, checked and kept."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

from pyro_idvae.datasets.local import Folder

CACHE = "pyro_idvae"
LENGTH = 120
"""Of what a failed connection says of itself, in characters."""


def fetch(address: str, checksums: dict[str, str], folder: Folder | None = None) -> dict[str, Path]:
    """Return the paths of files, which are downloaded unless they are there.

    Args:
        address: of the files, without their names.
        checksums: MD5 sums by file name.
        folder: to keep them in; that of pooch for the user's downloads if None.

    Raises:
        ImportError: without pooch (extra ``data``).
        FileNotFoundError: if there is no connection, or what comes is another file.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            "downloads are made by pooch: pip install 'pyro-idvae[data]', or pass folder= with the "
            f"files {', '.join(checksums)}"
        ) from error
    where = Path(pooch.os_cache(CACHE) if folder is None else folder)
    known = {name: f"md5:{checksum}" for name, checksum in checksums.items()}
    server = pooch.create(path=where, base_url=f"{address.rstrip('/')}/", registry=known)
    try:
        return {name: Path(server.fetch(name)) for name in checksums}
    except (OSError, ValueError) as error:  # no connection, no such address; another checksum
        raise FileNotFoundError(
            f"{', '.join(checksums)} could not be had from {address} "
            f"({type(error).__name__}: {shorten(str(error), LENGTH)}): connect, or pass folder= "
            "with these files"
        ) from error
