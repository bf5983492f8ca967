# SPDX-License-Identifier: Apache-2.0
"""The live world shows what the simulator shows: both live through the same history, and every view is compared."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from edgegen.algorithms.core.play import play
from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading import world as simulators
from edgegen.envs.offloading.draws import LEAST_SEEN, draw_episodes
from edgegen.envs.offloading.view import ROUTER, RouterView
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeReport
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Scheduler
from edgegen.serve.control.seat import Seat
from edgegen.serve.control.slots import Slots
from edgegen.serve.kinds.offloading import LiveOffloading

BEGUN_S = 1024.0
SEED = 5
ONE_ROUNDING = 2**-23
"""Relative distance of neighbouring numbers in single precision."""
BINARY = {
    "slots": 60,
    "server_sets": None,
    "slot_s": 0.5,
    "capacity_gcycles_s": [2.5, 1.5, 1.25, 0.75],
    "rate_mbit_s": [512.0, 450.0, 480.0, 400.0],
    "tasks_per_slot": {"low": 1, "high": 1},
    "cycles_per_step_gcycles": {"low": 0.25, "high": 0.25},
}
"""Work, capacities and slots that are exact in binary, so that sums are the same in whatever order and precision."""
DECIMAL = {
    **BINARY,
    "capacity_gcycles_s": [2.3, 1.7, 1.1, 0.9],
    "cycles_per_step_gcycles": {"low": 0.1, "high": 0.4},
}
FAILING = {"outages": {"factor": 0, "mean_up_slots": 12, "mean_down_slots": 4}}


@pytest.fixture(autouse=True)
def _one_task_in_a_slot(monkeypatch):
    """Let the simulator's tasks come one in a slot, at any of the servers: live requests are placed one by one."""

    def draw(scenario, seed, episodes, *rest):
        tasks = draw_episodes(scenario, seed, episodes, *rest)
        _, slots, servers, _ = tasks.present.shape
        home = torch.randint(servers, (slots,), generator=torch.Generator().manual_seed(seed))
        return replace(tasks, present=torch.nn.functional.one_hot(home, servers).bool()[None, :, :, None])

    monkeypatch.setattr(simulators, "draw_episodes", draw)


class Clock:
    def __init__(self):
        self.now = BEGUN_S

    def __call__(self):
        return self.now


class EdgeInStep:
    """An edge that does its jobs as the simulator drains a queue: in order, and a slot at a time."""

    def __init__(self, name, capacity):
        self.name, self.capacity = name, capacity
        self.jobs = {}

    def work(self, seconds):
        """Return the jobs that are finished by the end."""
        budget, finished = self.capacity * seconds, []
        for job, left in list(self.jobs.items()):
            done = min(left, budget)
            budget -= done
            self.jobs[job] = left - done
            if done == left:
                del self.jobs[job]
                finished.append(job)
        return finished

    def report(self):
        return EdgeReport(self.name, 1, tuple(self.jobs.items()), 0, 0.0, self.capacity, 0.1, 0, None)


class Both:
    """A simulator and a live world, to be led through the same history.

    Args:
        scenario: Of the simulator.
        dtype: Number format of the simulator.
    """

    def __init__(self, scenario, dtype=torch.float32):
        self.clock, self.slot_s = Clock(), scenario.slot_s
        self.simulator = OffloadingWorld(scenario, dtype=dtype)
        self.simulator.reset(SEED)
        rates = self.simulator.rate_mbit_s[0].tolist()
        capacities = self.simulator.capacity_gcycles_s[0].tolist()
        self.edges = [EdgeInStep(f"edge-{number}", capacity) for number, capacity in enumerate(capacities)]
        # Nominal capacities differ from those reported; the books must follow the reports.
        self.books = [Server(edge.name, ("m",), rate, 1.0, 99) for edge, rate in zip(self.edges, rates, strict=True)]
        self.live = LiveOffloading(self.books, scenario.slot_s, clock=self.clock)

    def failed(self):
        """Servers that the simulator shows as failed in this slot."""
        if self.simulator._share is None:
            return [False] * len(self.edges)
        return (self.simulator._share[0, self.simulator.state.slot] == 0).tolist()

    def hear(self):
        """Begin a slot: every edge reports; those that have failed are lost right after."""
        self.clock.now = BEGUN_S + self.simulator.state.slot * self.slot_s
        for edge, server, failed in zip(self.edges, self.books, self.failed(), strict=True):
            server.hear(edge.report(), self.clock())
            if failed:
                server.lose("process died")

    def arriving(self):
        """The task of this slot and its place in the simulator's view."""
        tasks = self.simulator.observe().tasks
        cell = tuple(tasks.present.nonzero()[0].tolist())
        work, size, result = (
            float(values[cell]) for values in (tasks.workload_gcycles, tasks.size_mbit, tasks.result_mbit)
        )
        return Task("m", self.edges[cell[1]].name, work, size, result), cell

    def arrive(self):
        task, cell = self.arriving()
        self.live.arrive(task, [server for server in self.books if server.healthy])
        return task, cell

    def work(self):
        """End the slot: edges that have not failed work, and what they have finished leaves the books."""
        slot_end = self.clock() + self.slot_s
        for edge, server, failed in zip(self.edges, self.books, self.failed(), strict=True):
            for job in [] if failed else edge.work(self.slot_s):
                server.drop(job, slot_end)

    def admit(self, server, job, work):
        """Put a task on an edge and into its books."""
        self.books[server].admit(job, work, self.clock())
        self.edges[server].jobs[job] = work


def visible(view):
    """All tensors of a view by name; of tasks that do not exist nothing is visible, and None says that all can."""
    named = {field.name for field in fields(RouterView)} - {"tasks", "objective"}  # these scenarios name no objective
    assert view.objective is None
    seen = {name: getattr(view, name) for name in named}
    seen |= {name: values * view.tasks.present for name, values in vars(view.tasks).items()}
    seen |= {"age_slots": view.age_slots, "slot": torch.tensor(view.slot)}
    seen["by_server"] = torch.tensor(view.by_server)
    if seen["available"] is None:
        seen["available"] = torch.ones_like(view.backlog_gcycles, dtype=torch.bool)
    return seen


def assert_same(live, simulated, relative=0.0, absolute=0.0):
    live, simulated = visible(live), visible(simulated)
    assert live.keys() == simulated.keys()
    for name, values in live.items():
        # Books count in double precision and views are single; a simulator in double precision is rounded likewise.
        expected = simulated[name].to(values.dtype)
        assert values.shape == expected.shape, name
        if relative or absolute:
            assert torch.allclose(values, expected, rtol=relative, atol=absolute), name
        else:
            assert torch.equal(values, expected), (name, values, expected)


def make_policy(name, scenario):
    if name != "set":
        return make_rule(name, seed=3)
    torch.manual_seed(0)
    actor = router_for(scenario, METHOD.make_settings("set", {"hidden": 16})).actor()
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # so that it has opinions, and not those of the rule it starts from
    return LADTSPolicy(actor, seed=3)


def lead(both, scenario, name, explore, same, told=True):
    """Let a policy decide in both worlds, and compare what they show and what it decides.

    Args:
        both: The worlds, at the beginning.
        scenario: Of the simulator.
        name: Of the policy.
        explore: Whether it samples.
        same: Compares a live and a simulated view.
        told: Whether it is told in the live world which servers are available.

    Returns:
        The servers that were chosen.
    """
    policies = {world: make_policy(name, scenario) for world in (both.live, both.simulator)}
    memories, chosen = dict[Any, Any].fromkeys(policies), list[Any]()
    while not both.simulator.done:
        both.hear()
        task, cell = both.arrive()
        views, actions = {}, {}
        for world, policy in policies.items():
            assert world.turn == ROUTER
            views[world] = view = world.observe() if told else replace(world.observe(), available=None)
            if memories[world] is None:
                memories[world] = policy.prepare(world) | policy.begin(ROUTER, view)
            with torch.inference_mode():
                actions[world], memories[world] = policy.act(ROUTER, view, memories[world], explore)
        same(views[both.live], views[both.simulator])
        server = int(actions[both.live][cell])
        assert int(actions[both.simulator][cell]) == server
        assert both.live.decide(actions[both.live]).server == both.edges[server].name
        assert both.live.turn is None
        both.admit(server, f"job-{len(chosen)}", task.workload_gcycles)
        both.work()
        both.simulator.decide(actions[both.simulator])
        chosen.append(server)
    return chosen


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("name", ["least-delay", "round-robin", "power-of-two", "set"])
def test_the_live_world_shows_bit_by_bit_what_the_simulator_shows(name, explore):
    scenario = load_scenario("stable", BINARY)
    both = Both(scenario)
    waits = []

    def same(live, simulated):
        waits.append(float(simulated.backlog_gcycles.sum()))
        assert_same(live, simulated)

    chosen = lead(both, scenario, name, explore, same)
    assert len(chosen) == scenario.slots
    assert len(set(chosen)) > 1
    assert max(waits) > 2  # queues there were
    assert both.live.round == scenario.slots - 1
    assert both.live.roles is both.simulator.roles
    assert (both.live.kind, both.live.copies, both.live.future) == ("offloading", 1, None)


@pytest.mark.parametrize("name", ["least-delay", "set"])
def test_what_is_not_exact_in_binary_differs_by_roundings_only(name):
    scenario = load_scenario("stable", DECIMAL)
    if name == "set":
        # Its weights are in single precision, and so is its simulator, which rounds every slot's backlog to that.
        both, relative, absolute = Both(scenario), 1e-5, 1e-5
    else:
        # The same numbers in another order: the last bit of the view may differ. Where the one queue is empty, the
        # other may have the rest of a subtraction.
        both, relative, absolute = Both(scenario, torch.float64), ONE_ROUNDING, 1e-12
    lead(both, scenario, name, False, lambda live, simulated: assert_same(live, simulated, relative, absolute))


def test_the_scheduler_decides_as_a_policy_does_that_plays_the_simulator():
    scenario = load_scenario("stable", BINARY)
    turns: list[Any] = []
    played = OffloadingWorld(scenario)
    played.reset(SEED)
    play(played, make_policy("set", scenario), explore=False, watch=turns.append)
    both = Both(scenario)
    made = Scheduler(Slots(Seat(both.live, make_policy("set", scenario))))
    for number, turn in enumerate(turns):
        both.hear()
        task, cell = both.arriving()
        decision = made.place(task, f"job-{number}")
        assert decision.fallback is None
        server = int(turn.action[cell])
        assert decision.server == both.edges[server].name
        both.edges[server].jobs[f"job-{number}"] = task.workload_gcycles
        both.work()
        both.simulator.decide(turn.action)
    both.hear()
    assert list(made.backlog_gcycles().values()) == both.simulator.state.backlog_gcycles[0].tolist()


@pytest.mark.parametrize("name", ["least-delay", "capacity-weighted", "set"])
def test_a_lost_edge_looks_as_a_failed_server_does(name):
    scenario = load_scenario("failing", BINARY | FAILING)
    both = Both(scenario)
    failures = []

    def same(live, simulated):
        failed = torch.tensor(both.failed())
        failures.append(int(failed.sum()))
        whole = both.simulator.capacity_gcycles_s[0]
        assert torch.equal(live.capacity_gcycles_s[0] == whole, ~failed)
        torch.testing.assert_close(live.capacity_gcycles_s[0, failed], LEAST_SEEN * whole[failed])
        # The simulator takes a thousandth in single precision, and the live world rounds afterwards.
        assert_same(live, simulated, ONE_ROUNDING)

    # Every server of the simulator takes what it is given, so nobody is told which are available.
    lead(both, scenario, name, False, same, told=False)
    assert min(failures) == 0
    assert max(failures) >= 2


def test_only_the_live_world_tells_which_servers_are_available():
    scenario = load_scenario("failing", BINARY | FAILING)
    both = Both(scenario)
    told: set[bool] = set()
    while not both.simulator.done:
        both.hear()
        both.arrive()
        shown = both.live.observe().available
        assert shown is not None
        available = shown[0].tolist()
        assert available == [not failed for failed in both.failed()]
        assert both.simulator.observe().available is None
        told.update(available)
        both.live.withdraw()
        both.simulator.decide(torch.zeros(1, 4, 1, dtype=torch.long))
    assert told == {True, False}
