# SPDX-License-Identifier: Apache-2.0
"""A rule of the fleet as a policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.algorithms.rules import fleet_kernel as kernel
from edgegen.algorithms.rules.fleet_constants import Rule
from edgegen.envs.core.world import World
from edgegen.envs.fleet.scenario import Floats
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER, AllocatorView, CacherView, RouterView, seen_in


class FleetRule(Policy):
    """A rule for all three roles, by the compiled functions that also play whole episodes.

    Args:
        name: Its name.
        rule: The rule.
        information: What it knows.
        seed: Not used: what is drawn belongs to the requests.
    """

    roles = frozenset({CACHER, ROUTER, ALLOCATOR})

    def __init__(self, name: str, rule: Rule, information: str, seed: int = 0) -> None:
        super().__init__(seed)
        self.name, self.rule, self.information = name, rule, information

    def play_through(self, world: World, meter: Any) -> bool:
        """See :meth:`Policy.play_through`."""
        requests, books, results = kernel.play_drawn(world.scenario, self.rule, world.future)
        meter.take(requests, results, books.loads)
        return True

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`."""
        if role == CACHER:
            return self._keep(view), memory
        if role == ROUTER:
            return self._route(view, seen_in(view)), memory
        return self._steps(view, _array(view.mean_backlog_s)), memory

    def _keep(self, view: CacherView) -> Tensor:
        demand, resident = _array(view.demand), _array(view.resident).astype(np.uint8)
        wanted = np.zeros_like(resident)
        size_gb, work_s = (_array(values)[:, 0] for values in (view.size_gb, view.work_s))
        columns = (view.load_s, view.memory_gb, view.speed, view.backlog_s)
        load_s, memory_gb, speed, backlog_s = (_array(values) for values in columns)
        kernel.plan_all(self.rule, demand, resident, size_gb, load_s, work_s, memory_gb, speed, backlog_s, wanted)
        return torch.from_numpy(wanted.astype(np.bool_)).to(view.demand.device)

    def _route(self, view: RouterView, seen: Floats) -> Tensor:
        columns = (view.home, view.weight, view.least_quality, view.full_quality, view.age_s, view.due)
        home, weight, least, full, age_s, due = (_array(values) for values in columns)
        site = np.zeros(len(seen), dtype=np.int64)
        kernel.route_all(self.rule, seen, home, weight, least, full, age_s, due, site)
        return torch.from_numpy(site[:, None]).to(view.due.device)

    def _steps(self, view: AllocatorView, mean_s: Floats) -> Tensor:
        slack_s, room_s, backlog_s = (
            _array(values) for values in (view.slack_s, view.full_s - view.least_s, view.backlog_s)
        )
        columns = (view.in_cloud, view.weight, view.least_quality, view.full_quality, view.work_price)
        cloud, weight, least, full, price = (_array(values) for values in columns)
        share = np.zeros(len(slack_s))
        kernel.share_all(self.rule, slack_s, room_s, backlog_s, mean_s, cloud, weight, least, full, price, share)
        return torch.from_numpy(share.reshape(-1, 1, 1, 1)).to(view.due.device)


class InformedRule(FleetRule):
    """A rule whose homes see the true backlogs of all sites, in the books of the world that is played."""

    def prepare(self, world: World) -> Memory:
        """Look into the books of this world from now on."""
        self._world: Any = world
        return {}

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[Tensor, Memory]:
        """See :meth:`Policy.act`; what the mean backlog was when a request was routed is remembered for its steps."""
        if role == ROUTER:
            seen, mean_s = seen_in(view), np.zeros(len(view.due))
            kernel.know_all(self._world.future, self._world.books, _array(view.due), seen, mean_s)
            return self._route(view, seen), {**memory, "mean_backlog_s": torch.from_numpy(mean_s)}
        if role == ALLOCATOR:
            return self._steps(view, _array(memory["mean_backlog_s"])), memory
        return super().act(role, view, memory, explore)


def _array(values: Tensor) -> Any:
    return values.detach().cpu().numpy()
