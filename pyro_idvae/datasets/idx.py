# SPDX-License-Identifier: Apache-2.0
"""Arrays in idx files, the format of MNIST."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np

UINT8 = 8
"""The format's number for whole numbers from 0 to 255."""
GZIP = b"\x1f\x8b"


def read_idx(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the uint8 array of an idx file, whether compressed by gzip or not.

    Raises:
        ValueError: for another format, or a file that was cut.
    """
    content = path.read_bytes()
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError) as error:
            raise ValueError(f"{str(path)!r} was cut or damaged ({error}): get it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UINT8:
        raise ValueError(f"{str(path)!r} is no idx file of whole numbers from 0 to 255")
    start = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], dtype=">u4"))
    if len(shape) != content[3] or len(content) - start != math.prod(shape):
        raise ValueError(
            f"{str(path)!r} has {len(content) - start} bytes for an array of shape {shape}: it was "
            "cut or damaged, get it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
