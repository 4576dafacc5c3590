# SPDX-License-Identifier: Apache-2.0
"""The parts of an evaluation: each tried once, its time taken, its refusal noted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pyro_idvae.programs.run import TYPED

Found = TypeVar("Found")

PARTS = {
    "checks": "checks",
    "evidence": "evidence",
    "guide": "ELBO, KL and importance-weighted bound",
    "units": "active units",
    "latents": "nats of single latents",
    "information": "mutual information",
    "certificate": "certificate",
}
"""What messages call the parts."""


class Parts:
    """What is computed, part by part.

    Args:
        left_out: parts that are not wanted.

    Attributes:
        seconds: processor time of each part.
        notes: what was refused, and why.

    Example:
        >>> from pyro_idvae.diagnostics.evaluation.parts import Parts
        >>> from pyro_idvae.errors import NoCertificateError
        >>> def refused():
        ...     raise NoCertificateError("the decoder is not identifiable")
        >>> parts = Parts()
        >>> parts.tried("certificate", refused) is None, parts.notes
        (True, ['no certificate: the decoder is not identifiable'])
    """

    def __init__(self, left_out: tuple[str, ...] = ()) -> None:
        self.left_out = left_out
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Take the processor time of a part."""
        began = time.process_time()
        try:
            yield
        finally:
            self.seconds[part] = time.process_time() - began

    def tried(
        self,
        part: str,
        compute: Callable[[], Found],
        refusals: tuple[type[Exception], ...] = TYPED,
    ) -> Found | None:
        """Return what a part gives, or None with a note why there is nothing.

        Args:
            part: its name.
            compute: gives it.
            refusals: errors that say that there is nothing; others are raised.
        """
        if part in self.left_out:
            self.notes.append(f"no {PARTS[part]}: left out, as asked")
            return None
        with self.timed(part):
            try:
                return compute()
            except refusals as error:
                self.notes.append(f"no {PARTS[part]}: {error}")
                return None
