# SPDX-License-Identifier: Apache-2.0
"""A replay shard: rings of transitions for every role, and the books that keep playing and learning in step.

Fragments wait in a queue until learners take them. Then they go into the rings, and what each role owes for them is
drawn from the rings at once, as a synchronous training stores and then learns. So exactly as many updates are made
per slot as the preset says, and what waits is bounded.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any

from edgegen.algorithms.rllib.asynchronous.parcel import Age, Arrays, Grant, Parcel, Publication, Take, as_arrays
from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.role import Learning

PARTS_KEPT = 4
"""Takes whose parts for other learners are kept: they fetch those of one before the next but one is asked for."""


@dataclass(frozen=True)
class ShardPlan:
    """What a shard is to be.

    Attributes:
        index: Its number.
        shards: How many there are; they share capacity and warm-up of every replay.
        learners: Learners, each with a whole batch of its own.
        room: Slots that may be played or wait here, summed over copies, until nothing more is granted.
        bound: Slots that learners may go on beyond the oldest weights that a runner of this shard plays with.
        seed: Of the sampling.
    """

    index: int
    shards: int
    learners: int
    room: int
    bound: int
    seed: int


class ReplayShard:
    """Keeps what some env runners have played. It knows nothing of Ray.

    Args:
        learning: The method in training.
        plan: What it is to be.

    Attributes:
        life: Name of this life; another one tells that a shard was lost.
        replays: Replay of each role.
        owed: Updates that are due by role; parts of one add up.
        arrived: Slots that have arrived, summed over copies.
        publication: Newest weights it knows of.
    """

    def __init__(self, learning: Learning, plan: ShardPlan) -> None:
        self.learning, self.plan = learning, plan
        self.life = uuid.uuid4().hex
        self.replays: dict[str, TensorReplay] = {}
        for number, (name, role) in enumerate(learning.roles.items()):
            self.replays[name] = role.replay(plan.seed + number + 1_009 * plan.index)
            self.replays[name].hold(math.ceil(self.replays[name].capacity / plan.shards))
        self.owed = dict.fromkeys(self.replays, 0.0)
        self.arrived = 0
        self.publication = Publication()
        self._waiting: deque[Parcel] = deque()
        self._granted: dict[int, deque[tuple[int, int]]] = {}
        self._parts: dict[int, list[list[tuple[str, Arrays]]]] = {}
        self._tickets = 0

    @property
    def waiting(self) -> int:
        """Slots that wait to be learned from."""
        return sum(parcel.slots for parcel in self._waiting)

    @property
    def playing(self) -> int:
        """Slots that are granted and have not arrived."""
        return sum(slots for grants in self._granted.values() for slots, _ in grants)

    @property
    def players(self) -> list[int]:
        """Indices of the runners that were granted something."""
        return list(self._granted)

    @property
    def limit(self) -> int:
        """Up to which clock learners may go on: a bound beyond the oldest weights in play, or the newest if none is."""
        clocks = [clock for grants in self._granted.values() for _, clock in grants]
        return min([*clocks, self.publication.clock]) + self.plan.bound

    def rows(self) -> dict[str, int]:
        """Transitions held by role, over all groups of weights."""
        return {name: int(replay.sizes.sum()) for name, replay in self.replays.items()}

    def ask(self, runner: int, slots: int) -> Grant | None:
        """Grant a runner a fragment, or nothing while there is no room for it.

        One is always granted where nothing is played and nothing waits, however long it is.

        Args:
            runner: Index of the runner.
            slots: Slots of the fragment, summed over copies.
        """
        committed = self.waiting + self.playing
        if committed and committed + slots > self.plan.room:
            return None
        self._granted.setdefault(runner, deque()).append((slots, self.publication.clock))
        return Grant(self.publication)

    def put(self, parcel: Parcel) -> None:
        """Take a fragment in."""
        grants = self._granted.get(parcel.runner)
        if grants:
            grants.popleft()
        self._waiting.append(parcel)
        self.arrived += parcel.slots

    def forget(self, runner: int) -> None:
        """Take back what was granted to a runner: it is lost, or has finished."""
        self._granted.pop(runner, None)

    def learn_of(self, publication: Publication) -> None:
        """Take note of weights that were published, unless newer ones are known."""
        if publication.clock >= self.publication.clock:
            self.publication = publication

    def take(self, clock: int, limit: int, updates: int) -> Take:
        """Store fragments and hand out the updates that are owed for them, the slowest role first.

        Args:
            clock: Slots that learners have learned from, with those that they are learning from.
            limit: Up to which clock they may go on, as far as other shards are concerned.
            updates: Hand out fragments until there are this many updates; those of a fragment stay together.
        """
        limit = min(limit, self.limit)
        slots = 0
        ages: list[Age] = []
        batches: list[tuple[str, Arrays]] = []
        parts: list[list[tuple[str, Arrays]]] = [[] for _ in range(self.plan.learners - 1)]
        while self._waiting and len(batches) < updates and clock + slots + self._waiting[0].slots <= limit:
            parcel = self._waiting.popleft()
            slots += parcel.slots
            ages.append(Age(parcel.version, parcel.clock, parcel.slots))
            for name in self._store(parcel):
                role = self.learning.roles[name]
                batches.append((name, as_arrays(self.replays[name].sample(role.batch_size))))
                for part in parts:
                    part.append((name, as_arrays(self.replays[name].sample(role.batch_size))))
        self._tickets += 1
        if batches and parts:
            self._parts[self._tickets] = parts
            self._parts.pop(self._tickets - PARTS_KEPT, None)
        return Take(self.life, self._tickets, slots, self.limit, self.waiting, ages, batches)

    def part(self, ticket: int, learner: int) -> list[tuple[str, Arrays]]:
        """Hand out the batches of a take for another learner than the first."""
        return self._parts[ticket][learner - 1]

    def _store(self, parcel: Parcel) -> list[str]:
        """Put a fragment into the rings; returns the roles of the updates that are due now, in order."""
        for name, role in self.learning.roles.items():
            if role.stores(parcel.episodes) and name in parcel.roles:
                fragment = parcel.fragment(name)
                self.replays[name].add(fragment.columns, fragment.valid)
            self.owed[name] += role.owed(parcel.slots, parcel.rounds, parcel.episodes)
        due = []
        for name, role in reversed(self.learning.roles.items()):
            if int(self.replays[name].sizes.min()) <= role.warmup / self.plan.shards:
                self.owed[name] = 0.0  # nothing is made up for after the warm-up
                continue
            due += [name] * int(self.owed[name])
            self.owed[name] -= int(self.owed[name])
        return due

    def get_state(self) -> dict[str, Any]:
        """Everything but grants, which end when runners stop, and publications, which learners make anew."""
        return {
            "replays": {name: replay.get_state() for name, replay in self.replays.items()},
            "owed": dict(self.owed),
            "arrived": self.arrived,
            "waiting": list(self._waiting),
        }

    def set_state(self, states: list[tuple[dict[str, Any], int, int]]) -> None:
        """Continue where ``get_state`` was called, or take over parts of what other shards held.

        Args:
            states: State, number of the part and number of parts of everything that comes here.
        """
        if len(states) == 1 and states[0][2] == 1:
            ((state, _, _),) = states
            for name, saved in state["replays"].items():
                self.replays[name].set_state(saved)
        else:
            for state, part, parts in states:
                for name, saved in state["replays"].items():
                    self.replays[name].take_rows(saved, part, parts)
        self.owed = {name: sum(state["owed"][name] / parts for state, _, parts in states) for name in self.owed}
        self.arrived = sum(state["arrived"] for state, part, _ in states if not part)
        self._waiting = deque(parcel for state, part, _ in states if not part for parcel in state["waiting"])
