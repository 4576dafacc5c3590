# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and the request to end, put off until a step is whole."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Signals:
    """Notes SIGINT, and SIGTERM if wanted, while its context lasts.

    The first one is noted only; a second SIGINT raises ``KeyboardInterrupt`` at once. Outside the
    main thread, and where the program has a handler of its own, nothing is changed. A SIGTERM noted
    is sent again when the context ends, to the handler that was there.

    Args:
        terminate: whether to note SIGTERM.
    """

    def __init__(self, *, terminate: bool) -> None:
        self.interrupted = False
        self.terminated = False
        self.wanted = [signal.SIGINT, *([signal.SIGTERM] if terminate else [])]
        self.before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the run is to end."""
        return self.interrupted or self.terminated

    def __enter__(self) -> Signals:
        """Take over."""
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in self.wanted:
            current = signal.getsignal(number)
            own = number == signal.SIGINT and current is not signal.default_int_handler
            if own or current is None or current == signal.SIG_IGN:
                continue
            self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *args: Any) -> None:
        """Give back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.terminated:
            signal.raise_signal(signal.SIGTERM)

    def _note(self, number: int, frame: Any) -> None:
        if number == signal.SIGTERM:
            self.terminated = True
        elif self.interrupted:
            raise KeyboardInterrupt
        else:
            self.interrupted = True
