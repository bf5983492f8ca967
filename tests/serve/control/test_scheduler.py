# SPDX-License-Identifier: Apache-2.0
"""The live scheduler on states made by hand, with a clock that tests move."""

from __future__ import annotations

import pytest
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.algorithms.rules.offloading import make_rule
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeReport
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Scheduler
from edgegen.serve.control.seat import Seat
from edgegen.serve.control.slots import Slots
from edgegen.serve.http.errors import NoServerError, QueuesFullError
from edgegen.serve.kinds.offloading import LiveOffloading
from edgegen.serve.kinds.registry import scenario_of

NAMES = ("a", "b", "c")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Scripted(Policy):
    """Answers from a list and remembers what it was shown."""

    name = "scripted"
    roles = frozenset({"router"})

    def __init__(self, answers, width=None):
        super().__init__()
        self.answers = list(answers)
        self.seen = []
        if width is not None:
            self.width = width

    def begin(self, role, view):
        return {"calls": torch.zeros(1)}

    def act(self, role, view, memory, explore=True):
        assert torch.is_inference_mode_enabled()
        assert role == "router"
        self.seen.append((view, memory["calls"].item()))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        shape = view.tasks.present.shape
        return torch.full(shape, answer), {"calls": memory["calls"] + 1}


def report(name, remaining=(), capacity=2.0):
    return EdgeReport(name, 1, tuple(remaining), 0, 0.0, capacity, 0.1, 0, None)


def scheduler(policy, *, capacities=(4.0, 2.0, 1.0), max_queue=2, healthy=NAMES, **options):
    clock = Clock()
    servers = [
        Server(name, ("m",), 450.0, capacity, max_queue) for name, capacity in zip(NAMES, capacities, strict=True)
    ]
    world = LiveOffloading(servers, 1.0, width=getattr(policy, "width", None), clock=clock)
    explore = options.pop("explore", False)
    made = Scheduler(Slots(Seat(world, policy, explore)), **options)
    for name, capacity in zip(NAMES, capacities, strict=True):
        if name in healthy:
            made.update(report(name, capacity=capacity))
    return made, clock


def task(home="a", work=4.0, model="m"):
    return Task(model, home, work, 0.001, 0.1)


def test_policy_choice_is_taken_and_admitted():
    made, _ = scheduler(Scripted([1]))
    decision = made.place(task(), "1")
    assert (decision.server, decision.fallback) == ("b", None)
    assert decision.decision_s > 0
    assert made.backlog_gcycles() == {"a": 0, "b": 4, "c": 0}


def test_observation_has_the_task_in_its_own_cell_only():
    policy = Scripted([0, 0, 0])
    made, _ = scheduler(policy)
    made.place(task("b", 3.0), "1")
    made.place(task("a", 5.0), "2")
    made.place(task("b", 7.0), "3")
    first, second, third = (seen for seen, _ in policy.seen)
    assert first.tasks.present.nonzero().tolist() == [[0, 1, 0]]
    assert second.tasks.present.nonzero().tolist() == [[0, 0, 0]]
    assert third.tasks.present.nonzero().tolist() == [[0, 1, 1]]
    assert third.tasks.present.shape == (1, 3, 2)
    assert third.tasks.workload_gcycles[0, 1].tolist() == [0, 7]
    assert third.backlog_gcycles.tolist() == [[8, 0, 0]]
    assert third.capacity_gcycles_s.tolist() == [[4, 2, 1]]


def test_slot_clock_restarts_the_columns():
    policy = Scripted([0, 0, 0])
    made, clock = scheduler(policy, max_queue=9)
    made.place(task(), "1")
    made.place(task(), "2")
    clock.now += 2.5
    made.place(task(), "3")
    assert [seen.slot for seen, _ in policy.seen] == [0, 0, 2]
    assert [seen.tasks.present.nonzero()[0, 2].item() for seen, _ in policy.seen] == [0, 1, 0]


def test_columns_wrap_at_the_width_of_the_policy():
    policy = Scripted([0, 1, 2], width=2)
    made, _ = scheduler(policy)
    for number in range(3):
        made.place(task(), str(number))
    assert [seen.tasks.present.nonzero()[0, 2].item() for seen, _ in policy.seen] == [0, 1, 0]
    assert all(seen.tasks.present.shape == (1, 3, 2) for seen, _ in policy.seen)


def test_memory_is_carried_and_begun_anew_after_a_failure():
    policy = Scripted([0, 1, RuntimeError("broken"), 2])
    made, _ = scheduler(policy)
    for number in range(4):
        made.place(task(), str(number))
    assert [calls for _, calls in policy.seen] == [0, 1, 2, 0]


def test_rule_with_memory_deals_in_turn():
    made, _ = scheduler(make_rule("round-robin"))
    assert [made.place(task("b"), str(number)).server for number in range(4)] == ["b", "c", "a", "b"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RuntimeError("broken"), "broken"),
        (float("nan"), "nan"),
        (7, "servers are 0 to 2"),
        (-1, "servers are 0 to 2"),
        (0.5, "0.5"),
    ],
)
def test_policy_failure_falls_back_to_least_work(answer, words):
    made, _ = scheduler(Scripted([answer, 0]))
    made.update(report("a", [("other", 100.0)], 4.0))
    decision = made.place(task(), "1")
    assert decision.server == "b"  # (0 + 4)/2 s beats 104/4 s and 4/1 s
    assert "scripted" in decision.fallback
    assert words in decision.fallback
    assert (made.policy_failures, made.fallbacks, made.policy_healthy) == (1, 1, False)
    assert words in made.last_policy_failure
    assert made.place(task(), "2").fallback is None
    assert made.policy_healthy


def test_policy_whose_memory_is_not_finite_has_failed():
    class Poisoned(Scripted):
        def act(self, role, view, memory, explore=True):
            actions, memory = super().act(role, view, memory, explore)
            return actions, {"calls": memory["calls"] * float("nan")}

    made, _ = scheduler(Poisoned([1]))
    assert "not finite" in made.place(task(), "1").fallback


def test_wrong_shape_is_a_failure():
    class Flat(Scripted):
        def act(self, role, view, memory, explore=True):
            return torch.zeros(3), memory

    made, _ = scheduler(Flat([]))
    assert "shape" in made.place(task(), "1").fallback


def test_without_fallback_a_policy_failure_refuses():
    made, _ = scheduler(Scripted([RuntimeError("broken")]), fallback=False)
    with pytest.raises(NoServerError, match="broken"):
        made.place(task(), "1")
    assert made.backlog_gcycles() == {"a": 0, "b": 0, "c": 0}


def test_unhealthy_choice_goes_to_the_least_work_among_the_healthy():
    made, _ = scheduler(Scripted([0, 0]))
    made.lose("a", "process died")
    decision = made.place(task(), "1")
    assert decision.server == "b"
    assert "process died" in decision.fallback
    assert made.policy_failures == 0  # not the policy's fault
    made.update(report("a", capacity=4.0))
    assert made.place(task(), "2").server == "a"


def test_no_healthy_server():
    made, _ = scheduler(Scripted([]), healthy=())
    with pytest.raises(NoServerError, match="No healthy edge"):
        made.place(task(), "1")


def test_server_without_the_model_is_not_chosen():
    made, _ = scheduler(Scripted([0]))
    made.servers["a"].models = ("other",)
    decision = made.place(task(), "1")
    assert decision.server == "b"
    assert "holds the model 'other'" in decision.fallback


def test_full_server_then_all_full():
    made, _ = scheduler(Scripted([0] * 5), healthy=("a", "b"), max_queue=1)
    assert [made.place(task(work=8.0), str(number)).server for number in range(4)] == ["a", "a", "b", "b"]
    with pytest.raises(QueuesFullError) as caught:
        made.place(task(), "5")
    assert caught.value.status == 429
    assert 3 <= int(caught.value.headers["Retry-After"]) <= 5  # 16 Gcycle at 4 Gcycle/s, and a quarter more or less
    made.finish("a", "0")
    assert made.place(task(), "6").server == "a"


def test_backlog_shrinks_with_the_capacity_and_follows_reports():
    made, clock = scheduler(Scripted([0, 0]))
    made.place(task(work=8.0), "1")
    made.place(task(work=8.0), "2")
    clock.now += 1.0
    assert made.backlog_gcycles()["a"] == pytest.approx(12)
    clock.now += 9.0  # the first job is late: the second has not begun
    assert made.backlog_gcycles()["a"] == pytest.approx(8)
    made.update(report("a", [("1", 2.0), ("2", 8.0)], 4.0))
    assert made.backlog_gcycles()["a"] == pytest.approx(10)
    made.finish("a", "1")
    clock.now += 0.5
    assert made.backlog_gcycles()["a"] == pytest.approx(6)
    made.finish("a", "2")
    assert made.backlog_gcycles()["a"] == 0


def test_work_of_others_on_an_edge_counts():
    made, _ = scheduler(Scripted([1]))
    made.update(report("a", [("foreign", 5.0)], 4.0))
    assert made.backlog_gcycles()["a"] == pytest.approx(5)


def test_jobs_of_others_take_places_too():
    made, clock = scheduler(Scripted([0, 0]), max_queue=1, healthy=("a",))
    made.update(report("a", [("foreign", 6.0), ("another", 2.0)], 4.0))
    clock.now += 0.5
    with pytest.raises(QueuesFullError) as refused:
        made.place(task(), "1")
    assert int(refused.value.headers["Retry-After"]) in (1, 2)
    assert made.retry_after_s("m") == pytest.approx(8 / 4 - 0.5, rel=0.25)
    made.update(report("a", [("another", 2.0)], 4.0))
    assert made.place(task(), "1").server == "a"
    made.lose("a", "gone")
    assert made.retry_after_s("m") == 0
    made.update(report("a"))
    assert made.place(task(), "2").server == "a"


def test_measured_capacity_is_taken_over():
    made, _ = scheduler(Scripted([]))
    made.update(report("c", capacity=9.0))
    assert made.servers["c"].capacity_gcycles_s == 9


def test_moved_request_avoids_servers_that_were_tried():
    made, _ = scheduler(Scripted([]))
    assert made.place_again(task(), "1", frozenset({"a"}), "it died").server == "b"
    made.lose("b", "gone")
    made.lose("c", "gone")
    assert made.place_again(task(), "2", frozenset({"a"}), "it failed").server == "a"  # rather than nowhere


def test_trained_policy_schedules_live(make_config):
    scenario = scenario_of(make_config())
    torch.manual_seed(0)
    actor = router_for(scenario, METHOD.make_settings()).actor()
    made, clock = scheduler(LADTSPolicy(actor, seed=1), max_queue=50)
    for number in range(40):
        assert made.place(task("abc"[number % 3], 0.5), str(number)).fallback is None
        clock.now += 0.02


def test_what_can_not_do_a_request_is_shown_as_the_simulator_shows_a_failed_server():
    policy = Scripted([0, 1, 1])
    made, _ = scheduler(policy)
    made.lose("b", "process died")
    made.place(task(), "1")
    made.update(report("b"))
    made.servers["c"].models = ("other",)
    made.place(task(), "2")
    made.miss("a")
    made.place(task(), "3")
    shown = [(seen.capacity_gcycles_s[0].tolist(), seen.available[0].tolist()) for seen, _ in policy.seen]
    assert shown[0] == (pytest.approx([4, 0.002, 1]), [True, False, True])
    assert shown[1] == (pytest.approx([4, 2, 0.001]), [True, True, False])
    assert shown[2] == (pytest.approx([0.004, 2, 0.001]), [False, True, False])


def test_full_server_is_busy_but_not_lost():
    policy = Scripted([0, 0, 1])
    made, _ = scheduler(policy, max_queue=1)
    decisions = [made.place(task(), str(number)) for number in range(3)]
    assert decisions[2].fallback is None
    assert policy.seen[2][0].capacity_gcycles_s.tolist() == [[4, 2, 1]]
    assert policy.seen[2][0].available.tolist() == [[False, True, True]]


def test_nobody_is_placed_where_the_wait_is_too_long():
    made, clock = scheduler(Scripted([0, 0, 0, 0]), max_queue=9, max_wait_s=2.0, healthy=("a", "b"))
    assert made.place(task(work=10.0), "1").server == "a"
    decision = made.place(task(work=6.0), "2")
    assert decision.server == "b"
    assert "'a' would begin it in 2 s" in decision.fallback
    with pytest.raises(QueuesFullError, match="would wait 2 s, at most 2 s are allowed"):
        made.place(task(), "3")
    assert made.place_again(task(), "4", frozenset(), "it died").server == "a"  # it has been accepted before
    made.finish("a", "4")
    clock.now += 1.0
    assert made.place(task(), "5").server == "a"


def test_choice_that_misses_the_deadline_gives_way_to_an_edge_that_meets_it():
    made, _ = scheduler(Scripted([2, 2, 2, 2]), max_queue=9)
    assert made.place(task(work=4.0), "1", left_s=4.5).fallback is None  # 4 Gcycle at 1 Gcycle/s, nothing before
    decision = made.place(task(work=4.0), "2", left_s=4.5)  # 8 s on c, 1 s on a
    assert (decision.server, decision.fallback) == (
        "a",
        "edge 'c' would miss the deadline, which another edge can meet",
    )
    assert made.place(task(work=4.0), "3", left_s=8.0).server == "c"
    assert made.place(task(work=4.0), "4", left_s=0.5).fallback is None  # nobody can: the policy knows best


def test_refused_clients_are_told_different_times():
    made, _ = scheduler(Scripted([]))
    for name in NAMES:
        made.update(report(name, [("foreign", 400.0)], 4.0))
    times = [made.retry_after_s("m") for _ in range(100)]
    assert 75 <= min(times) < 80 < 120 < max(times) <= 125


@pytest.mark.parametrize(
    ("preset", "explore"), [("paper", False), ("improved", True), ("sac-ts", True), ("dqn-ts", True)]
)
def test_policy_of_fixed_servers_never_names_one_that_is_lost(make_config, preset, explore):
    scenario = scenario_of(make_config())
    torch.manual_seed(0)
    actor = router_for(scenario, METHOD.make_settings(preset)).actor()
    for parameter in actor.parameters():
        torch.nn.init.normal_(parameter, std=30.0)  # so sure of its favourites that all others have probability 0
    made, clock = scheduler(LADTSPolicy(actor, seed=1), max_queue=50, explore=explore)
    favourites = {made.place(task("abc"[number % 3], 0.5), str(number)).server for number in range(20)}
    for lost in sorted(favourites):
        made.lose(lost, "process died")
        for number in range(20):
            decision = made.place(task("abc"[number % 3], 0.5), f"{lost}{number}")
            assert decision.fallback is None
            assert decision.server != lost
            clock.now += 0.02
        made.update(report(lost, capacity=4.0))
