# SPDX-License-Identifier: Apache-2.0
"""How fast things could be: the least that a path must compute and move, at the rates that this machine reaches.

A floor is the time for whichever takes longer, the arithmetic at the rate of a matrix product or the memory traffic at
the rate of a copy, both measured with the same threads as everything else. No code reaches it, because nothing but that
arithmetic and traffic would have to happen; the distance to it says where there is something left to gain.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_COPIED = 2**26  # bytes: far more than the caches of a core
_SIDE = 512  # of the matrices


@dataclass(frozen=True)
class Least:
    """The least that has to be done for one thing.

    Attributes:
        operations: Additions, multiplications and divisions in single precision.
        moved_bytes: Bytes read from and written to memory.
    """

    operations: float
    moved_bytes: float


@dataclass(frozen=True)
class Rates:
    """What this machine reaches.

    Attributes:
        operations_s: Operations of a matrix product in single precision, 1/s.
        moved_bytes_s: Bytes that a copy reads and writes, 1/s.
    """

    operations_s: float
    moved_bytes_s: float

    def floor_s(self, least: Least) -> float:
        """Time for one thing if nothing else had to be done, s."""
        return max(least.operations / self.operations_s, least.moved_bytes / self.moved_bytes_s)


def measure_rates(repeats: int = 7) -> Rates:
    """Measure the rates of this machine's processor, by processor time, with torch's present number of threads."""
    left, right = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
    product = torch.empty(_SIDE, _SIDE)
    origin = torch.zeros(_COPIED, dtype=torch.uint8)
    target = torch.zeros_like(origin)
    multiply_s = _median_s(lambda: torch.mm(left, right, out=product), repeats)
    copy_s = _median_s(lambda: target.copy_(origin), repeats)
    return Rates(2 * _SIDE**3 / multiply_s, 2 * _COPIED / copy_s)


def _median_s(action: Callable[[], object], repeats: int) -> float:
    action()
    taken = []
    for _ in range(repeats):
        before = time.process_time()
        action()
        taken.append(time.process_time() - before)
    tick = time.get_clock_info("process_time").resolution
    return max(tick, statistics.median(taken))
