# SPDX-License-Identifier: Apache-2.0
"""Cores that this process may use, and threads that share copies among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def available_cpus() -> int:
    """Number of cores that this process may use; where the system does not say, of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def in_threads(copies: int, play: Callable[[int, int], None], threads: int | None = None) -> None:
    """Call ``play(first, end)`` for parts of the copies at the same time; the numbers do not depend on the threads.

    Args:
        copies: Number of copies E.
        play: Plays some of them, in compiled functions, which run without the lock of the interpreter.
        threads: How many at most; as many as there are cores if None.
    """
    count = min(threads or available_cpus(), copies)
    edges = [copies * part // count for part in range(count + 1)]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(play, edges[:-1], edges[1:]))
