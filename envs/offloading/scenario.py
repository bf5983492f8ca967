# SPDX-License-Identifier: Apache-2.0
"""Offloading scenarios: what the edge servers are and what work arrives, as frozen, validated data.

A scenario is a YAML file, either shipped in ``envs/scenarios/`` and named by its stem (``ladts-paper``) or any path;
see :mod:`edgegen.envs.core.scenario_files`.

Symbols in brackets are those of the LAD-TS system model (arXiv 2412.18212 as reconstructed from the authors' code).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer, model_validator

from edgegen.envs.core.fields import MOST_CELLS, SINGLE_MAX, Count, Positive
from edgegen.envs.core.links import check_rows, form_of
from edgegen.envs.core.objectives import JudgedScenario
from edgegen.envs.offloading.demands import MOST_TASKS, Demand, IntegerRange, Quantity
from edgegen.envs.offloading.servers import MOST_SERVERS, Outages, Reports, ServerSets
from edgegen.envs.offloading.terms import KIND as TERMS_KIND
from edgegen.envs.offloading.traffic import Traffic, most_tasks

SERVER_FIELDS = ("capacity_gcycles_s", "rate_mbit_s")
"""Fields that are given, or drawn by ``server_sets``."""
MOST_DEMANDS = 1_000
"""Most demands that episodes may differ in."""
WORK_ELEMENTS = 2**22
"""Most elements of an array while the expected work is computed."""
SAME_DRAW = 1e-9
"""Processors may differ by less in values of the same draw; relative."""


PerServer = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=MOST_SERVERS)]
Rates = Annotated[
    Annotated[tuple[Positive, ...], Tag("(plain)")] | Annotated[tuple[PerServer, ...], Tag("(per link)")],
    Discriminator(form_of),
]


class OffloadingScenario(JudgedScenario):
    """A set of edge servers and the work that reaches them.

    Every server is also an agent: it places the tasks of its own users on one of the servers.

    Plain data (``model_dump``) of a scenario with ``server_sets`` says how its servers are drawn, and not which were:
    an override may change the draw, and another kind of processor draws values that differ in their last bits.

    Attributes:
        slot_s: Slot length [Δ], s.
        slots: Scheduled slots per episode [T−1]. One more slot of arrivals is drawn, it only supplies a next state.
        capacity_gcycles_s: Computing capacity of each server [f_b], Gcycle/s.
        rate_mbit_s: Transmission rate towards each server [v_b], Mbit/s; or a row per origin with a rate towards each
            destination.
        server_sets: Draw the servers instead of naming capacities and rates.
        service_order: In what order the tasks of a slot are served: all first tasks, then all second tasks, and so on
            (``by_index``), or all of server 0's, then all of server 1's (``by_server``), as the published code has it.
        tasks_per_slot: Tasks per server and slot [N_{b,t}], discrete uniform, independent.
        traffic: Bursts, time of day, hot spots, a recording: factors on the number of tasks.
        outages: Servers that slow down or fail.
        reports: Backlogs and capacities that are heard of late or not at all.
        size_mbit: Input size [d_n], Mbit.
        cycles_per_step_gcycles: Work of one denoising step [ρ_n], Gcycle.
        steps: Denoising steps the request asks for [z_n].
        result_mbit: Size of the generated picture [r_n], Mbit.
        demands: What users ask for instead in an episode, one of these, each as likely as the others; ``server_sets``
            that are drawn per episode are scaled to the work of its own.
    """

    files: ClassVar[tuple[str, ...]] = ("traffic.recorded",)
    judged_as: ClassVar[str] = TERMS_KIND

    kind: Literal["offloading"] = "offloading"
    slot_s: Positive = 1.0
    slots: Annotated[Count, Field(le=100_000)]
    capacity_gcycles_s: PerServer = ()
    rate_mbit_s: Rates = ()
    server_sets: ServerSets | None = None
    service_order: Literal["by_index", "by_server"] = "by_index"
    tasks_per_slot: IntegerRange
    traffic: Traffic = Traffic()
    outages: Outages | None = None
    reports: Reports | None = None
    size_mbit: Quantity
    cycles_per_step_gcycles: Quantity
    steps: Quantity
    result_mbit: Quantity
    demands: Annotated[tuple[Demand, ...], Field(max_length=MOST_DEMANDS)] = ()

    @model_validator(mode="before")
    @classmethod
    def _servers_are_given(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("server_sets") is None:
            for name in SERVER_FIELDS:
                if name not in data:
                    raise ValueError(f"the field '{name}' is missing; give it, or server_sets")
        return data

    @model_validator(mode="after")
    def _servers_are_known(self) -> Self:
        for member in self.members:
            member.traffic.check(self.servers)
            member._check_tasks()
        self._check_size()
        if self.server_sets is not None:
            self._draw_the_set(self.server_sets)
        if len(self.rate_mbit_s) != len(self.capacity_gcycles_s):
            raise ValueError(
                f"rate_mbit_s has {len(self.rate_mbit_s)} entries and capacity_gcycles_s has "
                f"{len(self.capacity_gcycles_s)}; both need one per server"
            )
        check_rows("rate_mbit_s", self.rate_mbit_s, self.servers, "server")
        self._check_delays()
        return self

    def _check_tasks(self) -> None:
        """Refuse more tasks than a server may get."""
        if self.max_tasks > MOST_TASKS:
            raise ValueError(
                f"tasks_per_slot.high is {self.tasks_per_slot.high} and traffic has up to "
                f"{self.traffic.highest(self.servers):.6g} times as many, but a server may get at most {MOST_TASKS} "
                "tasks in a slot"
            )

    def _check_size(self) -> None:
        """Refuse episodes that no memory holds, before anything of that size is made."""
        if self.demands and self.steps.drawn != "per_task":
            raise ValueError("steps must be drawn per_task where there are demands")
        if self.cells_of_an_episode > MOST_CELLS:
            raise ValueError(
                f"slots ({self.slots} and one more), servers ({self.servers}) and the most tasks of a server and slot "
                f"({self.max_tasks}) make {self.cells_of_an_episode} places for tasks in an episode, but at most "
                f"{MOST_CELLS} are allowed"
            )

    def _check_delays(self) -> None:
        """Refuse capacities and delays that single precision does not hold."""
        least, most, rate = min(self.capacity_gcycles_s), max(self.capacity_gcycles_s), float(np.min(self.rate_mbit_s))
        if self.server_sets is not None and self.server_sets.drawn == "per_episode":
            drawn = [self.server_sets.extremes(member.work_gcycles_s) for member in self.members]
            least, most, rate = min(d[0] for d in drawn), max(d[1] for d in drawn), drawn[0][2]
        work = self.max_workload_gcycles * (self.slots + 1) * self.servers * self.max_tasks
        delay_s = work / least + (self.size_mbit.high + self.result_mbit.high) / rate
        if least < 1 / SINGLE_MAX or max(most, work, delay_s) > SINGLE_MAX:
            raise ValueError(
                f"up to {work:.3g} Gcycle in an episode, for servers with {least:.3g} to {most:.3g} Gcycle/s, could "
                f"take {delay_s:.3g} s, but all of these must be at most {SINGLE_MAX:g}, and capacities at least "
                f"{1 / SINGLE_MAX:g}; look at capacity_gcycles_s, rate_mbit_s, cycles_per_step_gcycles and steps"
            )

    def _draw_the_set(self, sets: ServerSets) -> None:
        """Fill in the set that the seed gives."""
        capacity, rate = sets.draw(np.random.default_rng(sets.seed), self.work_gcycles_s)
        for name, values in zip(SERVER_FIELDS, (capacity, rate), strict=True):
            drawn = tuple(tuple(row) if isinstance(row, list) else row for row in values.tolist())
            given = getattr(self, name)
            if given and (np.shape(given) != values.shape or not np.allclose(given, values, rtol=SAME_DRAW)):
                raise ValueError(f"{name} is drawn by server_sets, so it can not be given too")
            object.__setattr__(self, name, drawn)  # the one place that fills a frozen model

    @model_serializer(mode="wrap")
    def _without_what_is_drawn(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = self._given(dump(self))
        if self.server_sets is not None:
            for name in SERVER_FIELDS:
                data.pop(name, None)
        if not self.demands:
            data.pop("demands", None)
        return data

    @property
    def powered(self) -> tuple[int, str]:
        """See :attr:`JudgedScenario.powered`."""
        return self.servers, "server"

    @property
    def members(self) -> tuple[OffloadingScenario, ...]:
        """What an episode may be, each as likely as the others: one scenario for each demand, or this one alone."""
        if not self.demands:
            return (self,)
        return tuple(self.model_copy(update={**demand.given, "demands": ()}) for demand in self.demands)

    @property
    def servers(self) -> int:
        """Number of servers B, also the number of agents and of actions."""
        return self.server_sets.servers if self.server_sets is not None else len(self.capacity_gcycles_s)

    @property
    def max_tasks(self) -> int:
        """Most tasks one server can receive in a slot, the padded length of the task axis."""
        if self.demands:
            return max(member.max_tasks for member in self.members)
        high = self.tasks_per_slot.high
        return high if self.traffic.plain else most_tasks(high, self.traffic.highest(self.servers))

    @property
    def cells_of_an_episode(self) -> int:
        """Entries of the largest array of an episode: places for tasks."""
        return (self.slots + 1) * self.servers * self.max_tasks

    @property
    def remedy_without_tasks(self) -> str:
        """What to change where an episode may have no tasks at all."""
        recorded = self.traffic.recorded
        silence = recorded.longest_silence(self.servers) if recorded is not None else 0
        if recorded is not None and silence >= self.slots:
            return (
                f"windows of {self.slots} slots of the recording '{recorded.source}' can be without tasks, because up "
                f"to {silence} slots in a row are; give the scenario more slots than that, or take a recording with "
                "less silence"
            )
        return "give the scenario more slots or raise tasks_per_slot"

    @property
    def max_workload_gcycles(self) -> float:
        """Largest workload a task can have."""
        return self.cycles_per_step_gcycles.high * max(member.steps.high for member in self.members)

    @property
    def load(self) -> float:
        """Offered load: expected work arriving per second over the summed capacity; above 1 the queues grow.

        Capacity that outages take away does not count.
        """
        there = 1.0 if self.outages is None else self.outages.mean_factor
        return self.work_gcycles_s / (sum(self.capacity_gcycles_s) * there)

    @property
    def work_gcycles_s(self) -> float:
        """Expected work that arrives at all servers per second, Gcycle/s."""
        return self.servers * float(self.work_by_index_gcycles.sum()) / self.slot_s

    @property
    def work_by_index_gcycles(self) -> np.ndarray:
        """Expected work of the n-th task of a server and slot, 0 where there is none, float64 ``[N]``, Gcycle."""
        if self.demands:
            work = np.zeros(self.max_tasks)
            for member in self.members:
                work[: member.max_tasks] += member.work_by_index_gcycles / len(self.demands)
            return work
        count = np.arange(self.tasks_per_slot.low, self.tasks_per_slot.high + 1)
        factor, share = self.traffic.distribution(self.servers)
        # P(N_{b,t} > n): counts are multiplied and rounded up or down at random, see traffic.modulated. So c·r tasks
        # are ⌊c·r⌋ for certain and one more with the probability that is left. In parts, because a recording may have
        # thousands of factors.
        parts = -(-factor.size * count.size // WORK_ELEMENTS)
        certain, left = np.zeros(self.max_tasks + 1), np.zeros(self.max_tasks + 1)
        for some, its_share in zip(np.array_split(factor, parts), np.array_split(share, parts), strict=True):
            tasks = (count * some[:, None]).ravel().clip(max=self.max_tasks)
            weight = np.repeat(its_share / count.size, count.size)
            whole = tasks.astype(np.int64)
            certain += np.bincount(whole, weight, certain.size)
            left += np.bincount(whole, weight * (tasks - whole), left.size)
        exists = certain[::-1].cumsum()[::-1][1:] + left[:-1]
        of_a_task = self._mean_by_index(self.cycles_per_step_gcycles) * self._mean_by_index(self.steps)
        expected: np.ndarray = exists * of_a_task
        return expected

    def _mean_by_index(self, quantity: Quantity) -> np.ndarray:
        if quantity.drawn == "per_index":
            return quantity.by_index(self.max_tasks)
        return np.full(self.max_tasks, quantity.mean)
