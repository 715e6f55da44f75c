"""Signals that end a process, handled alike: each leaves a message, an exit code and no incomplete files.

Ctrl-C (SIGINT), SIGTERM (`kill`, a batch system, a container that is stopped) and SIGHUP (the terminal or the
connection is lost) all request an end. Outside the training loop they raise `Interrupted`; inside it they are
remembered until the step in progress is done (`training/engine/guards.py`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

PATIENT_SIGNALS = 2
"""Signals that are remembered until the step in progress is done; the third ends the process at once."""
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""SIGHUP exists only on Unix, SIGBREAK only on Windows."""
OUTPUTS = (1, 2)

Handler = Callable[[int, FrameType | None], object]


class Interrupted(KeyboardInterrupt):
    """The process was asked to end; its text is the name of the signal."""


def numbers() -> list[int]:
    """The handled signals: those of this system, except a SIGHUP that `nohup` ignores."""
    here = [int(getattr(signal, name)) for name in NAMES if hasattr(signal, name)]
    hangup = getattr(signal, "SIGHUP", None)
    return [number for number in here if number != hangup or signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Context in which `handler` handles the signals; only in the main thread, where Python permits it.

    When the terminal is lost, further output to it is dropped: a message that cannot be shown must not
    end the work before a checkpoint is written.
    """
    terminals = [output for output in OUTPUTS if os.isatty(output)]

    def taken(number: int, frame: FrameType | None) -> None:
        _drop_lost(terminals)
        handler(number, frame)

    before: dict[int, Any] = {}
    try:
        for number in numbers():
            before[number] = signal.signal(number, taken)
    except ValueError:  # not the main thread, which handles the signals
        yield
        return
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def raised() -> Iterator[None]:
    """Context in which each of the signals raises `Interrupted`."""
    with handled_by(_raise):
        yield


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)


def _drop_lost(terminals: list[int]) -> None:
    """Redirect outputs whose terminal is lost to the null device."""
    lost = [output for output in terminals if not os.isatty(output)]
    if lost:
        null = os.open(os.devnull, os.O_WRONLY)
        for output in lost:
            os.dup2(null, output)
        os.close(null)
