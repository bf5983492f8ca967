# SPDX-License-Identifier: Apache-2.0
"""The fleet kind, served: cachers once a frame, a router for every request, and allocators at the edges.

A policy sees what it sees in the simulator. Edges are the sites, in their order in the config, and the one that is the
cloud comes last; a Gcycle is a second of work at speed 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.world import Role
from edgegen.envs.fleet.books import Fixed, fixed_of
from edgegen.envs.fleet.curves import GRADES, grades_of
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.view import CACHER, ROUTER, CacherView, RouterView
from edgegen.envs.fleet.world import FleetWorld
from edgegen.serve.config import ServiceConfig
from edgegen.serve.control.books import Server
from edgegen.serve.control.ledger import Floats, Ledger
from edgegen.serve.control.live_world import Kept, LiveWorld, Task, Waiting, Wish
from edgegen.serve.kinds.fleet_scenario import scenario, training
from edgegen.serve.kinds.fleet_steps import FleetSteps
from edgegen.serve.kinds.registry import Clock, Served, scenario_of

FAR_S = 1e6
"""Way to an edge that can not take a request, s: no policy that looks at ways goes there."""


class LiveFleet(LiveWorld):
    """One copy of the fleet world, made of the ledger of real edges.

    An edge that can not take the request, because it is lost, full, busy for too long or may not hold the model, is
    shown at the end of a way of :data:`FAR_S`; one that is lost besides with pace 0, as the simulator shows a failed
    one. A decision for the cloud of a service that has none is impossible.

    Args:
        ledger: What is known of the edges.
        world: The service as a scenario: ways, prices, and what the models need.
        slot_s: Length of a slot, s.
        promise_s: Promised delay of requests that say nothing of it, s.
        clock: Monotonic time, s.
    """

    kind: ClassVar[str] = FleetWorld.kind
    roles: ClassVar[Mapping[str, Role]] = FleetWorld.roles

    def __init__(
        self,
        ledger: Ledger,
        world: FleetScenario,
        slot_s: float = 1.0,
        *,
        promise_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger, self.fixed = ledger, fixed_of(world)
        self._rows = np.array([server.row for server in ledger.servers if not server.cloud])
        self._cloud = next((server for server in ledger.servers if server.cloud), None)
        sites = [ledger.servers[row] for row in self._rows]
        rates = np.array([server.rate_mbit_s for server in sites])
        self._ways = Ways(self.fixed, world, rates)
        self._nothing = Task(ledger.models[0], sites[0].name, 0.0, 0.0, 0.0, deadline_s=promise_s)
        super().__init__([*sites, *([self._cloud] if self._cloud else [])], slot_s, clock=clock)

    @property
    def role(self) -> str:
        """See :attr:`LiveWorld.role`."""
        return ROUTER

    @property
    def cacher(self) -> str:
        """See :attr:`LiveWorld.cacher`."""
        return CACHER

    def observe(self) -> RouterView | CacherView:
        """Return what cachers see when a frame has begun, else what the router sees.

        While no request waits, it is the view of one that is not due.
        """
        return self._cacher_view() if self.turn == CACHER else self._router_view()

    def asked(self, waiting: Waiting) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape ``[1, 1]`` of the router's decision, and its only place."""
        del waiting
        return (self.copies, 1), (0, 0)

    def keep(self, action: Tensor) -> Kept:
        """Take what every site is to keep ``[1, S, M]``, less what an edge may not hold or has no room for."""
        shape = (self.copies, len(self._rows), len(self.ledger.models))
        if tuple(action.shape) != shape:
            raise ValueError(f"what is kept has shape {tuple(action.shape)}, expected {shape}")
        values = action.detach().cpu().numpy()[0]
        if values.dtype != np.bool_ and not np.isin(values, (0, 1)).all():
            raise ValueError("what is kept must be 0 or 1")
        ledger, wishes = self.ledger, {}
        for row, wanted in zip(self._rows, values.astype(np.bool_), strict=True):
            ledger.keep(row, wanted)
            models = [ledger.models[column] for column in np.flatnonzero(ledger.wanted[row])]
            scores = {model: float(ledger.demand[row, ledger.columns[model]]) for model in ledger.models}
            wishes[ledger.servers[row].name] = Wish(tuple(models), scores)
        return Kept(wishes)

    def _router_view(self) -> RouterView:
        waiting, ledger, fixed, rows, now = self.waiting, self.ledger, self.fixed, self._rows, self.clock()
        task = self._nothing if waiting is None else waiting.task
        home, model, sites = 0 if waiting is None else waiting.row, ledger.columns[task.model], len(rows)
        full = float(task.steps)
        least = full if task.least_steps is None else min(float(task.least_steps), full)
        least_s, full_s = (task.pictures * (fixed.fixed_s[model] + x * fixed.step_s[model]) for x in (least, full))
        resident = ledger.resident[rows, model]
        # The cloud's column is the last one: no queue, and everything is there.
        backlog_s, load_s, price, work_price = np.zeros((4, sites + 1))
        backlog_s[:-1] = ledger.backlog_s(now)[rows]
        load_s[:-1] = np.where(resident, 0.0, ledger.load_s[rows, model])
        speed, pace = np.append(ledger.capacity_gcycles_s[rows], fixed.speed[-1]), np.ones(sites + 1)
        if self._cloud is not None:
            speed[-1] = ledger.capacity_gcycles_s[self._cloud.row]
        pace[:-1] = ledger.healthy[rows]
        price[:-1] = fixed.hop_price
        price[home], price[-1] = 0.0, fixed.cloud_price
        work_price[-1] = fixed.cloud_work_price * speed[-1]
        network_s = self._ways.network_s(home, task.size_mbit, task.result_mbit)
        if waiting is not None:
            network_s[self._closed(waiting.open_servers)] = FAR_S
        grades = np.empty(GRADES)
        grades_of(fixed, model, least, full, grades)
        demand, weight = ledger.demand[rows].sum(0), task.weight
        healthy = ledger.healthy[rows]
        age_s = now - ledger.heard_at[rows][healthy].min() if healthy.any() else 0.0
        slack_s = task.deadline_s - backlog_s - load_s - network_s - least_s / speed
        of_request = (
            *(waiting is not None, home, model, float(task.pictures), weight, task.deadline_s),
            *(grades[0], grades[-1], grades, fixed.refuse_price * weight, age_s),
            *(demand[model] / max(demand.sum(), 1e-12), float(ledger.resident[rows].sum(0)[model])),
        )
        of_sites = (
            *(backlog_s, load_s, full_s / speed, least_s / speed, network_s, slack_s, price, speed, pace, work_price),
            np.append(resident, True),
        )
        return RouterView(*(torch.from_numpy(np.asarray(values)[None]) for values in (*of_request, *of_sites)))

    def _closed(self, open_servers: Sequence[Server]) -> np.ndarray:
        """Sites that can not take a request, and the cloud if it can not ``[S + 1]``, bool."""
        closed = np.ones(len(self.ledger.servers), dtype=np.bool_)
        closed[[server.row for server in open_servers]] = False
        return np.append(closed[self._rows], closed[self._cloud.row] if self._cloud else False)

    def _cacher_view(self) -> CacherView:
        ledger, fixed, rows = self.ledger, self.fixed, self._rows
        resident = ledger.resident[rows]
        work_s = fixed.fixed_s + fixed.full_steps * fixed.step_s
        replicas = resident.sum(0, dtype=np.float64)
        shape = resident.shape
        per_model = (np.broadcast_to(values, shape) for values in (fixed.size_gb, ledger.load_s[rows], work_s))
        wide = (np.ones(shape) * ledger.capacity_gcycles_s[rows, None], np.broadcast_to(replicas, shape))
        per_site = (ledger.memory_gb[rows], ledger.capacity_gcycles_s[rows], ledger.backlog_s(self.clock())[rows])
        columns = (ledger.demand[rows], resident, *per_model, *wide, *per_site)
        return CacherView(*(torch.tensor(values[None]) for values in columns))


class Ways:
    """Times of the ways between edges.

    Args:
        fixed: Of the cloud's way.
        world: Of the time of a hop.
        rate_mbit_s: Rate towards each site ``[S]``, Mbit/s.
    """

    def __init__(self, fixed: Fixed, world: FleetScenario, rate_mbit_s: Floats) -> None:
        assert isinstance(world.hop_s, float)
        self._cloud_s, self._hop_s, self._rate_mbit_s = fixed.cloud_s, world.hop_s, rate_mbit_s

    def network_s(self, home: int, size_mbit: float, result_mbit: float) -> Floats:
        """Time from a home to each site and, last, to the cloud, and back ``[S + 1]``, s."""
        there_s = self._hop_s + size_mbit / self._rate_mbit_s
        there_s[home] = 0.0
        return np.append(result_mbit / self._rate_mbit_s + there_s, self._cloud_s)


def live_world(config: ServiceConfig, servers: Sequence[Server], policy: Policy, clock: Clock) -> LiveFleet:
    """Make the live world that the router and the cachers of a service decide in."""
    del policy
    ledger = servers[0].ledger
    assert ledger is not None
    return LiveFleet(ledger, scenario_of(config, kind="fleet"), config.slot_s, promise_s=config.promise_s, clock=clock)


SERVED = Served(world=live_world, scenario=scenario, training=training, usual="price-greedy", steps=FleetSteps)
"""The entry for :mod:`edgegen.serve.kinds.registry`."""
