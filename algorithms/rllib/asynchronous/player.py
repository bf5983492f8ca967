# SPDX-License-Identifier: Apache-2.0
"""What an env runner does in asynchronous training: play episodes, hand fragments over, take the newest weights."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from edgegen.algorithms.rllib.asynchronous.actor import ASK_WAIT_S
from edgegen.algorithms.rllib.asynchronous.parcel import Grant, Pace, Parcel, Publication
from edgegen.envs.core.kinds import kind_of

AHEAD = 2
"""Fragments that a runner asks leave for at once: it plays one while the shard answers for the next."""
PATIENCE_S = 60.0
"""How long a runner tries to reach a shard that is lost, before it gives the episode up, s."""
RETRY_S = 0.2


@dataclass(frozen=True)
class Played:
    """What a runner reports of an episode of every copy.

    Attributes:
        runner: Its index.
        admitted: Whether it takes part in the training; if not, it has played nothing.
        slots: Slots played, summed over copies.
        lost_slots: Those of them that no shard has.
        episodes: What was measured of every finished episode.
        metrics: RLlib's metrics.
        cpu_s: Processor time of its process so far, s.
        waited_s: How long it waited for room, s.
    """

    runner: int
    admitted: bool
    slots: int = 0
    lost_slots: int = 0
    episodes: tuple[dict[str, float], ...] = ()
    metrics: Any = None
    cpu_s: float = 0.0
    waited_s: float = 0.0


class ShardGoneError(RuntimeError):
    """A shard is not to be reached, and does not come back."""


class Player:
    """Plays for a shard.

    Args:
        runner: The env runner.
        shard: Handle of its shard.
        pace: How far learning is with the weights that the runner has.
    """

    def __init__(self, runner: Any, shard: Any, pace: Pace) -> None:
        self.runner, self.shard = runner, shard
        self.index = int(runner.worker_index)
        self.publication = Publication(*pace)
        self._asked: dict[Any, int] = {}
        self._put: deque[tuple[Any, int]] = deque()
        self._lost = 0
        self._waited_s = 0.0

    def play(self) -> Played:
        """Play an episode of every copy, fragment by fragment, each with the newest weights."""
        sizes = fragment_slots(self.runner)
        self._lost, self._waited_s, slots = 0, 0.0, 0
        try:
            for size in sizes[:AHEAD]:
                self._ask(size)
            for number, size in enumerate(sizes):
                self._take(self._granted().publication)
                slots += self._play(size)
                if number + AHEAD < len(sizes):
                    self._ask(sizes[number + AHEAD])
            while self._put:
                self._settle()
        except ShardGoneError:
            self._lost += sum(size for _, size in self._put)
        finally:
            self._asked.clear()
            self._put.clear()
            self.shard.forget.remote(self.index)
        runner = self.runner
        episodes, metrics = tuple(runner.pop_episodes()), runner.get_metrics()
        return Played(self.index, True, slots, self._lost, episodes, metrics, time.process_time(), self._waited_s)

    def _play(self, size: int) -> int:
        runner, slots = self.runner, 0
        episodes = runner.episodes_begun
        for fragment in runner.sample(num_timesteps=size):
            parcel = Parcel.of(fragment, self.index, self.publication, episodes)
            self._put.append((self.shard.put.remote(parcel), fragment.slots))
            slots += fragment.slots
        while len(self._put) > AHEAD:
            self._settle()
        return slots

    def _settle(self) -> None:
        """Wait until the oldest fragment under way has arrived, or count it as lost."""
        reply, slots = self._put.popleft()
        try:
            ray.get(reply)
        except RayTaskError:  # a mistake, not a loss
            raise
        except RayError:
            self._lost += slots

    def _ask(self, slots: int) -> None:
        self._asked[self.shard.ask.remote(self.index, slots)] = slots

    def _granted(self) -> Grant:
        """Wait for any grant that was asked for: a question that is asked again may be answered after a later one.

        Raises:
            ShardGoneError: If the shard is lost and does not come back.
        """
        begun = answered = time.monotonic()
        while True:
            ready, _ = ray.wait(list(self._asked), num_returns=1, timeout=PATIENCE_S)
            if not ready:
                raise ShardGoneError
            slots = self._asked.pop(ready[0])
            try:
                grant: Grant | None = ray.get(ready[0])
                answered = time.monotonic()
            except ActorDiedError:  # not lost and started again, but stopped
                raise ShardGoneError from None
            except RayTaskError:
                raise
            except RayError:
                grant = None
                if time.monotonic() - answered > PATIENCE_S:
                    raise ShardGoneError from None
                time.sleep(RETRY_S)
            if grant is not None:
                self._waited_s += time.monotonic() - begun
                return grant
            self._ask(slots)

    def _take(self, publication: Publication) -> None:
        """Play on with published weights, unless they can not be had: learners that are lost take theirs along."""
        if publication.clock <= self.publication.clock:
            return
        if publication.weights and publication.version > self.publication.version:
            try:
                weights = ray.get(publication.weights[0], timeout=ASK_WAIT_S)
            except (RayError, GetTimeoutError):
                return
            put_weights(self.runner, weights)
        self.publication = publication


def put_weights(runner: Any, weights: dict[str, dict[str, Any]]) -> None:
    """Put published weights into the networks that decide."""
    for module_id, role in runner.learning.roles.items():
        network = getattr(runner.module[module_id], role.deciding)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in weights[module_id].items()})


def fragment_slots(runner: Any) -> list[int]:
    """Slots of each fragment of an episode, summed over copies."""
    learning, kind = runner.learning, kind_of(runner.learning.scenario)
    rounds, slots = kind.rounds(learning.scenario), kind.slots_per_round(learning.scenario)
    length = rounds if learning.whole_episodes else min(int(runner.config.rollout_fragment_length), rounds)
    parts = [min(length, rounds - begun) for begun in range(0, rounds, length)]
    return [part * slots * int(learning.settings.copies) for part in parts]


def take_seat(runner: Any, shards: list[Any], pace: Pace) -> None:
    """Let a runner play for a shard from now on; see :class:`Player`.

    Args:
        runner: The env runner.
        shards: Handles of the shards by index of the runners, from one.
        pace: How far learning is with the weights that the runner has.
    """
    runner.player = Player(runner, shards[int(runner.worker_index) - 1], pace)


def play(runner: Any) -> Played:
    """Play an episode, if the runner takes part in the training."""
    if not runner.admitted or runner.player is None:
        return Played(int(runner.worker_index), False)
    played: Played = runner.player.play()
    return played
