# SPDX-License-Identifier: Apache-2.0
"""The agents of many copies of the offloading world at once: arrays with an axis of copies instead of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from edgegen.envs.core.agent_input import shown
from edgegen.envs.core.agent_views import Normaliser, with_identity
from edgegen.envs.core.batched import BatchedAgents, BatchedTold
from edgegen.envs.core.errors import InputError
from edgegen.envs.offloading.agents import vector_space
from edgegen.envs.offloading.physics import service_delay, until_done
from edgegen.envs.offloading.terms import Facts
from edgegen.envs.offloading.world import OffloadingWorld


class BatchedOffloadingAgents(BatchedAgents):
    """Edge servers of E copies, in lockstep: rounds, observations, actions and rewards of ``OffloadingAgents``.

    A slot has as many rounds as the copy with the most tasks at a server needs; in the others agents wait. Infos hold
    ``placed``, whether an agent had a task in the round, and ``delay_s`` of it, ``[E]`` each.

    Args:
        world: A world with E copies.
        normalise: Whether vectors are brought to [0, 1] by their bounds.
        identity: Whether they end with a one-hot of the agent.
    """

    def __init__(self, world: OffloadingWorld, normalise: bool = False, identity: bool = False) -> None:
        self.world = world
        servers = world.scenario.servers
        self.names = [f"edge_{b}" for b in range(servers)]
        space = vector_space(world.scenario)
        self._normaliser = Normaliser(space) if normalise else None
        space = space if self._normaliser is None else self._normaliser.space
        self._identity = np.eye(servers, dtype=np.float32) if identity else None
        space = with_identity(space, servers) if identity else space
        self.observation_spaces = dict.fromkeys(self.names, space)
        self.action_spaces = {agent: spaces.Discrete(servers) for agent in self.names}
        self._earlier = torch.ones(servers, servers).tril(-1)  # [agent, agents before it in a round]
        self.begin()

    def begin(self) -> None:
        """See :meth:`BatchedAgents.begin`; every slot begins like this."""
        scenario, copies = self.world.scenario, self.world.copies
        self._view = self.world.observe()
        self._truth = self._view.truth
        present = self._view.tasks.present
        self._count = present.sum(-1)  # [E, B]
        self._rounds: list[tuple[int, int | None]]
        if self._view.by_server:
            most = self._count.amax(0).tolist()
            self._rounds = [(n, b) for b in range(scenario.servers) for n in range(most[b])]
        else:
            self._rounds = [(n, None) for n in range(int(self._count.max()))]
        self._rounds = self._rounds or [(0, None)]
        self._at = 0
        self._placed = torch.zeros(copies, scenario.servers, scenario.servers, dtype=torch.float64)  # agent, server
        self._server = torch.zeros(present.shape, dtype=torch.long)
        wide = (copies, scenario.servers, scenario.servers)
        seen = [self._view.backlog_gcycles, self._view.capacity_gcycles_s, self._view.rate_mbit_s, self._view.age_slots]
        self._seen = [(part if part.dim() == 3 else part[:, None]).expand(wide) for part in seen]
        self._progress = self.world.progress

    @property
    def _waiting(self) -> Tensor:
        """Whether each agent has a task to place in this round ``[E, B]``."""
        index, server = self._rounds[self._at]
        having: Tensor = self._count > index
        if server is not None:
            having = having & (torch.arange(having.shape[1]) == server)
        return having

    def observations(self) -> NDArray[np.float32]:
        """See :meth:`BatchedAgents.observations`."""
        index, having = self._rounds[self._at][0], self._waiting
        tasks = self._view.tasks.at_index(min(index, self._view.tasks.present.shape[-1] - 1))
        task = torch.stack([tasks.size_mbit, tasks.workload_gcycles, tasks.result_mbit], dim=-1)
        left = (self._count - index).clamp_min(0) * having
        backlog, capacity, rate, age = self._seen
        columns = [task * having[..., None], left[..., None], backlog, self._placed, capacity, rate]
        if self.world.scenario.reports is not None:
            columns.append(age)
        vectors: NDArray[np.float32] = torch.cat([column.float() for column in columns], dim=-1).numpy()
        if self._normaliser is not None:
            vectors = self._normaliser(vectors)
        if self._identity is not None:
            own = np.broadcast_to(self._identity, (len(vectors), *self._identity.shape))
            vectors = np.concatenate([vectors, own], axis=-1)
        return vectors

    def checked(self, actions: Mapping[str, Any] | NDArray[Any]) -> NDArray[np.int64]:
        """See :meth:`BatchedAgents.checked`: servers ``[E, B]``."""
        shape = (self.world.copies, len(self.names))
        if isinstance(actions, Mapping):
            if set(actions) != set(self.names):
                raise InputError(f"actions must have an entry for each of {self.names[0]} … {self.names[-1]}.")
            actions = np.stack([np.asarray(actions[agent]) for agent in self.names], axis=-1)
        servers = np.asarray(actions)
        if servers.shape != shape or servers.dtype.kind not in "iu":
            raise InputError(
                f"actions are {shown(servers)}, but must be integers for {shape[0]} copies and {shape[1]} agents."
            )
        wrong = servers[(servers < 0) | (servers >= shape[1])]
        if wrong.size:
            raise InputError(f"an action is {int(wrong[0])}, but must be a server 0..{shape[1] - 1}.")
        return servers.astype(np.int64)

    def take(self, actions: NDArray[np.int64]) -> BatchedTold:
        """Place the waiting tasks of all agents and copies; when all of the slot are placed, the slot ends."""
        having, server = self._waiting, torch.from_numpy(actions)
        index = self._rounds[self._at][0]
        if having.any():
            reward, delay_s = self._place(index, having, server)
        else:
            reward = delay_s = torch.zeros(having.shape)
        self._at += 1
        if self._at >= len(self._rounds):
            self.world.decide(self._server)
            self.begin()
        return reward.numpy(), {"placed": having.numpy(), "delay_s": delay_s.numpy()}

    def _place(self, index: int, having: Tensor, server: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards and delays of this round's tasks ``[E, B]``; 0 where there is none."""
        truth, scenario = self._truth, self.world.scenario
        tasks = self._view.tasks.at_index(index)
        copies, servers = server.shape
        work = tasks.workload_gcycles.double() * having
        same = (server[:, :, None] == server[:, None, :]) & (self._earlier > 0)
        ahead = (same * work[:, None, :]).sum(-1)  # of agents before, in this round
        ahead = ahead + (truth.backlog_gcycles.double() + self._placed.sum(1)).gather(1, server)
        agent = torch.arange(servers).expand(copies, servers)
        rate = truth.rate_mbit_s
        rate = rate.gather(1, server) if rate.dim() == 2 else rate.gather(2, server[..., None])[..., 0]
        local, size = server == agent, tasks.size_mbit
        delays = service_delay(
            size,
            tasks.workload_gcycles,
            tasks.result_mbit,
            local,
            ahead.to(size.dtype),
            truth.capacity_gcycles_s.gather(1, server),
            rate,
        )
        if self._progress is not None:
            queue = torch.arange(copies)[:, None] * servers + server
            flat = type(delays)(*(part.flatten() for part in vars(delays).values()))
            flat = until_done(flat, queue.flatten(), ahead.flatten(), tasks.workload_gcycles.flatten(), self._progress)
            delays = type(delays)(*(part.view(copies, servers) for part in vars(flat).values()))
        cost = delays.total_s
        if self.world.objective is not None:
            now_s = self.world.state.slot * scenario.slot_s
            facts = Facts(server, local, size, tasks.workload_gcycles, tasks.result_mbit, delays, now_s)
            cost = self.world.objective.cost(facts)
        self._placed.scatter_add_(2, server[..., None], work[..., None])
        self._server[..., index] = torch.where(having, server, self._server[..., index])
        nothing = torch.zeros_like(cost)
        return torch.where(having, -cost, nothing), torch.where(having, delays.total_s, nothing)
