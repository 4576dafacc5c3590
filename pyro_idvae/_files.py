# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all.

A leaf: it imports nothing of the package.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = re.compile(r"^\..+\.(?P<host>[^.]*)\.(?P<process>\d+)\.[0-9a-f]{12}\.part$")
"""Names of files being written: what they will be, where and by which process, a random number."""


def _host() -> str:
    return socket.gethostname().replace(".", "-")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to that takes another's place when all is well.

    The new file is on the disk before the old one goes: readers find either, whole, at every
    moment. It gets the old one's mode; of a symbolic link the target is replaced. After an error
    the old file is as it was, and nothing is left behind. What killed processes left of earlier
    attempts on this path is removed.

    Args:
        path: the file to write or replace.

    Yields:
        An empty file in the same folder.

    Raises:
        OSError: as the system says, and for anything but a regular file.
    """
    target = Path(os.path.realpath(path))
    mode: int | None = None
    if target.exists():
        if not target.is_file():
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        mode = target.stat().st_mode & 0o7777
    remove_parts(target.parent, of=target.name)
    token = f"{_host()}.{os.getpid()}.{secrets.token_hex(6)}"
    part = target.with_name(f".{target.name}.{token}.part")
    # Opened so that it has the mode a new file gets.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        if mode is not None:
            part.chmod(mode)
        _to_disk(part)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(folder: Path, *, of: str | None = None) -> None:
    """Remove what processes of this machine that are no more left half written.

    Args:
        folder: where to look.
        of: the name of the file they were to become; any if None.
    """
    for path in folder.glob(".*.part"):
        found = PART.match(path.name)
        if found is None or found["host"] != _host():
            continue
        if of is not None and not path.name.startswith(f".{of}.{found['host']}."):
            continue
        if not _runs(int(found["process"])):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # there, and not ours
    return True
