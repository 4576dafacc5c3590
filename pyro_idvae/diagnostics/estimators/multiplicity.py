# SPDX-License-Identifier: Apache-2.0
"""p-values of several tests at once.

Six lines, as scipy has no Holm and statsmodels, which has, is large; the tests compare with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def holm(p_values: Any) -> Any:
    """Return p values that control the chance of any false discovery, by Holm's steps."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty_like(p)
    found[order] = np.minimum(adjusted, 1.0)
    return found
