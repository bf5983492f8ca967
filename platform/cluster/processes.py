# SPDX-License-Identifier: Apache-2.0
"""The processes of a training on a Ray cluster: how many, how large, where, and what to do when some are lost."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgegen.envs.core.errors import first_line, from_validation

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.config import JointConfig

RESTART_WAIT_S = 120.0
"""How long a training that lost processes waits for room for new ones at least, s: a machine may be coming back."""

Amount = Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)]


class Processes(BaseModel):
    """The processes of a training.

    Attributes:
        num_env_runners: Remote env runners; 0 plays in the process that trains.
        num_learners: Remote learners, each with a whole ``batch_size`` of its own; 0 learns in the process that trains.
        cpus_per_env_runner: CPUs that an env runner reserves.
        cpus_per_learner: CPUs that a remote learner reserves.
        gpus_per_learner: GPUs of a remote learner; fractions share one.
        placement: ``pack`` them on few nodes, or ``spread`` them over many.
        fragment_length: What every env runner plays between two rounds of updates: slots (LAD-TS) or frames (T2DRL).
        asynchronous: Whether env runners play and learners learn without taking turns; there is at least one of each.
        staleness: In asynchronous training, how old weights may get, in fragments of every env runner.
        replay_shards: In asynchronous training, processes that keep the replay; 0 is one for six env runners of a host.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_env_runners: Annotated[int, Field(ge=0, le=1024)] = 0
    num_learners: Annotated[int, Field(ge=0, le=256)] = 0
    cpus_per_env_runner: Amount = 1.0
    cpus_per_learner: Amount = 1.0
    gpus_per_learner: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] = 0.0
    placement: Literal["pack", "spread"] = "pack"
    fragment_length: Annotated[int, Field(ge=1, le=100_000)] = 1
    asynchronous: bool = False
    staleness: Annotated[float, Field(ge=2, le=1_000, allow_inf_nan=False)] = 4.0
    replay_shards: Annotated[int, Field(ge=0, le=1_024)] = 0

    @model_validator(mode="before")
    @classmethod
    def _one_of_each(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("asynchronous"):
            return values | {name: values.get(name) or 1 for name in ("num_env_runners", "num_learners")}
        return values

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.gpus_per_learner and not self.num_learners:
            raise ValueError(
                f"gpus_per_learner is {self.gpus_per_learner:g}, but num_learners is 0; set it to 1 or more"
            )
        if self.gpus_per_learner > 1 and not self.gpus_per_learner.is_integer():
            raise ValueError(f"gpus_per_learner is {self.gpus_per_learner:g}, but must be a fraction of one or whole")
        if self.replay_shards and not self.asynchronous:
            raise ValueError(f"replay_shards is {self.replay_shards}, but means nothing without asynchronous")
        return self

    def apply(self, config: JointConfig, wait_s: float | None = None) -> JointConfig:
        """Tell an algorithm's config.

        Args:
            config: The config; changed and returned.
            wait_s: How long to wait for room, s; as for :meth:`JointConfig.placement`.
        """
        config.env_runners(
            num_env_runners=self.num_env_runners,
            num_cpus_per_env_runner=self.cpus_per_env_runner,
            rollout_fragment_length=self.fragment_length,
        )
        config.learners(
            num_learners=self.num_learners,
            num_cpus_per_learner=self.cpus_per_learner,
            num_gpus_per_learner=self.gpus_per_learner,
        )
        if self.asynchronous:
            config.asynchronous(self.staleness, self.replay_shards)
        return config.placement("SPREAD" if self.placement == "spread" else "PACK", wait_s)

    @property
    def remote(self) -> bool:
        """Whether there are any processes but the one that trains."""
        return bool(self.num_env_runners or self.num_learners)

    def session_options(self) -> dict[str, Any]:
        """What a private Ray session needs so that all processes have room; they share the cores there are."""
        cpus = self.num_env_runners * self.cpus_per_env_runner + self.num_learners * self.cpus_per_learner
        return {"num_cpus": max(os.cpu_count() or 1, math.ceil(cpus))}


def make_processes(**values: Any) -> Processes:
    """Make the processes of a training from plain values.

    Raises:
        InputError: If a value is impossible.
    """
    try:
        return Processes(**values)
    except ValidationError as error:
        raise from_validation(error, "processes", Processes.model_fields) from None


def is_cluster_fault(error: BaseException) -> bool:
    """Whether an error says that a process, a machine or an object of the cluster was lost."""
    from ray.exceptions import RayError

    from edgegen.algorithms.rllib.algorithm import RunnersLostError

    return isinstance(error, (RayError, RunnersLostError))


class RunnerWatch:
    """Tells when env runners are lost and when they are back.

    Args:
        tell: What to call with a sentence.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._healthy: int | None = None
        self._reason = ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch RLlib's tracebacks about lost runners in a block: what they say becomes part of the sentence."""
        logger = logging.getLogger("ray.rllib.utils.actor_manager")
        logger.addFilter(self._catch)
        try:
            yield
        finally:
            logger.removeFilter(self._catch)

    def _catch(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        self._reason = first_line(record.msg)
        return False

    def look(self, algorithm: Any) -> None:
        """Compare the env runners of an algorithm with what they were, and pass its own notices on."""
        while algorithm.notices:
            self._tell(algorithm.notices.pop(0))
        runners = algorithm.config.num_env_runners
        if not runners:
            return
        healthy = algorithm.env_runner_group.num_healthy_remote_workers()
        before = runners if self._healthy is None else self._healthy
        if healthy < before:
            reason = f": {self._reason}" if self._reason else ""
            self._tell(f"{before - healthy} of {runners} env runners lost, training goes on with {healthy}{reason}.")
        elif healthy > before:
            self._tell(f"{healthy - before} lost env runners are back, training goes on with {healthy}.")
        self._healthy = healthy
