# SPDX-License-Identifier: Apache-2.0
"""The guard of a canary: whether what a candidate decides falls behind what the policy in charge decides.

Both get requests at the same time, by chance, so time is cut into blocks and the difference of the means within each
block is one observation: load that changes hits both. The interval is Student's, over blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.99
"""Of the interval; it is looked at after every block, so 95 % would raise false alarms."""
LEAST_BLOCKS = 6


@dataclass(frozen=True)
class Verdict:
    """How a canary does.

    Attributes:
        blocks: Blocks in which both groups had requests.
        difference: Mean of canary minus control over blocks; more is better.
        low: Lower end of its interval.
        high: Upper end.
        requests: Requests of canary and control.
    """

    blocks: int
    difference: float
    low: float
    high: float
    requests: tuple[int, int]

    @property
    def behind(self) -> bool:
        """Whether the canary is worse, with zero outside of the interval."""
        return self.blocks >= LEAST_BLOCKS and self.high < 0.0


class Guard:
    """Compares a canary with its control group.

    Args:
        block_s: Length of a block, s.
        begun: Clock reading at the begin, s.
    """

    def __init__(self, block_s: float, begun: float) -> None:
        self._block_s, self._begun = block_s, begun
        self._sums: dict[int, np.ndarray] = {}  # by block: sum and number, of canary and of control

    def add(self, canary: bool, value: float, now: float) -> None:
        """Count an answered request; more is better."""
        block = int((now - self._begun) / self._block_s)
        sums = self._sums.setdefault(block, np.zeros((2, 2)))
        sums[0 if canary else 1] += (value, 1.0)

    def verdict(self, now: float) -> Verdict:
        """Compare all blocks that are over."""
        present = int((now - self._begun) / self._block_s)
        over = [sums for block, sums in sorted(self._sums.items()) if block < present]
        requests = [int(sum(sums[group, 1] for sums in over)) for group in (0, 1)]
        means = np.array([sums[:, 0] / sums[:, 1] for sums in over if sums[:, 1].all()]).reshape(-1, 2)
        differences = means[:, 0] - means[:, 1]
        if len(differences) < 2:
            mean = float(differences.mean()) if len(differences) else 0.0
            return Verdict(len(differences), mean, -np.inf, np.inf, (requests[0], requests[1]))
        mean, error = float(differences.mean()), float(stats.sem(differences))
        low, high = (mean, mean) if error == 0.0 else stats.t.interval(CONFIDENCE, len(differences) - 1, mean, error)
        return Verdict(len(differences), mean, float(low), float(high), (requests[0], requests[1]))
