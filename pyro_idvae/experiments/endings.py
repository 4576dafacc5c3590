# SPDX-License-Identifier: Apache-2.0
"""How the programs end when they are interrupted, and that their pictures are whole then."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from pyro_idvae._files import replacing
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.infer import FitResult

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C has ended: 128 + SIGINT, as shells have it."""


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """End the program with one line at Ctrl-C.

    Args:
        kept: what to say of what is finished.
    """
    with warnings.catch_warnings():
        # What fit and mcmc say of it; the line below says it once.
        warnings.filterwarnings("ignore", "interrupted: ", UserWarning)
        try:
            yield
        except KeyboardInterrupt:
            print(f"interrupted: {kept}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None


def is_complete(draws: Any) -> bool:
    """Tell whether ArviZ data of :func:`mcmc` hold all draws that were wanted."""
    return bool(groups_of(draws)["posterior"].attrs["complete"])


def whole(draws: Any) -> Any:
    """Return the draws of :func:`mcmc`; raises KeyboardInterrupt if it was cut short."""
    if not is_complete(draws):
        raise KeyboardInterrupt
    return draws


def finished(result: FitResult) -> FitResult:
    """Return what a fit has found; raises KeyboardInterrupt if it was cut short."""
    if result.interrupted:
        raise KeyboardInterrupt
    return result


def save_figure(figure: Any, path: Path) -> None:
    """Write a picture, whole or not at all, and let go of it."""
    with replacing(path) as part:
        figure.savefig(part, dpi=150, format=path.suffix.removeprefix("."))
    plt.close(figure)
