# SPDX-License-Identifier: Apache-2.0
"""The agents of the offloading world: edge servers that place the tasks of their users on each other's machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces

from edgegen.envs.core.agent_input import checked_option, chosen
from edgegen.envs.core.agents import SLACK, Agents, Observation, Told
from edgegen.envs.offloading.draws import LEAST_SEEN
from edgegen.envs.offloading.physics import service_delay, until_done, work_ahead
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.terms import Facts
from edgegen.envs.offloading.world import OffloadingWorld

TASKS_LEFT = 3
"""Place in the vector of an agent's tasks left in the slot; an agent with none waits."""

_BAR = 40  # width of a drawn queue, characters


class OffloadingAgents(Agents):
    """Edge servers place the tasks of their users on each other's machines.

    ## Description

    Every one of the B servers is an agent, ``edge_0 … edge_{B-1}``. Tasks reach all servers at the start of a slot. In
    round n of a slot every agent places the n-th of its waiting tasks; all agents act at the same time and do not see
    each other's placements. Where the scenario's ``service_order`` is ``by_server``, agents place one after the other
    instead, each all of its tasks, one in a round, while the others wait. When all tasks are placed, the slot ends:
    every server works through its queue for the length of a slot, and the next tasks arrive. A slot without any task
    takes one round, in which nobody has anything to place. Delays follow from the LAD-TS system model
    (:func:`edgegen.envs.offloading.physics.service_delay`); no time passes inside a slot.

    ## Action Space

    ``Discrete(B)``: the server that runs the waiting task, as an integer or an integer array of shape ``()`` or
    ``(1,)``. An agent with no task to place in a round waits for the others: any action is allowed and ignored, and may
    be missing.

    ## Observation Space

    With ``observation="vector"`` a ``Box`` of float32: ``(4 + 4B,)``, or ``(4 + 5B,)`` where the scenario has
    ``reports``. With ``observation="dict"`` a dictionary of that vector, ``observation``, and ``action_mask``, int8
    ``[B]``. W is the most work that can arrive in a slot, B·N·max(w), and T the number of slots. A is the oldest that a
    report can be: T where reports are lost, else ``delay_slots``.

    | Index       | Quantity                                                      | Min | Max              | Unit     |
    |-------------|---------------------------------------------------------------|-----|------------------|----------|
    | 0           | Input size of the waiting task, 0 if none                     | 0   | max(d)           | Mbit     |
    | 1           | Workload of the waiting task, 0 if none                       | 0   | max(w)           | Gcycle   |
    | 2           | Result size of the waiting task, 0 if none                    | 0   | max(r)           | Mbit     |
    | 3           | Tasks left in this slot, with this one; 0: the agent waits    | 0   | N                | tasks    |
    | 4 … 3+B     | Backlog of each server, as last heard of                      | 0   | T·max(W − fΔ, 0) | Gcycle   |
    | 4+B … 3+2B  | Own work placed on each server earlier in the slot            | 0   | N·max(w)         | Gcycle   |
    | 4+2B … 3+3B | Capacity of each server, as last heard of                     | f   | f                | Gcycle/s |
    | 4+3B … 3+4B | Transmission rate towards each server                         | v   | v                | Mbit/s   |
    | 4+4B … 3+5B | Age of each server's report; only where there are ``reports`` | 0   | A                | slots    |
    | action_mask | Whether each server may be chosen: 1, also while waiting      | 1   | 1                | –        |

    Where servers are drawn for every episode, f and v are the ends of what can be drawn; where servers fail, the least
    capacity is what they have then (at least a thousandth) and nothing is taken off the largest backlog.
    Bounds are finite and a factor of 1.00001 wide, for rounding in float32.

    ## Rewards

    Minus the service delay, in seconds, of the task placed in this step, or minus its cost where the scenario's
    objective names terms; 0 if the agent had none. The last observation of an episode shows the tasks of the slot that
    would follow.

    ## Infos

    ``action_mask`` always, as in the table. After a step in which the agent placed a task also ``server``,
    ``transfer_s``, ``wait_s``, ``compute_s``, ``return_s`` and their sum ``delay_s`` of that task.

    Args:
        world: A world with one copy.
        observation: ``"dict"`` or ``"vector"``.

    Raises:
        InputError: If there is no such observation.
    """

    def __init__(self, world: OffloadingWorld, observation: Literal["dict", "vector"] = "dict") -> None:
        checked_option("observation", observation, ("dict", "vector"))
        self.world = world
        self.parallel = True
        self._as_dict = observation == "dict"
        servers = world.scenario.servers
        self.names = self.acting = [f"edge_{b}" for b in range(servers)]
        self._number = {agent: number for number, agent in enumerate(self.names)}
        self.observation_spaces = {agent: self._observation_space() for agent in self.names}
        self.action_spaces = {agent: spaces.Discrete(servers) for agent in self.names}
        self.begin()

    def begin(self) -> None:
        """See :meth:`Agents.begin`; every slot begins like this."""
        servers = self.world.scenario.servers
        self._slot = self.world.observe()
        present = self._slot.tasks.present[0]
        self._count = present.sum(-1).numpy()  # [B]
        self._round = 0
        self._rounds = self._rounds_of(present)
        self._placed = torch.zeros(servers, servers, dtype=torch.float64)  # [agent, server], Gcycle
        self._server = torch.zeros_like(self._slot.tasks.present, dtype=torch.long)  # [1, B, N]
        tasks = self._slot.tasks
        self._tasks = torch.stack([tasks.size_mbit[0], tasks.workload_gcycles[0], tasks.result_mbit[0]])  # [3, B, N]
        self._vectors = self._of_slot()

    def _of_slot(self) -> np.ndarray:
        """What agents see in all rounds of a slot ``[B, 4 + 4B]`` or ``[B, 4 + 5B]``; the rest is open."""
        slot, servers = self._slot, self.world.scenario.servers
        seen = [slot.backlog_gcycles, self._placed, slot.capacity_gcycles_s, slot.rate_mbit_s]
        if self.world.scenario.reports is not None:
            seen.append(slot.age_slots)
        vectors = np.empty((servers, 4 + servers * len(seen)), dtype=np.float32)
        for part, values in enumerate(seen):
            # [1, B] for all agents alike; rates may be [1, B, B], a row for each.
            vectors[:, 4 + part * servers : 4 + (part + 1) * servers] = values.numpy().reshape(-1, servers)
        return vectors

    def _rounds_of(self, present: torch.Tensor) -> list[tuple[int, np.ndarray]]:
        """Index of the tasks placed in each round of a slot, and the servers ``[B]`` that place one."""
        if not present.any():
            return [(0, np.zeros(len(present), dtype=bool))]
        if self._slot.by_server:
            one = np.eye(len(present), dtype=bool)
            return [(index, one[server]) for server, count in enumerate(self._count) for index in range(count)]
        return [(index, self._count > index) for index in range(self._count.max())]

    def _waiting(self) -> np.ndarray:
        """Whether each server has a task to place in this round ``[B]``."""
        return self._rounds[self._round][1]

    def needs(self, agent: str) -> bool:
        """Whether the agent has a task to place in this round; the others wait."""
        return bool(self._waiting()[self._number[agent]])

    @property
    def missing(self) -> str:
        """See :attr:`Agents.missing`."""
        return "has a waiting task but no action; choose a server for it"

    def checked(self, agent: str, action: Any) -> int:
        """See :meth:`Agents.checked`."""
        return chosen(agent, action, self.world.scenario.servers, "a server")

    def take(self, actions: Mapping[str, Any]) -> Told:
        """Place the waiting task of every agent; when all of the slot are placed, the slot ends."""
        edges = [self._number[agent] for agent in actions]
        server = torch.tensor(list(actions.values()), dtype=torch.long)
        placed, worse = self._place(torch.tensor(edges, dtype=torch.long), server)
        self._round += 1
        if self._round >= len(self._rounds):
            self.world.decide(self._server)
            self.begin()
        infos = self.infos()
        told = {"server": server.tolist()} | {part: values.tolist() for part, values in placed.items()}
        for agent, *values in zip(actions, *told.values(), strict=True):
            infos[agent] |= zip(told, values, strict=True)
        return {agent: -cost for agent, cost in zip(actions, worse.tolist(), strict=True)}, infos

    def infos(self) -> dict[str, dict[str, Any]]:
        """The action masks: everything is allowed to everybody.

        Whoever draws from a mask without a choice fails, or ends the episode.
        """
        return {agent: {"action_mask": mask} for agent, mask in self._masks().items()}

    def observations(self) -> dict[str, Observation]:
        """See :meth:`Agents.observations`."""
        having, servers = self._waiting(), len(self.names)
        index = self._rounds[self._round][0]
        vectors = self._vectors.copy()
        vectors[:, :3] = self._tasks[..., index].T.numpy() * having[:, None]
        vectors[:, 3] = np.where(having, self._count - index, 0)
        vectors[:, 4 + servers : 4 + 2 * servers] = self._placed.numpy()
        by_agent = dict(zip(self.names, vectors, strict=True))
        if not self._as_dict:
            return dict(by_agent)
        masks = self._masks()
        return {agent: {"observation": by_agent[agent], "action_mask": masks[agent]} for agent in by_agent}

    def drawing(self) -> str:
        """The queues as bars of waiting time."""
        slot = self._slot.truth
        queued = slot.backlog_gcycles[0].double() + self._placed.sum(0)
        left = self._count - sum(
            (placing.astype(int) for _, placing in self._rounds[: self._round]), np.zeros(len(self.names), int)
        )
        wait_s = (queued / slot.capacity_gcycles_s[0]).tolist()
        scale = _BAR / max(*wait_s, self.world.scenario.slot_s)
        lines = [f"slot {self._slot.slot} of {self.world.scenario.slots}, round {self._round}"]
        for b, agent in enumerate(self.names):
            bar = "#" * round(wait_s[b] * scale)
            lines.append(
                f"{agent:>8} |{bar:<{_BAR}}| {wait_s[b]:8.2f} s wait at {float(slot.capacity_gcycles_s[0, b]):g} "
                f"Gcycle/s, {left[b]} to place"
            )
        return "\n".join(lines) + "\n"

    def _place(self, edge: torch.Tensor, server: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Place this round's tasks of agents ``edge [M]``, in order of service; delays by part, and costs ``[M]``."""
        slot, tasks = self._slot.truth, self._slot.tasks.at_index(self._rounds[self._round][0])
        workload = tasks.workload_gcycles[0, edge]
        ahead, _ = work_ahead(server, workload, self.world.scenario.servers)  # placed by agents before, in this round
        ahead += slot.backlog_gcycles[0, server] + self._placed.sum(0)[server]
        rate = slot.rate_mbit_s[0]
        delays = service_delay(
            tasks.size_mbit[0, edge],
            workload,
            tasks.result_mbit[0, edge],
            server == edge,
            ahead.to(workload.dtype),
            slot.capacity_gcycles_s[0, server],
            rate[server] if rate.dim() == 1 else rate[edge, server],
        )
        progress = self.world.progress
        if progress is not None:
            delays = until_done(delays, server, ahead, workload, progress)
        self._placed[edge, server] += workload
        self._server[0, edge, self._rounds[self._round][0]] = server
        parts = {**vars(delays), "delay_s": delays.total_s}
        if self.world.objective is None:
            return parts, parts["delay_s"]
        size_mbit, result_mbit = tasks.size_mbit[0, edge], tasks.result_mbit[0, edge]
        now_s = slot.slot * self.world.scenario.slot_s
        facts = Facts(server, server == edge, size_mbit, workload, result_mbit, delays, now_s)
        return parts, self.world.objective.cost(facts)

    def _masks(self) -> dict[str, np.ndarray]:
        servers = len(self.names)
        return dict(zip(self.names, np.ones((servers, servers), dtype=np.int8), strict=True))

    def _observation_space(self) -> spaces.Space[Any]:
        vector = vector_space(self.world.scenario)
        if not self._as_dict:
            return vector
        mask = spaces.Box(0, 1, (self.world.scenario.servers,), np.int8)
        return spaces.Dict({"observation": vector, "action_mask": mask})


def vector_space(scenario: OffloadingScenario) -> spaces.Box:
    """The space of the vectors of :class:`OffloadingAgents`, laid out as told there."""
    servers = scenario.servers
    capacity, rate = _ends(scenario)
    least = capacity[0]
    if scenario.outages is not None:
        least = least * max(scenario.outages.factor, LEAST_SEEN)
    drained = np.zeros_like(least) if scenario.outages is not None else capacity[0] * scenario.slot_s
    arriving = servers * scenario.max_tasks * scenario.max_workload_gcycles
    age = np.full(servers if scenario.reports is not None else 0, oldest_report_slots(scenario))
    high = np.concatenate(
        [
            [scenario.size_mbit.high, scenario.max_workload_gcycles, scenario.result_mbit.high, scenario.max_tasks],
            scenario.slots * np.maximum(arriving - drained, 0),
            np.full(servers, scenario.max_tasks * scenario.max_workload_gcycles),
            capacity[1],
            rate[1],
            age,
        ]
    )
    low = np.concatenate([np.zeros(4 + 2 * servers), least, rate[0], np.zeros_like(age)])
    return spaces.Box((low / SLACK).astype(np.float32), (high * SLACK).astype(np.float32), dtype=np.float32)


def oldest_report_slots(scenario: OffloadingScenario) -> int:
    """The most slots ago that servers can have been as they are shown."""
    reports = scenario.reports
    if reports is None:
        return 0
    return scenario.slots if reports.loss else min(reports.delay_slots, scenario.slots)


def _ends(scenario: OffloadingScenario) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest whole capacity and rate of each server ``[2, B]``, whatever episode is played."""
    servers, sets = scenario.servers, scenario.server_sets
    if sets is None or sets.drawn == "once":
        rates = np.array(scenario.rate_mbit_s).reshape(-1, servers)  # one row per origin, or one for all
        return np.tile(scenario.capacity_gcycles_s, (2, 1)), np.stack([rates.min(0), rates.max(0)])
    spread = np.array([sets.capacity_gcycles_s.low, sets.capacity_gcycles_s.high])
    if sets.load is not None:
        # Scaled to a given sum: a server has most of it where all others are drawn at the other end, and least.
        others = (servers - 1) * spread[::-1]
        load = np.full(2, sets.load) if isinstance(sets.load, float) else np.array([sets.load.high, sets.load.low])
        spread = spread / (spread + others) * scenario.work_gcycles_s / load
    rate = np.array([sets.rate_mbit_s.low, sets.rate_mbit_s.high])
    return tuple(np.repeat(ends[:, None], servers, axis=1) for ends in (spread, rate))  # type: ignore[return-value]
