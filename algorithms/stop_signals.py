# SPDX-License-Identifier: Apache-2.0
"""What asks a process to stop, all of it handled as Ctrl-C is: closing terminals, schedulers, service managers."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_WARNINGS = ("SIGUSR1", "SIGUSR2", "SIGXCPU")
"""What batch systems send ahead of time; that a job is ended follows, and is not a person who lost patience."""
_ENDINGS = ("SIGTERM", "SIGHUP")
_ECHO_S = 1.0
"""How long after a signal others are taken for the same request, s: a closing terminal sends one through the shell and
one through the kernel, ``timeout`` one to the process and one to its group."""
_last_s = -math.inf
"""When the last one came that was no echo and no warning."""


def _numbers(*names: str) -> list[signal.Signals]:
    return [signal.Signals[name] for name in names if hasattr(signal, name)]  # Windows has few of them


class StopRequest:
    """Whether somebody asked to stop.

    Attributes:
        asked: Whether somebody did.
    """

    def __init__(self) -> None:
        self.asked = False
        self._for_good = False

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Note a signal.

        Raises:
            KeyboardInterrupt: If it is the second one that is more than a warning.
        """
        if self._for_good:
            raise KeyboardInterrupt
        self.asked = True
        self._for_good = number not in _numbers(*_WARNINGS)


@contextmanager
def stopping_as_ctrl_c() -> Iterator[None]:
    """Treat everything that asks to stop as Ctrl-C is treated at that moment, for the length of a block.

    What this process was told to ignore when it was started (``nohup``) stays ignored. In other threads than the main
    one this does nothing: signals are not theirs to handle.
    """
    if not in_main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    for number in _numbers(*_ENDINGS, *_WARNINGS):
        present = signal.getsignal(number)
        if present not in (signal.SIG_IGN, None):  # None: not a handler of Python's, it could not be put back
            before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C would do now, unless this is the echo of another signal."""
    global _last_s
    now_s = time.monotonic()
    handler = signal.getsignal(signal.SIGINT)
    if now_s - _last_s < _ECHO_S:
        request = getattr(handler, "__self__", None)
        if isinstance(request, StopRequest):
            request.asked = True
        return
    if number not in _numbers(*_WARNINGS):
        _last_s = now_s
    if not callable(handler):  # a shell ignores Ctrl-C for what it starts in the background
        raise KeyboardInterrupt
    handler(number, frame)


@contextmanager
def noting_stops() -> Iterator[StopRequest]:
    """Note the first request to stop instead of interrupting; a second one interrupts at once.

    What is under way can then be finished and saved, instead of being torn apart in the middle.
    """
    request = StopRequest()
    if not in_main_thread():
        yield request
        return
    with stopping_as_ctrl_c():
        before = signal.signal(signal.SIGINT, request.note)
        try:
            yield request
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def own_handlers_kept() -> Iterator[None]:
    """Put back what handles SIGINT and SIGTERM if a library replaces it in a block; where nobody asked, it may."""
    if not in_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _numbers("SIGINT", "SIGTERM", *_WARNINGS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler not in (signal.SIG_DFL, None):
                signal.signal(number, handler)


@contextmanager
def children_spared() -> Iterator[None]:
    """Let processes that are started in a block never hear of a closing terminal, or of a batch system's warning.

    Both go to every process of the group. Those that this process needs to finish its work must outlive them; it ends
    them itself. What arrives for this process in the meantime is handled after the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers("SIGHUP", *_WARNINGS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_main_thread() -> bool:
    """Whether this is the thread that signals are handled in."""
    return threading.current_thread() is threading.main_thread()
