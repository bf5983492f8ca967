# SPDX-License-Identifier: Apache-2.0
"""A seat: one policy that places requests, with its live world, what it remembers, and how far it can be trusted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.errors import InputError
from edgegen.serve.control.books import Server
from edgegen.serve.control.live_world import Chosen, LiveWorld, Task

WALL_FACTOR = 20.0
"""A decision is over its budget of computing time, or so many times as long by the clock: a busy machine is no fault of
a policy, but one that waits for somebody else is."""


class PolicyFailedError(Exception):
    """A policy could not decide."""


@dataclass(frozen=True)
class Trust:
    """How far a policy is trusted.

    Attributes:
        budget_s: Computing time that a decision may take, s.
        strikes: Decisions in a row that may fail or be over budget before the policy has to rest.
        rest_s: How long it rests, s.
    """

    budget_s: float = math.inf
    strikes: int = 5
    rest_s: float = 30.0


class Seat:
    """Lets one policy decide, and counts how it does.

    Args:
        world: What it sees.
        policy: Decides; called under ``torch.inference_mode``.
        explore: Whether it samples.
        trust: How far it is trusted.
        label: What it is called by the operator; its own name if empty.
        computing_time: Computing time of this thread, s.

    Attributes:
        world: What it sees.
        policy: Decides.
        label: What it is called by the operator.
        decisions: Decisions taken, late ones among them.
        late: Decisions over budget.
        failures: Decisions that failed.
        last_failure: Why the latest one of these did.
        healthy: Whether its latest decision was none of those that failed, and it does not rest.
    """

    def __init__(
        self,
        world: LiveWorld,
        policy: Policy,
        explore: bool = False,
        trust: Trust = Trust(),
        label: str = "",
        computing_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self.world, self.policy, self.label = world, policy, label or policy.name
        self.decisions = self.late = self.failures = 0
        self.last_failure: str | None = None
        self.healthy = True
        self._explore, self._trust, self._computing_time = explore, trust, computing_time
        self._memory: Memory | None = None
        self._strikes, self._rests_until = 0, -math.inf

    @property
    def resting(self) -> bool:
        """Whether it has failed so often in a row that it is not asked for a while."""
        return self.world.clock() < self._rests_until

    def choose(self, task: Task, open_servers: Sequence[Server]) -> str:
        """Return the name of the server that the policy chooses.

        Raises:
            PolicyFailedError: If it raises, chooses no server, remembers what is not finite, or rests.
        """
        if self.resting:
            raise PolicyFailedError(f"policy '{self.policy.name}' rests after failures in a row: {self.last_failure}")
        begun, computed = time.perf_counter(), self._computing_time()
        try:
            chosen = self._ask(task, open_servers)
        except Exception as error:  # a policy is foreign code: whatever it does, requests must be answered
            reason = f"policy '{self.policy.name}' failed: {type(error).__name__}: {error}".splitlines()[0]
            self.failures += 1
            self.last_failure, self.healthy = reason, False
            self._memory = None  # policies may write in place, so what they hold after a failure can not be trusted
            self._strike()
            raise PolicyFailedError(reason) from None
        self.decisions += 1
        budget_s, took_s = self._trust.budget_s, self._computing_time() - computed
        if took_s > budget_s or time.perf_counter() - begun > WALL_FACTOR * budget_s:
            self.late += 1
            allowed = f"{budget_s * 1e3:g} are allowed"
            self.last_failure = f"policy '{self.policy.name}' took {took_s * 1e3:.1f} ms, {allowed}"
            self._strike()
        else:
            self._strikes = 0
        self.healthy = not self.resting
        return chosen

    def pass_by(self, task: Task, open_servers: Sequence[Server]) -> None:
        """Show the world a request about which the policy is not asked."""
        self.world.arrive(task, open_servers)
        self.world.withdraw()

    def try_out(self, servers: Sequence[Server]) -> None:
        """Ask the policy about a request as it could arrive now, and forget that again.

        Raises:
            InputError: If it fails.
        """
        able = [server for server in servers if not server.cloud] or list(servers)
        model = able[0].models[0]
        state = self.world.state_dict()
        try:
            task = Task(model, able[0].name, 1.0, 0.001, 0.1)
            self._ask(task, [server for server in servers if model in server.models])
        except Exception as error:  # a policy is foreign code
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"The policy '{self.label}' fails on the service as it is: {reason}.") from None
        finally:
            self.world.load_state_dict(state)
            self._memory = None

    def _ask(self, task: Task, open_servers: Sequence[Server]) -> str:
        role = self.world.role
        self.world.arrive(task, open_servers)
        try:
            view = self.world.observe()
            with torch.inference_mode():
                memory = self._memory
                if memory is None:
                    memory = self.policy.prepare(self.world) | self.policy.begin(role, view)
                action, memory = self.policy.act(role, view, memory, self._explore)
                chosen = cast(Chosen, self.world.decide(action)).server
                # A sum is finite only if all its terms are; the index alone would not betray a broken network.
                for name, values in memory.items():
                    if values.is_floating_point() and not math.isfinite(float(values.sum())):
                        raise ValueError(f"its memory '{name}' holds values that are not finite")
        finally:
            self.world.withdraw()  # whatever happened: the next request must find the world ready
        self._memory = memory
        return chosen

    def _strike(self) -> None:
        self._strikes += 1
        if self._strikes >= self._trust.strikes:
            self._strikes, self._rests_until = 0, self.world.clock() + self._trust.rest_s
