# SPDX-License-Identifier: Apache-2.0
"""The toy world, served: two edges, whose waits the dispatcher sees, and requests as the jobs that it places."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.core.world import Role
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.books import Server
from edgegen.serve.control.live_world import LiveWorld, Waiting
from edgegen.serve.kinds.registry import Clock, Served
from edgegen_toy.world import DISPATCHER, ROLE, ToyScenario, ToyView


class LiveToy(LiveWorld):
    """The dispatcher's view, from the books of the edges."""

    kind: ClassVar[str] = "toy"
    roles: ClassVar[Mapping[str, Role]] = {DISPATCHER: ROLE}

    def observe(self) -> ToyView:
        now, work = self.clock(), 0.0 if self.waiting is None else self.waiting.task.workload_gcycles
        backlog_s, speed = zip(
            *[(server.wait_s(now), server.capacity_gcycles_s) for server in self.servers], strict=True
        )
        return ToyView(self.round, torch.tensor([backlog_s]), torch.tensor([[work]]), torch.tensor([speed]))

    def asked(self, waiting: Waiting) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (1, 1, 1), (0, 0, 0)


def scenario(config: ServiceConfig, capacities_gcycles_s: tuple[float, ...]) -> ToyScenario:
    return build_scenario({"kind": "toy", "name": config.name, "speeds": capacities_gcycles_s}, ToyScenario)


def live(config: ServiceConfig, servers: Sequence[Server], policy: Policy, clock: Clock) -> LiveToy:
    return LiveToy(servers, config.slot_s, clock=clock)


SERVED = Served(live, scenario, kind="toy")
