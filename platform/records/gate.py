# SPDX-License-Identifier: Apache-2.0
"""The gate before ``champion``: a policy passes if it is better on the same arrivals, and not by luck."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.kinds import Array, kind_of
from edgegen.envs.core.world import WorldScenario
from edgegen.platform.runs.evaluation import evaluate
from edgegen.platform.runs.statistics import Interval, paired_difference


@dataclass(frozen=True)
class Verdict:
    """What came of comparing a policy with the one it is to succeed.

    Attributes:
        passed: Whether it is better, with an interval that excludes zero.
        text: How much, as the end of a sentence.
    """

    passed: bool
    text: str


@dataclass
class Judge:
    """Lets policies play the same validation episodes, which chose none of them.

    Attributes:
        world: Where they play.
        metric: What decides, by name among the results of an evaluation.
        seed: The person's seed of the episodes.
        episodes: How many.
        explore: Whether trained policies sample their actions.
    """

    world: WorldScenario
    metric: str
    seed: int
    episodes: int
    explore: bool = True
    _played: dict[str, Array] = field(default_factory=dict, repr=False)

    def values(self, policy: Path | str) -> Array:
        """Values of the metric ``[K]`` of a policy; it plays once.

        Raises:
            InputError: If it can not play here.
        """
        key = str(policy)
        if key not in self._played:
            decider = make_policy(key, self.world, self.seed)
            results = evaluate(self.world, decider, self.episodes, self.seed, self.explore, validation=True)
            self._played[key] = results[self.metric]
        return self._played[key]

    def verdict(self, policy: Path | str, held: Path | str, holder: str) -> Verdict:
        """Compare a policy with the one it is to succeed.

        Args:
            policy: The policy.
            held: The other one.
            holder: What that is called.

        Raises:
            InputError: If one of them can not play here.
        """
        own, other = self.values(policy), self.values(held)
        difference = paired_difference(own, other)
        gains = self.metric in kind_of(self.world).gains
        passed = difference.low > 0 if gains else difference.high < 0
        return Verdict(bool(passed), self._text(own, other, difference, holder))

    def _text(self, own: Array, other: Array, difference: Interval, holder: str) -> str:
        spread = (
            f"difference {_short(difference.estimate)} [{_short(difference.low)}, {_short(difference.high)}]"
            if np.isfinite(difference.low)
            else "one episode tells no interval"
        )
        return (
            f"{self.metric} {float(own.mean()):.4g}, {holder} has {float(other.mean()):.4g} on the same "
            f"{len(own)} episodes ({spread})."
        )


def _short(value: float) -> str:
    return f"{value:+.3g}"
