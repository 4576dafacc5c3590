# SPDX-License-Identifier: Apache-2.0
"""Checks of sizes, scales and seeds; their errors are plain ``ValueError``."""

from __future__ import annotations

import math
from numbers import Integral, Real


def check_size(name: str, value: object) -> int:
    """Return ``value`` as an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"{name}={value!r}: expected an integer of at least 1")
    return int(value)


def check_number(name: str, value: object, *, above: float = -math.inf) -> float:
    """Return ``value`` as a finite float above a limit."""
    number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    if not (math.isfinite(number) and number > above):
        limit = "" if above == -math.inf else f" above {above:g}"
        raise ValueError(f"{name}={value!r}: expected a finite number{limit}")
    return number


def check_seed(seed: object) -> int:
    """Return ``seed`` as an int that every generator of random numbers takes."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**32:
        raise ValueError(f"seed={seed!r}: expected an integer from 0 to 2**32 - 1")
    return int(seed)
