# SPDX-License-Identifier: Apache-2.0
"""The offloading world: tasks are placed on servers slot by slot, and the delays follow.

Everything carries a leading batch axis E of independent copies, and no loop runs over tasks, servers or copies. What
becomes of placed tasks is in :mod:`edgegen.envs.offloading.physics`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgegen.envs.core.fields import check_copies
from edgegen.envs.core.objectives import Objective
from edgegen.envs.core.world import Role, World
from edgegen.envs.offloading.draws import LEAST_SEEN, draw_episodes, draw_servers
from edgegen.envs.offloading.physics import Progress, SlotOutcome, drain_backlog, place
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.terms import judged
from edgegen.envs.offloading.view import ROUTER, HeardView, RouterView


@dataclass
class OffloadingState:
    """Everything that changes while the simulator runs.

    Arrivals, servers and reports are functions of (seed, first_episode) and are redrawn on restore instead of stored.

    Attributes:
        seed: Root of the arrival stream.
        first_episode: Number of the first of the E episodes being played.
        slot: Slot about to be placed.
        backlog_gcycles: Backlog of each server ``[E, B]``, Gcycle.
        history_gcycles: Backlogs at the start of the slots so far ``[E, T, B]``, 0 from the present one on; None where
            nobody looks back.
    """

    seed: int
    first_episode: int
    slot: int
    backlog_gcycles: Tensor
    history_gcycles: Tensor | None = None


class OffloadingWorld(World):
    """E independent copies of a scenario, played in lockstep.

    Example:
        >>> simulator = OffloadingWorld(load_scenario("demo"), copies=64)
        >>> observation = simulator.reset(seed=1)
        >>> while not simulator.done:
        ...     outcome = simulator.decide(actions_for(observation))
        ...     observation = simulator.observe()

    Args:
        scenario: The world.
        copies: Number of copies E.
        device: Where state and equations live.
        dtype: Floating-point type of the state.

    Raises:
        InputError: If no memory holds so many copies.

    Attributes:
        capacity_gcycles_s: Whole capacity of each server in the episodes being played ``[E, B]``.
        rate_mbit_s: Rates ``[E, B]`` or ``[E, B, B]``.
    """

    kind: ClassVar[str] = "offloading"
    roles: ClassVar[dict[str, Role]] = {ROUTER: Role(ROUTER, "choice", "tasks", ("server",), RouterView, varies=True)}

    def __init__(
        self,
        scenario: OffloadingScenario,
        copies: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_copies(copies, scenario.cells_of_an_episode, scenario.name)
        self.scenario = scenario
        self.copies = copies
        self.device = torch.device(device)
        self.dtype = dtype
        self.objective = Objective.of(scenario)
        self.reset(seed=0)

    def reset(self, seed: int | None = None, first_episode: int = 0) -> RouterView:
        """Begin the next E episodes, or with a seed E episodes of that seed's stream; see :meth:`World.reset`."""
        if seed is None:
            seed, first_episode = self.state.seed, self.state.first_episode + self.copies
        backlog = torch.zeros(self.copies, self.scenario.servers, device=self.device, dtype=self.dtype)
        self._load(OffloadingState(seed, first_episode, 0, backlog))
        return self.observe()

    @property
    def turn(self) -> str | None:
        """The routers', until every scheduled slot has been placed."""
        return ROUTER if self.state.slot < self.scenario.slots else None

    @property
    def round(self) -> int:
        """Slots that have been placed."""
        return self.state.slot

    @property
    def progress(self) -> Progress | None:
        """What the queues ``E·B`` can do from the present slot on; None if capacities do not change."""
        if self._share is None:
            return None
        return Progress.of(self.capacity_gcycles_s, self._share[:, self.state.slot :], self.scenario.slot_s)

    def observe(self) -> RouterView:
        """Return the slot about to be placed, as the routers see it; once all are placed, the one slot beyond."""
        slot = self.state.slot
        actual = RouterView(
            slot,
            self.state.backlog_gcycles,
            self._capacity_seen(slot),
            self.rate_mbit_s,
            self._arrivals.slot(slot),
            by_server=self.scenario.service_order == "by_server",
            objective=self.objective,
        )
        history = self.state.history_gcycles
        if self._age is None or history is None:
            return actual
        age = self._age[:, slot]
        sent = (slot - age)[:, None]
        history[:, slot] = self.state.backlog_gcycles
        capacity = actual.capacity_gcycles_s
        if self._share is not None:
            capacity = self.capacity_gcycles_s * self._share.gather(1, sent)[:, 0].clamp_min(LEAST_SEEN)
        return HeardView(
            slot,
            history.gather(1, sent)[:, 0],
            capacity,
            actual.rate_mbit_s,
            actual.tasks,
            actual,
            age.to(self.dtype),
            by_server=actual.by_server,
            objective=self.objective,
        )

    def decide(self, action: Tensor) -> SlotOutcome:
        """Place all tasks of the slot and move to the next one.

        Args:
            action: Chosen server of each task ``[E, B, N]``, any integer type.

        Raises:
            ValueError: If the episode is over or a chosen server does not exist.
        """
        if self.done:
            raise ValueError("the episode is over; call reset()")
        seen = self.observe().truth
        outcome, placed = place(seen, action, progress=self.progress)
        if self.objective is not None:
            outcome = judged(self.objective, seen, outcome, self.state.slot * self.scenario.slot_s)
        capacity = self.capacity_gcycles_s
        if self._share is not None:
            capacity = capacity * self._share[:, self.state.slot]
        self.state.backlog_gcycles = drain_backlog(self.state.backlog_gcycles, placed, capacity, self.scenario.slot_s)
        self.state.slot += 1
        return outcome

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state as plain values and tensors."""
        state = {field.name: getattr(self.state, field.name) for field in fields(self.state)}
        return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state returned by ``state_dict`` of a simulator of the same scenario and copies."""
        backlog = state["backlog_gcycles"].to(self.device, self.dtype).clone()
        if backlog.shape != (self.copies, self.scenario.servers):
            raise ValueError(
                f"the state is of {tuple(backlog.shape)} copies and servers, not {(self.copies, self.scenario.servers)}"
            )
        history = state.get("history_gcycles")
        if history is not None:
            history = history.to(self.device, self.dtype).clone()
        elif state["slot"] and self.scenario.reports is not None:
            raise ValueError("the state lacks history_gcycles, which this scenario's reports look back to")
        self._load(OffloadingState(state["seed"], state["first_episode"], state["slot"], backlog, history))

    def _load(self, state: OffloadingState) -> None:
        episodes = range(state.first_episode, state.first_episode + self.copies)
        self._arrivals = draw_episodes(self.scenario, state.seed, episodes, self.device, self.dtype)
        servers = draw_servers(self.scenario, state.seed, episodes, self.device, self.dtype)
        self.capacity_gcycles_s = servers.capacity_gcycles_s
        self.rate_mbit_s = servers.rate_mbit_s
        self._share, self._age = servers.share, servers.age
        if self._age is not None and state.history_gcycles is None:
            state.history_gcycles = torch.zeros(self._age.shape, device=self.device, dtype=self.dtype)
        self.state = state

    def _capacity_seen(self, slot: int) -> Tensor:
        if self._share is None:
            return self.capacity_gcycles_s
        return self.capacity_gcycles_s * self._share[:, slot].clamp_min(LEAST_SEEN)
