# SPDX-License-Identifier: Apache-2.0
"""The live fleet shows what the simulator shows: both live through the same history, and all three views are compared.

The simulator is the world that policies of the service are trained in. Its edges report what it knows of its sites.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.scenarios import build_scenario
from edgegen.envs.fleet.draws import draw_requests
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.view import ALLOCATOR, CACHER, ROUTER, RouterView
from edgegen.envs.fleet.world import FleetWorld
from edgegen.serve.config import build_config
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeReport, Job
from edgegen.serve.control.ledger import Ledger
from edgegen.serve.control.live_world import Chosen, Kept, Task
from edgegen.serve.control.steps import Placed
from edgegen.serve.kinds.fleet import FAR_S, LiveFleet
from edgegen.serve.kinds.fleet_scenario import USUAL_PROMPT, training
from edgegen.serve.kinds.fleet_steps import FleetSteps
from edgegen.serve.model_config import picture_mbit, text_mbit

SEED = 3
CLOUD = {"name": "far", "models": ["a", "b", "c"], "capacity_gcycles_s": 1.5, "engine": "remote", "url": "http://far"}
MODELS = {
    "a": {"cycles_per_step_gcycles": 0.05, "size_gb": 2, "load_s": 1.5, "fixed_gcycles": 0.2},
    "b": {"cycles_per_step_gcycles": 0.06, "size_gb": 2.5, "load_s": 2, "default_steps": 30, "least_steps": 7},
    "c": {"cycles_per_step_gcycles": 0.1, "size_gb": 3, "load_s": 3, "least_steps": 4},
}
EDGES = [
    {"name": "x", "models": ["a", "b", "c"], "capacity_gcycles_s": 2.3, "memory_gb": 6, "rate_mbit_s": 500},
    {**CLOUD, "cloud": {"distance_s": 1.5, "price": 0.2, "price_per_work_s": 0.01}},
    {"name": "y", "models": ["a", "b", "c"], "capacity_gcycles_s": 1.1, "memory_gb": 5, "rate_mbit_s": 450},
    {"name": "z", "models": ["a", "b", "c"], "capacity_gcycles_s": 0.7, "memory_gb": 4, "rate_mbit_s": 400},
]
SERVICE = {
    "name": "three",
    "kind": "fleet",
    "models": MODELS,
    "edges": EDGES,
    "policy": "price-greedy",
    "frame_s": 8,
    "deadline_s": 12,
    "utility": {"hop_s": 0.3},
}


class Both:
    """A simulator and a live fleet, to be led through the same history.

    Args:
        report_s: Time between two reports, s.
        home: The only site with users, if not all have some.
    """

    def __init__(self, report_s, home=None):
        self.config = build_config({**SERVICE, "report_period_s": 1})
        world = training(self.config)
        self.scenario = build_scenario({**world.model_dump(), "report_s": report_s}, FleetScenario)
        requests = draw_requests(self.scenario, SEED, range(1))
        if home is not None:
            requests.home[:] = home
        self.simulator = FleetWorld(self.scenario, requests=requests)
        self.now = 0.0
        # Nominal capacities differ from those reported; the ledger must follow the reports.
        self.books = [
            Server(
                *(edge.name, edge.all_models, edge.rate_mbit_s, 1.0, 999),
                memory_gb=edge.memory_gb or 99.0,
                cloud=edge.cloud is not None,
            )
            for edge in self.config.edges
        ]
        sizes = [model["size_gb"] for model in MODELS.values()]
        self.ledger = Ledger(self.books, tuple(MODELS), sizes, [model["load_s"] for model in MODELS.values()])
        self.live = LiveFleet(self.ledger, world, promise_s=12, clock=lambda: self.now)
        self.sites = [self.books[row] for row in (0, 2, 3)]
        self.reported = -1
        self.steps = {edge.name: FleetSteps(self.config, edge.name, world) for edge in self.config.edges}
        self.hear(0.0)

    def hear(self, at):
        """Let every edge report, as of a time."""
        now, self.now = self.now, at
        for site, (server, speed) in enumerate(zip(self.sites, self.scenario.site_speed, strict=True)):
            busy_s = max(self.simulator.books.free_s[0, site] - at, 0.0)
            there = tuple(np.array(tuple(MODELS))[self.simulator.books.resident[0, site] > 0])
            jobs = (("all", busy_s * speed),) if busy_s else ()
            report = EdgeReport(server.name, 1, jobs, 0, 0.0, speed, 0.1, 0, None, there, (), there)
            server.hear(report, at)
        self.books[1].hear(EdgeReport("far", 1, (), 0, 0.0, 1.5, 0.1, 0, None), at)
        self.now = now

    def frame(self):
        """Begin a frame."""
        self.now = self.simulator.round * self.scenario.frame_s
        self.hear(self.now)  # cachers see true backlogs
        self.reported = -1  # loads that begin now have to be reported before anything else is decided
        self.live.begin_frame()

    def arrive(self):
        """Show the next request of the simulator to the live fleet, after the reports that came before it."""
        view, requests = self.simulator.observe(), self.simulator.future
        assert isinstance(view, RouterView)
        self.now = float(requests.arrival_s[0, self.simulator.books.cursor[0]])
        if (number := int(self.now // self.scenario.report_s)) != self.reported:
            self.hear(number * self.scenario.report_s)
            self.reported = number
        name = tuple(MODELS)[int(view.model)]
        card = self.config.cards()[name]
        self.task = Task(
            *(name, self.sites[int(view.home)].name, 0.0, text_mbit("x" * USUAL_PROMPT), picture_mbit(512 * 512)),
            *(1.0, card.default_steps, card.least_steps, float(view.deadline_s), float(view.weight)),
        )
        self.live.arrive(self.task, self.books)

    def job(self, mean_s):
        """The job that the request becomes."""
        task, card = self.task, self.config.cards()[self.task.model]
        return Job(
            *("1", "x" * USUAL_PROMPT, None, task.steps, 7.5, 512, 512, (0,), 0.0, task.model, card.least_steps),
            *(task.deadline_s, task.weight, task.home, mean_s),
        )

    def place(self, server, steps):
        """Write down where the request went; sites are told at once, so the home knows the steps."""
        card = self.config.cards()[self.task.model]
        server.admit("job", card.workload_gcycles(1, steps, "512x512"), self.now, self.task.model)
        server.remaining_gcycles.clear()  # the simulator's own reports count it
        self.ledger.count(self.task.home, self.task.model)


def assert_same(live, simulated, tolerance):
    assert type(live) is type(simulated)
    for field in fields(simulated):
        one, other = getattr(live, field.name), getattr(simulated, field.name)
        assert one.shape == other.shape, field.name
        assert one.dtype == other.dtype, field.name
        if one.is_floating_point():
            assert torch.allclose(one, other, rtol=tolerance, atol=tolerance), field.name
        else:
            assert torch.equal(one, other), field.name


def lead(both, name="price-greedy", tolerance=1e-12):
    """Let a policy decide in both worlds, and compare what they show and what it decides.

    Returns:
        How often each role decided, the candidates that were chosen, and the largest backlog that was seen, s.
    """
    policy = make_policy(name, both.scenario)
    turns, chosen, most_s = {CACHER: 0, ROUTER: 0, ALLOCATOR: 0}, set(), 0.0
    while (turn := both.simulator.turn) is not None:
        turns[turn] += 1
        view = both.simulator.observe()
        if turn == CACHER:
            both.frame()
            assert_same(both.live.observe(), view, tolerance)
            action, _ = policy.act(turn, both.live.observe(), {}, False)
            kept = both.live.decide(action)
            both.ledger.next_frame()
            assert set(kept.wishes) == {"x", "y", "z"}
            both.simulator.decide(action)
            for site, server in enumerate(both.sites):
                wanted = {m for m, there in zip(MODELS, both.simulator.books.wanted[0, site], strict=True) if there}
                assert set(kept.wishes[server.name].models) == wanted
        elif turn == ROUTER:
            both.arrive()
            assert both.live.turn == ROUTER
            seen = both.live.observe()
            assert_same(seen, view, tolerance)
            most_s = max(most_s, float(seen.backlog_s.max()))
            action, _ = policy.act(turn, seen, {}, False)
            server = both.books[both.ledger.rows[both.live.decide(action).server]]
            assert (int(action) == 3) == server.cloud
            chosen.add(server.name)
            mean_s = float(seen.backlog_s[0, :-1].mean())
            load_s = float(seen.load_s[0, int(action)])
            both.simulator.decide(action)
        else:
            backlog_s = float(view.backlog_s)
            placed = Placed(backlog_s, load_s, float(view.speed), both.task.deadline_s)
            job = both.job(mean_s)
            seen = both.steps[server.name].observe(job, placed)
            assert_same(seen, view, tolerance)
            action, _ = policy.act(turn, seen, {}, False)
            steps = both.steps[server.name].steps(job, placed, action)
            outcome = both.simulator.decide(action)
            assert steps == int(outcome.result[0, 1])
            both.place(server, steps)
    assert both.ledger.frame == turns[CACHER]
    return turns, chosen, most_s


def test_all_three_views_are_those_of_the_simulator_where_edges_report_before_every_request():
    turns, chosen, most_s = lead(Both(report_s=1e-9))
    assert turns[CACHER] == 5
    assert turns[ROUTER] == turns[ALLOCATOR] > 50
    assert chosen == {"x", "y", "z"} or chosen == {"x", "y", "z", "far"}
    assert most_s > 3  # queues there were


@pytest.mark.parametrize(("home", "name"), [(0, "earliest"), (2, "price-greedy")])
def test_between_reports_a_gateway_counts_what_it_has_placed_itself(home, name):
    turns, chosen, most_s = lead(Both(report_s=2.0, home=home), name)
    assert turns[ROUTER] > 50
    assert len(chosen) > 2
    assert most_s > 3


def test_who_can_not_take_a_request_is_at_the_end_of_a_long_way():
    both = Both(report_s=1.0)
    both.books[2].lose("died")
    both.live.arrive(Task("b", "z", 1.0, 0.001, 6.0, steps=30, least_steps=7), [both.books[0], both.books[3]])
    view = both.live.observe()
    assert isinstance(view, RouterView)
    assert view.network_s[0].tolist() == pytest.approx([0.3 + 0.001 / 500 + 6 / 500, FAR_S, 6 / 400, FAR_S])
    assert view.pace[0].tolist() == [1, 0, 1, 1]
    policy = make_policy("earliest", both.scenario)
    assert policy.act(ROUTER, view, {}, False)[0].tolist() == [[0]]
    assert view.load_s[0].tolist() == [2, 2, 2, 0]


def test_work_is_that_of_all_pictures_and_pixels():
    both = Both(report_s=1.0)
    card = both.config.cards()["a"]
    work = card.workload_gcycles(3, 20, "512x512")
    both.live.arrive(Task("a", "x", work, 0.0, 0.0, pictures=3.0, steps=20, least_steps=5), both.books)
    view = both.live.observe()
    assert isinstance(view, RouterView)
    assert (view.full_s * view.speed)[0].tolist() == pytest.approx([work] * 4)  # 3 × (0.2 + 20 × 0.05)
    assert work == pytest.approx(3.6)
    assert (view.least_s * view.speed)[0].tolist() == pytest.approx([3 * (0.2 + 5 * 0.05)] * 4)


def test_a_request_for_exact_steps_leaves_no_choice():
    both = Both(report_s=1.0)
    both.live.arrive(Task("a", "x", 1.0, 0.0, 0.0, steps=20), both.books)
    view = both.live.observe()
    assert isinstance(view, RouterView)
    assert torch.equal(view.least_s, view.full_s)
    assert torch.equal(view.least_quality, view.full_quality)


def test_a_decision_for_a_cloud_that_is_not_there_is_refused():
    config = build_config({**SERVICE, "edges": [edge for edge in EDGES if edge["name"] != "far"]})
    books = [Server(edge.name, edge.all_models, 450.0, 1.0, 9) for edge in config.edges]
    live = LiveFleet(Ledger(books, tuple(MODELS)), training(config))
    live.arrive(Task("a", "x", 1.0, 0.0, 0.0, steps=20), books)
    view = live.observe()
    assert isinstance(view, RouterView)
    assert view.network_s.shape == (1, 4)
    with pytest.raises(ValueError, match="the action is 3, servers are 0 to 2"):
        live.decide(torch.tensor([[3]]))
    chosen = live.decide(torch.tensor([[2]]))
    assert isinstance(chosen, Chosen)
    assert chosen.server == "z"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (torch.zeros(1, 3, 2, dtype=torch.bool), r"shape \(1, 3, 2\), expected \(1, 3, 3\)"),
        (torch.full((1, 3, 3), float("nan")), "must be 0 or 1"),
        (torch.full((1, 3, 3), 2), "must be 0 or 1"),
    ],
)
def test_impossible_wishes_are_refused(action, words):
    both = Both(report_s=1.0)
    both.live.begin_frame()
    with pytest.raises(ValueError, match=words):
        both.live.decide(action)
    assert both.live.turn == CACHER
    both.live.decide(torch.zeros(1, 3, 3, dtype=torch.bool))
    assert both.live.turn is None


def test_only_models_that_an_edge_may_hold_and_has_room_for_are_kept():
    both = Both(report_s=1.0)
    both.books[3].models = ("b", "c")
    both.ledger.allowed[3, 0] = False
    both.ledger.count("z", "c")
    both.live.begin_frame()
    kept = both.live.decide(torch.ones(1, 3, 3, dtype=torch.bool))
    assert isinstance(kept, Kept)
    assert kept.wishes["x"].models == ("a", "b")  # 4.5 of 6 GB: of models nobody asks for the last goes
    assert kept.wishes["z"].models == ("c",)  # 3 of 4 GB, and it is in demand
    assert kept.wishes["z"].scores == {"a": 0.0, "b": 0.0, "c": 1.0}
    both.ledger.next_frame()
    assert both.ledger.demand[3].tolist() == [0, 0, 0.5]


def test_worlds_of_fleets_have_the_utility_of_the_service():
    config = build_config(SERVICE)
    world = training(config)
    assert world.site_speed == (2.3, 1.1, 0.7)
    assert world.site_memory_gb == (6.0, 5.0, 4.0)
    assert world.cloud.model_dump() == {"speed": 1.5, "distance_s": 1.5, "price": 0.2, "price_per_work_s": 0.01}
    assert [model.full_steps for model in world.models] == [20, 30, 20]
    assert [model.least_steps for model in world.models] == [1, 7, 4]
    assert world.deadline_s.mean == 12
    assert (world.frame_s, world.report_s, world.load) == (8, 0.5, 0.9)
    assert np.allclose(world.ways_s[0], [[0, 0.3, 0.3], [0.3, 0, 0.3], [0.3, 0.3, 0]], atol=1e-4)
