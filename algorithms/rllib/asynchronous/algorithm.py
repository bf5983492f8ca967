# SPDX-License-Identifier: Apache-2.0
"""The algorithm of every method in asynchronous training: it starts, counts and restarts, and holds no data."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import ALL_MODULES, ENV_RUNNER_RESULTS, LEARNER_RESULTS

from edgegen.algorithms.core.policy import Memory
from edgegen.algorithms.core.trained import TrainedPolicy
from edgegen.algorithms.rllib.algorithm import PROGRESS, REPLAYS, JointAlgorithm, RunnersLostError
from edgegen.algorithms.rllib.asynchronous.actor import start_shard
from edgegen.algorithms.rllib.asynchronous.books import Books
from edgegen.algorithms.rllib.asynchronous.checkpoint import dealt, read_shards, whole_replay, write_shards
from edgegen.algorithms.rllib.asynchronous.parcel import Pace
from edgegen.algorithms.rllib.asynchronous.player import Played, fragment_slots, play, take_seat
from edgegen.algorithms.rllib.asynchronous.seating import Seating, seat
from edgegen.algorithms.rllib.asynchronous.shard import ShardPlan
from edgegen.algorithms.rllib.asynchronous.student import attend, learn
from edgegen.envs.core.errors import InputError

ASYNCHRONOUS = "asynchronous"
"""Key of the figures of asynchronous training in the results, and of its progress in checkpoints."""
PLAY = "play"
"""Tag of the episodes that are under way, among RLlib's calls."""
LESSON_S = 1.0
"""How long learners learn until they report, s."""
LOOK_S = 5.0
"""How long to wait for a report before looking for lost processes, s."""
SHARD_BACK_S = 60.0
"""How long a lost shard may take to come back, s."""


class AsynchronousAlgorithm(JointAlgorithm):
    """Trains a method without taking turns; see :mod:`edgegen.algorithms.rllib.asynchronous`.

    One training step lasts until as many slots were played as a synchronous one plays: an episode of every copy on
    every runner. Runners play and learners learn on while its results are looked at. Whoever wants the state or the
    policy waits until nothing is under way (:meth:`settle`); by then everything that was played is learned from.

    Attributes:
        pace: Updates made, and slots learned from.
        books: What else was noted.
        shards: Handles of the replay shards.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.shards: list[Any] = []
        super().__init__(*arguments, **named)

    def setup(self, config: Any) -> None:
        """Build runners and learners, and the shards beside them.

        Raises:
            InputError: If the cluster has no room, or there is no remote env runner or learner.
        """
        for name in ("num_env_runners", "num_learners"):
            if not getattr(self.config, name):
                raise InputError(f"{name} is 0, but asynchronous training needs at least one.")
        super().setup(config)
        self.replays = {}
        self.pace = Pace()
        self.books = Books()
        try:
            self._start_shards()
        except BaseException:
            self.cleanup()
            raise

    def _start_shards(self) -> None:
        nodes = dict(
            self.env_runner_group.foreach_env_runner(
                lambda runner: (runner.worker_index, ray.get_runtime_context().get_node_id()), local_env_runner=False
            )
        )
        runners = range(1, int(self.config.num_env_runners) + 1)
        self.seating: Seating = seat([nodes.get(index, "") for index in runners], int(self.config.replay_shards))
        fragment = max(fragment_slots(self.env_runner))
        self._episode_slots = sum(fragment_slots(self.env_runner))
        each = self.config.staleness / 2 * fragment  # one half while a fragment is played, one while it waits
        self.bound_slots = int(2 * each * len(runners))
        for index, node in enumerate(self.seating.nodes):
            plan = ShardPlan(
                index=index,
                shards=len(self.seating.nodes),
                learners=int(self.config.num_learners),
                room=int(each * max(1, self.seating.shards.count(index))),
                bound=int(each * len(runners)),
                seed=int(self.config.seed or 0) + 104_729,
            )
            self.shards.append(start_shard(self.config, plan, node))
        self._reports = ray.get([shard.report.remote() for shard in self.shards])
        self._played: list[Played] = []
        self._lesson: list[Any] = []
        self._settled = True
        self._begin()

    def _begin(self) -> None:
        """Let all runners and learners begin, or go on after a restart, with the weights they have."""
        self._healthy = set(self.env_runner_group.healthy_worker_ids())
        self._idle = set(self._healthy)
        self._seat(sorted(self._healthy))
        ray.get(self.learner_group.start(attend, self.shards, self.pace))

    def _seat(self, indices: list[int]) -> None:
        shards = [self.shards[shard] for shard in self.seating.shards]
        self.env_runner_group.foreach_env_runner(
            partial(take_seat, shards=shards, pace=self.pace), local_env_runner=False, remote_worker_ids=indices
        )

    def training_step(self) -> None:
        """Let everybody go on until an episode of every copy of every runner has been played."""
        goal = self.slots_sampled + self._episode_slots * int(self.config.num_env_runners)
        while self.slots_sampled < goal:
            self._let_play()
            self._let_learn(LESSON_S, until_empty=False)
            self._receive()
        self._let_play()
        self._look_at_shards()
        self._collect()

    def settle(self) -> None:
        """Let runners finish their episodes, and learn from all that was played."""
        if self._settled:
            return
        while self.env_runner_group.under_way(PLAY):
            self._let_learn(LESSON_S, until_empty=False)
            self._receive()
        while self._lesson:
            self._receive()
        for shard in self.shards:  # a lost runner may have been granted something after it was lost
            self._reach(shard, lambda shard: shard.rest.remote())
        self._let_learn(0.0, until_empty=True)
        while self._lesson:
            self._receive()
        self._settled = True
        self._collect()

    def _let_play(self) -> None:
        """Let every idle runner play an episode."""
        if self._idle:
            self._settled = False
            self.env_runner_group.foreach_env_runner_async(play, PLAY, remote_worker_ids=sorted(self._idle))
            self._idle.clear()

    def _let_learn(self, seconds: float, until_empty: bool) -> None:
        if not self._lesson:
            self._lesson = self.learner_group.start(learn, seconds, until_empty)

    def _receive(self) -> None:
        """Wait for something to be reported, and count it.

        Raises:
            RunnersLostError: If there is no runner left.
            RayError: If a learner is lost.
        """
        ray.wait(
            [*self.env_runner_group.under_way(PLAY), *self._lesson], num_returns=1, timeout=LOOK_S, fetch_local=False
        )
        for index, played in self.env_runner_group.fetch_ready_async_reqs(tags=PLAY, timeout_seconds=0.0):
            if played.admitted:
                self._count(played)
            else:  # a process that was replaced in between
                self._strangers.add(index)
        ready = ray.wait(self._lesson, num_returns=len(self._lesson), timeout=0)[0] if self._lesson else []
        lessons = ray.get(ready)  # raises at once if a learner is lost, while the others still wait for it
        if lessons and len(lessons) == len(self._lesson):
            first = ray.get(self._lesson[0])
            self._lesson = []
            self._learner_results += [lesson.metrics for lesson in lessons]
            self.pace = first.pace
            self.books.learned(first)
            for name, number in first.updates.items():
                self.updates[name] += number
        self._look_at_runners()

    def _count(self, played: Played) -> None:
        self._idle.add(played.runner)
        self.slots_sampled += played.slots
        self.episodes += played.episodes
        self._played.append(played)
        self.books.played(played)

    def _look_at_runners(self) -> None:
        """Take back what was granted to runners that are lost.

        Raises:
            RunnersLostError: If there is no runner left.
        """
        healthy = set(self.env_runner_group.healthy_worker_ids())
        for index in self._healthy - healthy:
            self._idle.discard(index)
            self.shards[self.seating.shards[index - 1]].forget.remote(index)
        self._healthy = healthy
        if not healthy - self._strangers:
            raise RunnersLostError("no env runner is left that takes part in the training")

    def _look_at_shards(self) -> None:
        """Ask shards what they hold, and say which were lost.

        Raises:
            ActorDiedError: If one is lost and does not come back.
        """
        for index, shard in enumerate(self.shards):
            try:
                report = ray.get(shard.report.remote(), timeout=LOOK_S)
            except ActorDiedError:
                raise
            except RayError:
                continue  # not back yet, or at work: there is a next time
            before = self._reports[index]
            if report["life"] != before["life"]:
                rows = sum(before["rows"].values())
                self.notices.append(
                    f"Replay shard {index + 1} of {len(self.shards)} was lost with about {rows:,} transitions; "
                    "training goes on with those of the others and with what is played from now on."
                )
            self._reports[index] = report
        self.books.waiting = sum(report["waiting"] for report in self._reports)

    def _collect(self) -> None:
        """Hand RLlib what was reported since the last time."""
        self.metrics.aggregate([played.metrics for played in self._played], key=ENV_RUNNER_RESULTS)
        self._played = []
        if self._learner_results:
            self.metrics.aggregate(self._learner_results, key=LEARNER_RESULTS)
            self._learner_results = []
        total = sum(self.updates.values())
        self.metrics.log_value((LEARNER_RESULTS, ALL_MODULES, "updates_lifetime"), total, window=1)
        for name, value in self.figures().items():
            self.metrics.log_value((ASYNCHRONOUS, name), value, window=1)

    def figures(self) -> dict[str, float]:
        """What tells asynchronous training from synchronous: ages of weights, their bound, and what waited."""
        return {**self.books.figures(), "staleness_slots_bound": float(self.bound_slots)}

    def processor_s(self) -> dict[str, float]:
        """Processor time that each part has taken so far, s, once nothing is under way."""
        self.settle()
        runners = self.env_runner_group.foreach_env_runner(_processor_s, local_env_runner=False)
        learners = ray.get(self.learner_group.start(_processor_s))
        shards = ray.get([shard.report.remote() for shard in self.shards])
        return {
            "runners": sum(runners),
            "learners": sum(learners),
            "shards": sum(report["cpu_s"] for report in shards),
            "driver": time.process_time(),
        }

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """See :meth:`JointAlgorithm.restore_env_runners`; runners that are back play for their shards again."""
        back = super().restore_env_runners(env_runner_group)
        if back and env_runner_group is self.env_runner_group:
            self._seat(back)
            self._healthy = set(env_runner_group.healthy_worker_ids())
            self._idle |= set(back) & self._healthy
        return back

    def policy(self, seed: int = 0) -> TrainedPolicy:
        """Return the trained policy once all that was played is learned from."""
        self.settle()
        return super().policy(seed)

    def kept_memory(self) -> Memory:
        """See :meth:`JointAlgorithm.kept_memory`."""
        self.settle()
        return super().kept_memory()

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """State of everything but the shards, which :meth:`save_to_path` writes one by one."""
        self.settle()
        state = super().get_state(components, not_components=not_components, **kwargs)
        if PROGRESS in state:
            state[PROGRESS][ASYNCHRONOUS] = {"pace": tuple(self.pace), "oldest": self.books.oldest}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``get_state`` returned, of a synchronous training too."""
        self.settle()
        rest = dict(state)
        replays = rest.pop(REPLAYS, {})
        super().set_state(rest)
        if PROGRESS in state:
            saved = state[PROGRESS].get(ASYNCHRONOUS)
            made = (sum(self.updates.values()), self.slots_sampled)
            self.pace = Pace(*(saved["pace"] if saved else made))
            if saved:
                self.books.oldest = tuple(saved["oldest"])
            if replays:
                self._load([whole_replay(replays, self.owed_updates)])
            self.owed_updates = dict.fromkeys(self.owed_updates, 0.0)
            self._begin()

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """Write a checkpoint; every shard's part is a file of its own."""
        saved: str = super().save_to_path(path, **kwargs)
        write_shards(saved, (self._reach(shard, lambda shard: shard.save.remote()) for shard in self.shards))
        return saved

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Continue from a checkpoint, also of another number of shards, or of a synchronous training."""
        super().restore_from_path(path, *args, **kwargs)
        if files := read_shards(path):
            self._load(files)

    def _load(self, files: list[Any]) -> None:
        """Deal what shards held before to those that there are now."""
        saved = [ray.put(contents) for contents in files]
        for shard, parts in zip(self.shards, dealt(len(saved), len(self.shards)), strict=True):
            numbers = [(part, of) for _, part, of in parts]
            ray.get(shard.load.remote(numbers, *[saved[number] for number, _, _ in parts]))
        self._reports = ray.get([shard.report.remote() for shard in self.shards])

    def _reach(self, shard: Any, call: Any) -> Any:
        """Call a shard; one that is lost may come back."""
        until = time.monotonic() + SHARD_BACK_S
        while True:
            try:
                return ray.get(call(shard))
            except ActorDiedError:
                raise
            except RayError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def cleanup(self) -> None:
        """Stop everything; the shards first, so that no runner waits for room."""
        for shard in self.shards:
            ray.kill(shard)
        self.env_runner_group.stop()  # before the learners' backend gives the room of all back
        super().cleanup()


def _processor_s(process: Any) -> float:
    """Processor time of a runner's or learner's process so far, s."""
    del process
    return time.process_time()
