"""The offloading world for any multi-agent library: a PettingZoo parallel environment over the batched simulator.

Training in edgegen runs on the batched simulator, which is far faster. This facade is for everything that speaks
PettingZoo; its arrivals and delays are those of :class:`edgegen.envs.offloading.world.OffloadingWorld`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec

from edgegen.envs.agent_space import vector_space
from edgegen.envs.core.agent_input import (
    checked_max_cycles,
    checked_option,
    chosen,
    shown,
    stream_seed,
)
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import as_scenario
from edgegen.envs.offloading.physics import service_delay, until_done, work_ahead
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.offloading.world import OffloadingWorld

AgentObservation = np.ndarray | dict[str, np.ndarray]
"""What one agent sees: a vector, or a dictionary of the vector and the action mask."""

TASKS_LEFT = 3
"""Place in the vector of an agent's tasks left in the slot; an agent with none waits."""

_BAR = 40  # width of a drawn queue, characters


class OffloadingParallelEnv(ParallelEnv):  # type: ignore[misc]  # pettingzoo ships no types
    """Edge servers place the tasks of their users on each other's machines.

    ## Description

    Every one of the B servers is an agent, ``edge_0 … edge_{B-1}``. Tasks reach all servers at the start of a slot. In
    round n of a slot every agent places the n-th of its waiting tasks; all agents act at the same time and do not see
    each other's placements. When the server with the most tasks has placed its last one, the slot ends: every server
    works through its queue for the length of a slot, and the next tasks arrive. A slot without any task takes one
    round, in which nobody has anything to place. Delays follow from the LAD-TS system model
    (:func:`edgegen.envs.offloading.physics.service_delay`); no time passes inside a slot.

    ## Action Space

    ``Discrete(B)``: the server that runs the waiting task, as an integer or an integer array of shape ``()`` or
    ``(1,)``. An agent with no task left in the slot waits for the others: any action is allowed and ignored, and may
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

    Minus the service delay, in seconds, of the task placed in this step; 0 if the agent had none.

    ## Starting State

    Empty queues. ``reset(seed=s)`` starts the first episode of the stream of s, ``reset()`` the next one of the same
    stream. Without any seed the stream is drawn from the operating system.

    ## Episode End

    Episodes are truncated, for all agents at once, after the scheduled slots or after ``max_cycles`` steps. They never
    terminate: the servers go on working, and the last observation shows the tasks of the slot that would follow.

    ## Infos

    ``action_mask`` always, as in the table. After a step in which the agent placed a task also ``server``,
    ``transfer_s``, ``wait_s``, ``compute_s``, ``return_s`` and their sum ``delay_s`` of that task.

    ## Version History

    * v0: The first version.

    ## Arguments

    Args:
        scenario: Name or path of a scenario, or a scenario.
        observation: ``"dict"`` or ``"vector"``.
        max_cycles: Most steps of an episode, no limit if None.
        render_mode: ``"ansi"`` returns a drawing of the queues from ``render()``; ``"human"`` prints it after every
            step.

    Raises:
        InputError: If the scenario is unknown, or an argument has no such value.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - the attribute and its type are PettingZoo's
        "name": "edgegen_offloading_v0",
        "render_modes": ["ansi", "human"],
        "is_parallelizable": True,
    }

    def __init__(
        self,
        scenario: str | Path | OffloadingScenario = "demo",
        observation: Literal["dict", "vector"] = "dict",
        max_cycles: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        checked_option("observation", observation, ("dict", "vector"))
        checked_option("render_mode", render_mode, (*self.metadata["render_modes"], None))
        self.scenario = as_scenario(scenario, OffloadingScenario)
        self.max_cycles = checked_max_cycles(max_cycles)
        self.render_mode = render_mode
        self.possible_agents = [f"edge_{b}" for b in range(self.scenario.servers)]
        self.agents: list[str] = []
        self._as_dict = observation == "dict"
        self._seeded = False
        self._simulator = OffloadingWorld(self.scenario)
        self.observation_spaces = {agent: self._make_observation_space() for agent in self.possible_agents}
        self.action_spaces: dict[str, spaces.Space[Any]] = {
            agent: spaces.Discrete(self.scenario.servers) for agent in self.possible_agents
        }
        self._cycles = 0
        self._begin_slot()

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Return the observation space of an agent, the same object on every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return the action space of an agent, the same object on every call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, AgentObservation], dict[str, dict[str, Any]]]:
        """Begin an episode: the first of the seed's stream, or the next one if no seed is given.

        Raises:
            InputError: If the seed is no whole number, or negative.
        """
        del options
        self._simulator.reset(seed=stream_seed(seed, self._seeded))
        self._seeded = True
        self._cycles = 0
        self.agents = list(self.possible_agents)
        self._begin_slot()
        if self.render_mode == "human":
            self.render()
        return self._observations(), {agent: {"action_mask": mask} for agent, mask in self._masks().items()}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, AgentObservation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Place the waiting task of every agent.

        Args:
            actions: Chosen server by agent; agents without a waiting task may be missing or choose anything.

        Returns:
            Observations, rewards, terminations, truncations and infos, each by agent.

        Raises:
            ValueError: If no episode is running.
            InputError: If an agent with a waiting task chose no existing server, or there is no such agent.
        """
        if not self.agents:
            raise ValueError("no episode is running; call reset()")
        waiting = self._with_task().nonzero()[0]
        server = torch.tensor(self._chosen_servers(waiting.tolist(), actions), dtype=torch.long)
        placed = self._place(torch.from_numpy(waiting), server)
        self._round += 1
        self._cycles += 1
        if self._round >= self._rounds:
            self._simulator.decide(self._server)
            self._begin_slot()
        over = self._simulator.done or (self.max_cycles is not None and self._cycles >= self.max_cycles)

        names = self.agents
        rewards = dict.fromkeys(names, 0.0)
        infos: dict[str, dict[str, Any]] = {agent: {"action_mask": mask} for agent, mask in self._masks().items()}
        for at, b in enumerate(waiting.tolist()):
            infos[names[b]] |= {"server": int(server[at])} | {part: float(value[at]) for part, value in placed.items()}
            rewards[names[b]] = -float(placed["delay_s"][at])
        observations = self._observations()
        self.agents = [] if over else list(names)
        if self.render_mode == "human":
            self.render()
        return observations, rewards, dict.fromkeys(names, False), dict.fromkeys(names, over), infos

    def render(self) -> str | None:
        """Draw the queues as text: returned in mode ``ansi``, printed in mode ``human``."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs a render_mode; make the environment with render_mode='ansi'.")
            return None
        slot = self._slot.truth
        queued = slot.backlog_gcycles[0].double() + self._placed.sum(0)
        wait_s = (queued / slot.capacity_gcycles_s[0]).tolist()
        scale = _BAR / max(*wait_s, self.scenario.slot_s)
        lines = [f"slot {self._slot.slot} of {self.scenario.slots}, round {self._round}"]
        for b, agent in enumerate(self.possible_agents):
            bar = "#" * round(wait_s[b] * scale)
            lines.append(
                f"{agent:>8} |{bar:<{_BAR}}| {wait_s[b]:8.2f} s wait at {float(slot.capacity_gcycles_s[0, b]):g} "
                f"Gcycle/s, {max(int(self._count[b]) - self._round, 0)} to place"
            )
        picture = "\n".join(lines) + "\n"
        if self.render_mode == "human":
            sys.stdout.write(picture)
            return None
        return picture

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _make_observation_space(self) -> spaces.Space[Any]:
        vector = vector_space(self.scenario)
        if not self._as_dict:
            return vector
        return spaces.Dict({"observation": vector, "action_mask": spaces.Box(0, 1, (self.scenario.servers,), np.int8)})

    def _begin_slot(self) -> None:
        servers = self.scenario.servers
        self._slot = self._simulator.observe()
        self._round = 0
        self._count = self._slot.tasks.present[0].sum(-1).numpy()  # [B]
        self._rounds = max(int(self._count.max()), 1)
        self._placed = torch.zeros(servers, servers, dtype=torch.float64)  # [agent, server], Gcycle
        self._server = torch.zeros_like(self._slot.tasks.present, dtype=torch.long)  # [1, B, N]

    def _with_task(self) -> np.ndarray:
        """Whether each agent has a task to place in this round; the others wait."""
        having: np.ndarray = self._count > self._round
        return having

    def _chosen_servers(self, having: list[int], actions: Any) -> list[int]:
        """Servers that the agents chose which have a task; what others sent is not looked at."""
        if not isinstance(actions, Mapping):
            raise InputError(f"actions is {shown(actions)}, but must be a dictionary from agents to servers.")
        for agent in actions:
            if agent not in self.action_spaces:
                last = self.possible_agents[-1]
                raise InputError(f"actions has an agent {shown(agent)}, but the agents are edge_0 … {last}.")
        servers = []
        for agent in (self.possible_agents[b] for b in having):
            if agent not in actions:
                raise InputError(f"{agent} has a waiting task but no action; choose a server for it.")
            servers.append(chosen(agent, actions[agent], self.scenario.servers, "a server"))
        return servers

    def _place(self, edge: torch.Tensor, server: torch.Tensor) -> dict[str, torch.Tensor]:
        """Place this round's tasks of the agents ``edge [M]``, in order of service; returns their delays by part."""
        slot, tasks = self._slot.truth, self._slot.tasks.at_index(self._round)
        workload = tasks.workload_gcycles[0, edge]
        ahead, _ = work_ahead(server, workload, self.scenario.servers)  # placed by agents before, in this round
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
        progress = self._simulator.progress
        if progress is not None:
            delays = until_done(delays, server, ahead, workload, progress)
        self._placed[edge, server] += workload
        self._server[0, edge, self._round] = server
        return {**vars(delays), "delay_s": delays.total_s}

    def _masks(self) -> dict[str, np.ndarray]:
        """Everything is allowed to everybody: whoever draws from a mask without a choice fails, or ends the episode."""
        return {agent: np.ones(self.scenario.servers, dtype=np.int8) for agent in self.possible_agents}

    def _observations(self) -> dict[str, AgentObservation]:
        having = self._with_task()
        tasks = self._slot.tasks.at_index(min(self._round, self._slot.tasks.present.shape[-1] - 1))
        task = torch.stack([tasks.size_mbit[0], tasks.workload_gcycles[0], tasks.result_mbit[0]], dim=1).numpy()
        slot = self._slot
        seen = (slot.backlog_gcycles, slot.capacity_gcycles_s, slot.rate_mbit_s, slot.age_slots)
        # [1, B] for all agents alike; rates may be [1, B, B], a row for each.
        backlog, capacity, rate, age = (np.broadcast_to(values[0].numpy(), (len(having),) * 2) for values in seen)
        left = np.maximum(self._count - self._round, 0)
        columns = [task * having[:, None], left[:, None], backlog, self._placed.numpy(), capacity, rate]
        if self.scenario.reports is not None:
            columns.append(age)
        vectors = np.concatenate(columns, axis=1, dtype=np.float32)  # [agent, 4 + 4B] or [agent, 4 + 5B]
        by_agent = dict(zip(self.possible_agents, vectors, strict=True))
        if not self._as_dict:
            return dict(by_agent)
        masks = self._masks()
        return {agent: {"observation": by_agent[agent], "action_mask": masks[agent]} for agent in by_agent}


def parallel_env(**kwargs: Any) -> OffloadingParallelEnv:
    """Make the parallel environment; arguments are those of :class:`OffloadingParallelEnv`."""
    return OffloadingParallelEnv(**kwargs)


def env(**kwargs: Any) -> AECEnv:
    """Make the environment in PettingZoo's agent-by-agent form (AEC)."""
    return parallel_to_aec(parallel_env(**kwargs))
