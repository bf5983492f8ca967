# SPDX-License-Identifier: Apache-2.0
"""What the driver of an asynchronous training notes: how old weights were, and what waited for what."""

from __future__ import annotations

from collections import deque

from edgegen.algorithms.rllib.asynchronous.parcel import Age
from edgegen.algorithms.rllib.asynchronous.player import Played
from edgegen.algorithms.rllib.asynchronous.student import Lesson

WINDOW = 1_000
"""Fragments over which ages are averaged."""


class Books:
    """Sums up what players and learners report.

    Attributes:
        oldest: Greatest ages so far, in updates and in slots.
        lost_slots: Slots played that no shard has, summed over copies.
    """

    def __init__(self) -> None:
        self._ages: deque[Age] = deque(maxlen=WINDOW)
        self.oldest = (0, 0)
        self.lost_slots = 0
        self.waiting = 0
        self.room_wait_s = 0.0
        self.idle_s = 0.0

    def played(self, played: Played) -> None:
        """Note an episode."""
        self.lost_slots += played.lost_slots
        self.room_wait_s += played.waited_s

    def learned(self, lesson: Lesson) -> None:
        """Note a stretch of learning."""
        self._ages.extend(lesson.ages)
        self.idle_s += lesson.idle_s
        for age in lesson.ages:
            self.oldest = (max(self.oldest[0], age.version), max(self.oldest[1], age.clock))

    def figures(self) -> dict[str, float]:
        """Everything by name: ages are of the weights a fragment was played with, when it was learned from."""
        slots = sum(age.slots for age in self._ages) or 1
        return {
            "staleness_updates": sum(age.version * age.slots for age in self._ages) / slots,
            "staleness_slots": sum(age.clock * age.slots for age in self._ages) / slots,
            "staleness_updates_max": float(self.oldest[0]),
            "staleness_slots_max": float(self.oldest[1]),
            "waiting_slots": float(self.waiting),
            "lost_slots": float(self.lost_slots),
            "runners_waited_s": self.room_wait_s,
            "learners_idle_s": self.idle_s,
        }
