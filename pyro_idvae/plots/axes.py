# SPDX-License-Identifier: Apache-2.0
"""Axes that somebody brings."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_idvae.errors import ArgumentError


def check_axes(name: str, axes: Any) -> None:
    """Raise unless something is matplotlib axes, an array of them, or None for new ones."""
    if axes is None:
        return
    for one in np.ravel(np.asarray(axes, dtype=object)):
        if not hasattr(one, "get_xlabel"):
            raise ArgumentError(f"{name} is a {type(one).__name__}: expected matplotlib axes")
