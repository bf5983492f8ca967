# SPDX-License-Identifier: Apache-2.0
"""The private parts of RLlib that are used here, all of them: what a new version of Ray may break is in this file.

Ray offers no public way to place env runners and learners, to choose how learners find each other, or to reach a
learner in this process. Versions of Ray are bounded above for what stands here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.algorithms import algorithm as rllib_algorithm
from ray.rllib.core.learner import learner_group
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.env import env_runner_group
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

_reserved: ContextVar[PlacementGroup | None] = ContextVar("reserved", default=None)


class OpenLearner(TorchLearner):
    """A TorchLearner that lets a subclass say how weights begin, how an update is made, and where it is."""

    _weights_seq_no: int

    @property
    def device(self) -> torch.device:
        """Where the modules are."""
        device: torch.device = self._device
        return device

    @property
    def index(self) -> int:
        """Number of this learner among several."""
        return int(self._learner_index)

    @abstractmethod
    def begin_alike(self) -> None:
        """Begin with equal weights on all learners; called once the modules are built."""

    @abstractmethod
    def make_update(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make an update of every module in a batch; returns losses by module."""

    def put_state(self, state: dict[str, Any]) -> None:
        """Restore a state even if its weights are older than the present ones, which RLlib would keep."""
        super().set_state({name: value for name, value in state.items() if name != WEIGHTS_SEQ_NO})
        if WEIGHTS_SEQ_NO in state:
            self._weights_seq_no = state[WEIGHTS_SEQ_NO]

    def __init__(self, **arguments: Any) -> None:
        with seeding_lightly():
            super().__init__(**arguments)

    def count_update(self) -> None:
        """Count an update that is made without RLlib's method for one."""
        self._weights_seq_no += 1

    def log_trained(self, module_id: str, rows: int) -> None:
        """Log what RLlib logs of the rows that a module was trained with."""
        self._log_steps_trained_metrics(MultiAgentBatch({module_id: SampleBatch({"rows": np.empty(rows)})}, rows))

    def _make_modules_ddp_if_necessary(self) -> None:
        self.begin_alike()

    def _update(self, batch: dict[str, Any]) -> tuple[Any, Any, Any]:
        return {}, self.make_update(batch), {}


class _NothingStored:
    """Ray, but for its object store: what is put there stays in this process."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def put(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def get(self, value: Any) -> Any:
        """Return what was put, or wait for what is in the store all the same."""
        return ray.get(value) if isinstance(value, ray.ObjectRef) else value


@contextmanager
def _nothing_stored() -> Iterator[None]:
    before = env_runner_group.ray
    env_runner_group.ray = _NothingStored()
    try:
        yield
    finally:
        env_runner_group.ray = before


class PlacedEnvRunnerGroup(EnvRunnerGroup):
    """Starts every remote env runner in the bundle that was reserved for it, and needs no Ray session without any.

    RLlib puts the config and weights into Ray's object store, and starts a session for that, even if nothing is remote.
    Remote env runners get the config itself here.
    """

    _remote_args: dict[str, Any]
    _remote_config: Any
    _pg_offset: int

    def __init__(self, **arguments: Any) -> None:
        with _nothing_stored():
            super().__init__(**arguments)

    def sync_weights(self, *arguments: Any, **rest: Any) -> Any:
        """Hand weights to the env runners, without the store if there is only the one in this process."""
        with nullcontext() if self.num_remote_workers() else _nothing_stored():
            return super().sync_weights(*arguments, **rest)

    def _make_worker(self, *, worker_index: int, **rest: Any) -> Any:
        group = _reserved.get()
        if worker_index > 0 and group is not None:
            strategy = PlacementGroupSchedulingStrategy(group, self._pg_offset + worker_index - 1)
            self._remote_args = {**self._remote_args, "scheduling_strategy": strategy}
        if worker_index > 0:  # itself and not a reference: a restart must not depend on an object that may be lost
            rest["config"] = self._remote_config
        return super()._make_worker(worker_index=worker_index, **rest)

    def under_way(self, tag: str) -> list[Any]:
        """References of the calls that ``foreach_env_runner_async`` started under a tag, for ``ray.wait``."""
        return [call for call, (own, _) in self._worker_manager._in_flight_req_to_actor_id.items() if own == tag]


class PlacedLearnerGroup(LearnerGroup):
    """A learner group that works across machines, and whose state is written by the process that asks for it.

    RLlib lets a remote learner write its own part of a checkpoint, on its own machine, and does not look whether that
    worked: on a full disk the checkpoint would miss the weights without a word.
    """

    def __init__(self, **arguments: Any) -> None:
        before = learner_group._get_backend_config
        learner_group._get_backend_config = _backend_of_learners  # there is no other way in
        try:
            super().__init__(**arguments)
        finally:
            learner_group._get_backend_config = before

    def start(self, function: Any, *arguments: Any) -> list[Any]:
        """Start ``function(learner, *arguments)`` on all remote learners; returns references of what they return."""
        return [worker.apply.remote(function, *arguments) for worker in self._workers]

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """None: all of the state is written as one."""
        return []


def _backend_of_learners(learner_class: Any) -> Any:
    """How remote learners find each other; Ray's library for training is imported where there are some."""
    from edgegen.algorithms.rllib.private_learners import LearnersConfig

    del learner_class
    return LearnersConfig()


def reserved() -> PlacementGroup | None:
    """The placement group of the algorithm that is being built."""
    return _reserved.get()


@contextmanager
def placed(group: PlacementGroup | None) -> Iterator[None]:
    """Let the env runners and learners that are made in a block go into a placement group."""
    token = _reserved.set(group)
    before = rllib_algorithm.EnvRunnerGroup
    rllib_algorithm.EnvRunnerGroup = PlacedEnvRunnerGroup  # Algorithm.setup offers no other way in
    try:
        with seeding_lightly():
            yield
    finally:
        rllib_algorithm.EnvRunnerGroup = before
        _reserved.reset(token)


@contextmanager
def seeding_lightly() -> Iterator[None]:
    """Let RLlib seed torch as it does, but without importing torch's compiler, which takes a second of every process.

    ``torch.use_deterministic_algorithms`` imports it to set a switch of it, too.
    """
    before = torch.use_deterministic_algorithms
    torch.use_deterministic_algorithms = _decide_determinism
    try:
        yield
    finally:
        torch.use_deterministic_algorithms = before


def _decide_determinism(mode: bool, *, warn_only: bool = False) -> None:
    memory: Any = torch.utils.deterministic
    memory.fill_uninitialized_memory = False  # for finding faults: it fills what is written next
    torch.set_deterministic_debug_mode(("warn" if warn_only else "error") if mode else "default")


def local_learner(algorithm: Any) -> Any:
    """Return the learner of an algorithm that lives in this process; None if learners are remote."""
    return algorithm.learner_group._learner


def parameter_groups(algorithm: Any) -> list[dict[str, Any]]:
    """Parameter groups of every optimizer of the learner in this process, always in the same order."""
    learner = local_learner(algorithm)
    optimizers = {} if learner is None else learner._named_optimizers
    return [group for name in sorted(optimizers) for group in optimizers[name].param_groups]
