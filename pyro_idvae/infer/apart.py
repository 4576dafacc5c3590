# SPDX-License-Identifier: Apache-2.0
"""Chains in processes of their own, which hand over each draw as it comes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import pyro
import torch

from pyro_idvae import _upstream
from pyro_idvae.infer.interrupts import warn_caller

UNSENT = (pickle.PicklingError, AttributeError, TypeError, ImportError)
"""What pickle raises for what cannot be sent to another process, or found there."""


PATIENCE = 2.0
"""Seconds that a process has to end by itself."""


class Task(Protocol):
    """Something that makes one thing after the other, as a chain makes draws."""

    def run(self, keep: Any) -> None:
        """Run, handing each thing to ``keep``."""


class NotSentError(Exception):
    """A task cannot run in another process."""


def run_apart(tasks: Sequence[Task], kept: Sequence[list[Any]]) -> bool:
    """Run tasks in processes, as many at once as there are processors.

    However it ends, no process is left. Ctrl-C does not reach them: an interrupt here ends them,
    and what they had handed over is kept.

    Args:
        tasks: the tasks.
        kept: a list for what each of them makes.

    Returns:
        Whether that was possible; if not, there is a warning, and the lists are empty.
    """
    state = pyro.get_param_store().get_state()
    validate = _upstream.validates(torch.distributions.Distribution)
    try:
        contents = [_packed((task, state, validate)) for task in tasks]
        _Workers(min(len(tasks), os.cpu_count() or 1)).run(contents, kept)
    except NotSentError as error:
        for one in kept:
            one.clear()
        warn_caller(
            f"the chains run one after the other: the model cannot be sent to other processes "
            f"({str(error).splitlines()[0]}). Models of an importable module can"
        )
        return False
    return True


def _packed(content: Any) -> bytes:
    try:
        return pickle.dumps(content)
    except UNSENT as error:
        raise NotSentError(str(error)) from error


class _Workers:
    """Processes that take tasks and send back what these make.

    Args:
        number: processes.
    """

    def __init__(self, number: int) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.number = number
        self.processes: list[Any] = []
        self.connections: list[Connection] = []

    def run(self, contents: Sequence[bytes], kept: Sequence[list[Any]]) -> None:
        """Run all tasks; raises what any of them raises."""
        waiting = list(enumerate(contents))
        own: dict[Connection, list[Any]] = {}
        try:
            self._start()
            while self.connections:
                for found in wait(self.connections):
                    connection: Any = found
                    kind, value = self._received(connection)
                    if kind == "draw":
                        own[connection].append(value)
                    elif kind == "error":
                        raise value
                    elif waiting:
                        number, content = waiting.pop(0)
                        own[connection] = kept[number]
                        with suppress(ConnectionError):  # a dead one is found at the next turn
                            connection.send_bytes(content)
                    else:
                        self.connections.remove(connection)
                        connection.close()
        finally:
            self._end()

    def _end(self) -> None:
        started = [process for process in self.processes if process.pid is not None]
        for process in started:
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process in started:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()

    def _start(self) -> None:
        with _out_of_reach():
            for _ in range(self.number):
                here, there = self.context.Pipe()
                process = self.context.Process(target=_serve, args=(there,), daemon=True)
                self.processes.append(process)
                process.start()
                there.close()
                self.connections.append(here)

    @staticmethod
    def _received(connection: Connection) -> tuple[str, Any]:
        try:
            kind, value = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError) as error:
            raise NotSentError("a process ended early") from error
        return kind, value


@contextmanager
def _out_of_reach() -> Iterator[None]:
    """Start processes that never see Ctrl-C, which a terminal sends to all of them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Where it starts with the first process it would let signals through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection) -> None:
    """Run the tasks that come, in a process of its own, with the parent's parameters."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is told to end puts its semaphores away first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def send(kind: str, value: Any = None) -> None:
        connection.send_bytes(pickle.dumps((kind, value)))

    # Without a parent there is nothing to do and nobody to tell.
    with suppress(EOFError, ConnectionError):
        while True:
            send("ready")
            content = connection.recv_bytes()
            try:
                task, store, validate = pickle.loads(content)
            except UNSENT as error:
                send("error", NotSentError(str(error)))
                return
            pyro.enable_validation(validate)
            pyro.get_param_store().set_state(store)
            try:
                task.run(lambda draw: send("draw", draw))
            except ConnectionError:
                raise
            except Exception as error:
                send("error", _portable(error))
                return


def _end_with_parent() -> None:
    """End this process when its parent has: a chain may have nothing to hand over for hours."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """Return an error that another process can read."""
    try:
        found: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an error of the model's own does when it is copied
        return RuntimeError(f"{type(error).__name__}: {error}")
    return found
