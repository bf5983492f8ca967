# SPDX-License-Identifier: Apache-2.0
"""What a learner does in asynchronous training: fetch batches ahead, update, publish weights."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from edgegen.algorithms.rllib.asynchronous.parcel import Age, Arrays, Pace, Publication, Take, as_tensors

Batches = list[tuple[str, Arrays]]

UPDATES_AT_ONCE = 16
"""Updates that a learner asks a shard for, and after which it publishes weights."""
IDLE_WAIT_S = 0.05
"""How long a learner that finds nothing waits at a shard, s."""
SHARD_WAIT_S = 0.2
"""How long it leaves a shard alone that is lost, s."""


@dataclass
class Lesson:
    """What a stretch of learning brought.

    Attributes:
        updates: Updates by role.
        pace: How far learning is now.
        ages: By fragment, how old its weights were when it was learned from: updates, slots, and its own slots.
        metrics: RLlib's metrics.
        cpu_s: Processor time of the learner's process so far, s.
        idle_s: How long it found nothing to learn from, s.
    """

    updates: dict[str, int]
    pace: Pace
    ages: list[Age] = field(default_factory=list)
    metrics: Any = None
    cpu_s: float = 0.0
    idle_s: float = 0.0


class Student:
    """Lets a learner fetch what it learns from.

    The first learner asks the shards in turn, one take ahead of what it learns from, and tells the others under which
    ticket their parts are; all make the same updates at the same time, since each steps with the mean of all gradients.

    Args:
        learner: The learner.
        shards: Handles of the shards.
        pace: How far learning is.
    """

    def __init__(self, learner: Any, shards: list[Any], pace: Pace) -> None:
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.learner, self.shards, self.pace = learner, shards, pace
        self.leads = learner.index == 0 or int(learner.config.num_learners) <= 1
        self._taken = pace.clock
        self._limits: dict[int, int] = {}
        self._turn = self._from = 0
        self._nothing = 0
        self._publication = Publication(pace.version, pace.clock)

    def learn(self, seconds: float, until_empty: bool) -> Lesson:
        """Learn for some seconds, or until no shard has anything left.

        Args:
            seconds: How long to begin new takes, s.
            until_empty: Whether to go on, and end, when nothing waits any more; runners must not play.
        """
        lesson = Lesson(dict.fromkeys(self.learner.networks(), 0), self.pace)
        until = time.monotonic() + seconds
        self._nothing = 0
        asked = self._ask() if self.leads else None
        over = False
        while not over:
            begun = time.monotonic()
            take = self._receive(asked) if self.leads else None
            if take is None or not take.slots:
                lesson.idle_s += time.monotonic() - begun
            if self.leads:
                empty = self._nothing >= len(self.shards)
                over = empty if until_empty else time.monotonic() >= until
                asked = None if over else self._ask()
            over = self._learn_from(take, over, lesson)
        lesson.pace = self.pace
        lesson.metrics = self.learner.report()
        lesson.cpu_s = time.process_time()
        return lesson

    def _ask(self) -> tuple[int, Any]:
        """Ask the next shard for updates; returns its number and the answer to come."""
        number = self._turn
        self._turn = (number + 1) % len(self.shards)
        others = [limit for shard, limit in self._limits.items() if shard != number]
        limit = min(others) if others else 2**62
        wait_s = IDLE_WAIT_S if self._nothing >= len(self.shards) - 1 else 0.0
        take = self.shards[number].take
        return number, take.remote(self._publication, self._taken, limit, UPDATES_AT_ONCE, wait_s)

    def _receive(self, asked: tuple[int, Any] | None) -> Take | None:
        """Wait for what a shard hands out; nothing if it is lost."""
        assert asked is not None
        number, answer = asked
        try:
            take: Take = ray.get(answer)
        except RayTaskError:  # a mistake, not a loss
            raise
        except RayError:
            self._limits.pop(number, None)  # what was granted there is lost with it
            self._nothing += 1
            time.sleep(SHARD_WAIT_S)
            return None
        self._limits[number] = take.limit
        self._taken += take.slots
        self._from = number
        self._nothing = 0 if take.slots or take.left else self._nothing + 1
        return take

    def _learn_from(self, take: Take | None, over: bool, lesson: Lesson) -> bool:
        """Make the updates of a take on all learners; returns whether this stretch is over."""
        batches = [] if take is None else take.batches
        slots = 0 if take is None else take.slots
        if int(self.learner.config.num_learners) > 1:
            shard, ticket = (-1, 0) if take is None or not batches else (self._from, take.ticket)
            shard, ticket, slots, over = self.learner.tell([shard, ticket, slots, over])
            if shard >= 0:
                batches = self._all_have(batches or self._part(shard, ticket))
        if take is not None:
            lesson.ages += [
                Age(self.pace.version - age.version, self.pace.clock - age.clock, age.slots) for age in take.ages
            ]
        clock = self.pace.clock + slots
        for role, batch in batches:
            self._step(role, batch, clock)
            lesson.updates[role] += 1
        self.pace = Pace(self.pace.version + len(batches), clock)
        if self.leads and slots:
            self._publish(bool(batches))
        return bool(over)

    def _part(self, shard: int, ticket: int) -> Batches:
        """Fetch this learner's part of a take; nothing if the shard is lost."""
        try:
            part: Batches = ray.get(self.shards[shard].part.remote(ticket, self.learner.index))
        except RayError:
            return []
        return part

    def _all_have(self, batches: Batches) -> Batches:
        """Batches if all learners have theirs; otherwise nobody makes these updates, and all keep the same weights."""
        return batches if self.learner.least(len(batches)) > 0 else []

    def _step(self, role: str, batch: Arrays, clock: int) -> None:
        self.learner.update_here(role, [as_tensors(batch)], {NUM_ENV_STEPS_SAMPLED_LIFETIME: clock})

    def _publish(self, changed: bool) -> None:
        weights = [ray.put(self.learner.deciding_weights())] if changed else self._publication.weights
        self._publication = Publication(*self.pace, weights)


def attend(learner: Any, shards: list[Any], pace: Pace) -> None:
    """Let a learner learn from some shards from now on."""
    learner.student = Student(learner, shards, pace)


def learn(learner: Any, seconds: float, until_empty: bool) -> Lesson:
    """Let a learner learn for a while; see :meth:`Student.learn`."""
    lesson: Lesson = learner.student.learn(seconds, until_empty)
    return lesson
