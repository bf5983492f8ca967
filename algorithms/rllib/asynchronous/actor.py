# SPDX-License-Identifier: Apache-2.0
"""The actor around a replay shard: it lets runners wait for room and learners for fragments, and comes back if lost."""

from __future__ import annotations

import asyncio
import pickle
import time
import warnings
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from edgegen.algorithms.rllib.asynchronous.parcel import Arrays, Grant, Parcel, Publication, Take
from edgegen.algorithms.rllib.asynchronous.shard import ReplayShard, ShardPlan

ASK_WAIT_S = 5.0
"""How long a runner waits for room before it asks again, s."""

Bytes = npt.NDArray[np.uint8]


class ShardActor:
    """A :class:`ReplayShard` in a process of its own. Its methods run in turns of one event loop.

    Args:
        config: Config of the algorithm.
        plan: What the shard is to be.
    """

    def __init__(self, config: Any, plan: ShardPlan) -> None:
        # What comes from the object store is read only, and nobody here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.shard = ReplayShard(config.learning(), plan)
        self._changed = asyncio.Condition()
        self._partings: Counter[int] = Counter()

    async def ask(self, runner: int, slots: int) -> Grant | None:
        """Grant a runner a fragment as soon as there is room; nothing after ``ASK_WAIT_S``."""
        until, partings = time.monotonic() + ASK_WAIT_S, self._partings[runner]
        while (grant := self.shard.ask(runner, slots)) is None:
            if not await self._change(until) or self._partings[runner] != partings:
                return None  # also to who has gone since it asked: nobody would play what it is granted
        return grant

    async def put(self, parcel: Parcel) -> None:
        """Take a fragment in."""
        self.shard.put(parcel)
        await self._tell()

    async def forget(self, runner: int) -> None:
        """Take back what was granted to a runner."""
        self.shard.forget(runner)
        self._partings[runner] += 1
        await self._tell()

    async def rest(self) -> None:
        """Take back everything that was granted: nobody plays."""
        for runner in self.shard.players:
            await self.forget(runner)

    async def take(self, publication: Publication, clock: int, limit: int, updates: int, wait_s: float) -> Take:
        """Hand out updates; if there are none, wait up to some seconds for them."""
        self.shard.learn_of(publication)
        until = time.monotonic() + wait_s
        while not (take := self.shard.take(clock, limit, updates)).slots:
            if not await self._change(until):
                break
        await self._tell()
        return take

    async def part(self, ticket: int, learner: int) -> list[tuple[str, Arrays]]:
        """Hand out the batches of a take for another learner than the first."""
        return self.shard.part(ticket, learner)

    async def report(self) -> dict[str, Any]:
        """Life, transitions held by role, slots that arrived, wait and are being played, and processor time, s."""
        shard = self.shard
        return {
            "life": shard.life,
            "rows": shard.rows(),
            "arrived": shard.arrived,
            "waiting": shard.waiting,
            "playing": shard.playing,
            "cpu_s": time.process_time(),
        }

    async def save(self) -> Bytes:
        """All of the shard, as the contents of a file."""
        return np.frombuffer(pickle.dumps(self.shard.get_state(), protocol=5), np.uint8)

    async def load(self, parts: list[tuple[int, int]], *saved: Bytes) -> None:
        """Continue with what shards held; see :meth:`ReplayShard.set_state`.

        Args:
            parts: Number of the part and number of parts of each.
            saved: What :meth:`save` returned.
        """
        states = [pickle.loads(contents.tobytes()) for contents in saved]
        self.shard.set_state([(state, *part) for state, part in zip(states, parts, strict=True)])

    async def _change(self, until: float) -> bool:
        """Wait for a change; returns whether there was one in time."""
        try:
            async with self._changed:
                await asyncio.wait_for(self._changed.wait(), max(0.0, until - time.monotonic()))
        except TimeoutError:
            return False
        return True

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def start_shard(config: Any, plan: ShardPlan, node: str) -> Any:
    """Start a shard on a host, or wherever there is room once that host is lost; returns its handle.

    It reserves no processor: it works while runners and learners do, a small part of what they do. It is started again
    whenever it is lost, empty.

    Args:
        config: Config of the algorithm.
        plan: What it is to be.
        node: Ray's id of the host.
    """
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 0}
    where = NodeAffinitySchedulingStrategy(node, soft=True)
    return ray.remote(ShardActor).options(scheduling_strategy=where, **options).remote(config, plan)
