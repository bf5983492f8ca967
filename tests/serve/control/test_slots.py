# SPDX-License-Identifier: Apache-2.0
"""Policies of a router in their slots: swaps, canaries, shadows, rests, and how a guard judges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from edgegen.algorithms.core.policy import Policy
from edgegen.envs.core.errors import InputError
from edgegen.serve.control.books import Server
from edgegen.serve.control.guard import CONFIDENCE, Guard
from edgegen.serve.control.jobs import EdgeReport
from edgegen.serve.control.live_world import Task
from edgegen.serve.control.scheduler import Scheduler
from edgegen.serve.control.seat import PolicyFailedError, Seat, Trust
from edgegen.serve.control.slots import Slots
from edgegen.serve.kinds.offloading import LiveOffloading

NAMES = ("a", "b", "c")


class Always(Policy):
    """Names one server, or fails."""

    roles = frozenset({"router"})

    def __init__(self, answer, name="always"):
        super().__init__()
        self.answer, self.name, self.asked = answer, name, 0

    def act(self, role, view, memory, explore=True):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return torch.full(view.tasks.present.shape, float(self.answer)), memory


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class House:
    """Three edges, and whoever is to decide about them."""

    def __init__(self, answer=0, **options):
        self.clock = Clock()
        self.servers = [Server(name, ("m",), 450.0, 2.0, 999) for name in NAMES]
        for server in self.servers:
            server.hear(EdgeReport(server.name, 1, (), 0, 0.0, 2.0, 0.1, 0, None), self.clock())
        self.slots = Slots(self.seat(answer, "old"), **options)

    def seat(self, answer, name, trust=None, **options):
        world = LiveOffloading(self.servers, 1.0, clock=self.clock)
        return Seat(world, Always(answer, name), trust=trust or Trust(), **options)

    @property
    def candidate(self):
        assert self.slots.candidate is not None
        return self.slots.candidate

    def shadow_answers(self, answer):
        """Let the shadow answer something else from now on."""
        assert self.slots.shadow is not None
        assert isinstance(self.slots.shadow.policy, Always)
        self.slots.shadow.policy.answer = answer

    def choose(self, key=""):
        return self.slots.choose(task(key), self.servers)


def task(key="", home="a"):
    return Task("m", home, 1.0, 0.001, 0.1, key=key)


def keys(number):
    return [f"request-{n}" for n in range(number)]


def test_a_policy_takes_charge_between_two_requests():
    house = House(0)
    assert house.choose().server == "a"
    house.slots.swap(house.seat(2, "new"), house.servers)
    choice = house.choose()
    assert (choice.server, choice.policy, choice.canary) == ("c", "new", False)
    assert house.slots.events == ["The policy 'new' took charge instead of 'old'."]


@pytest.mark.parametrize("answer", [RuntimeError("broken"), math.nan, 7])
def test_a_policy_that_fails_on_the_service_as_it_is_gets_no_slot(answer):
    house = House(0)
    for put in (
        lambda seat: house.slots.swap(seat, house.servers),
        lambda seat: house.slots.try_canary(seat, 0.5, house.servers),
        lambda seat: house.slots.set_shadow(seat, house.servers),
    ):
        with pytest.raises(InputError, match=r"^The policy 'new' fails on the service as it is: .*\.$") as refused:
            put(house.seat(answer, "new"))
        assert "\n" not in str(refused.value)
        assert house.choose().policy == "old"
    assert (house.slots.candidate, house.slots.shadow, house.slots.events) == (None, None, [])


def test_being_tried_leaves_no_trace():
    house = House(0)
    seat = house.seat(1, "new")
    before = seat.world.state_dict()
    seat.try_out(house.servers)
    assert seat.world.state_dict() == before
    assert (seat.decisions, seat.failures, seat.world.turn) == (0, 0, None)


def test_a_canary_gets_its_share_of_the_requests_and_always_the_same():
    house = House(0)
    house.slots.try_canary(house.seat(1, "new"), 0.3, house.servers)
    first = [house.choose(key) for key in keys(2000)]
    share = sum(choice.canary for choice in first) / 2000
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)
    assert all((choice.server, choice.policy) == (("b", "new") if choice.canary else ("a", "old")) for choice in first)
    assert [house.choose(key) for key in keys(100)] == first[:100]


def test_both_count_the_requests_that_the_other_decided():
    house = House(0)
    house.slots.try_canary(house.seat(1, "new"), 0.5, house.servers)
    for key in keys(10):
        house.choose(key)
    candidate, incumbent = house.candidate, house.slots.incumbent
    assert candidate.world.state_dict()["arrived"] == incumbent.world.state_dict()["arrived"] == {"a": 10}
    assert candidate.decisions + incumbent.decisions == 10


def test_a_canary_that_fails_is_stood_in_for_and_at_last_loses_its_share():
    house = House(0)
    candidate = house.seat(1, "new", Trust(strikes=3))
    house.slots.try_canary(candidate, 0.5, house.servers)
    candidate.policy.answer = RuntimeError("broken")
    assert {house.choose(key).server for key in keys(20)} == {"a"}
    assert house.slots.candidate is None
    assert house.slots.events[-1] == "The policy 'new' lost its share: policy 'new' failed: RuntimeError: broken."
    assert house.slots.incumbent.failures == 0


def test_a_policy_rests_after_failures_in_a_row_and_comes_back():
    house = House(0)
    house.slots.incumbent = seat = house.seat(RuntimeError("broken"), "bad", Trust(strikes=3, rest_s=30))
    for _ in range(5):
        with pytest.raises(PolicyFailedError, match="broken"):
            house.choose()
    assert (seat.policy.asked, seat.failures, seat.healthy) == (3, 3, False)
    seat.policy.answer = 1
    house.clock.now += 29
    with pytest.raises(PolicyFailedError, match=r"^policy 'bad' rests after failures in a row: policy 'bad' failed"):
        house.choose()
    house.clock.now += 1
    assert house.choose().server == "b"
    assert seat.healthy


def test_a_policy_that_took_charge_and_fails_gives_it_back():
    house = House()
    task, options = Task("m", "a", 1.0, 0.1, 0.1), house.servers
    new = house.seat(1, "new", Trust(strikes=3, rest_s=30.0))
    house.slots.swap(new, options)
    assert house.slots.choose(task, options).server == "b"
    new.policy.answer = RuntimeError("out of memory")
    for _ in range(2):  # two failures in a row may pass
        with pytest.raises(PolicyFailedError):
            house.slots.choose(task, options)
        assert house.slots.incumbent is new
    choice = house.slots.choose(task, options)  # the third request is decided by the one from before
    assert (choice.server, choice.policy) == ("a", "old")
    assert house.slots.events[-1] == (
        "The policy 'new' gave the charge back to 'old': policy 'new' failed: RuntimeError: out of memory."
    )
    # There is nobody before it: a rest is a rest.
    old: Any = house.slots.incumbent
    old.policy.answer = RuntimeError("out of memory")
    for _ in range(6):
        with pytest.raises(PolicyFailedError):
            house.slots.choose(task, options)
    assert house.slots.incumbent.label == "old"


def test_failures_with_a_success_between_them_are_not_in_a_row():
    house = House(0)
    house.slots.incumbent = seat = house.seat(0, "moody", Trust(strikes=2))
    for answer in (RuntimeError("x"), 1) * 4:
        seat.policy.answer = answer
        try:
            house.choose()
        except PolicyFailedError:
            assert answer != 1
    assert (seat.decisions, seat.failures, seat.resting) == (4, 4, False)


def test_decisions_over_budget_are_obeyed_but_not_for_long():
    house = House(0)
    times = iter(np.cumsum([0.0, 0.004, 1.0, 0.006, 1.0, 0.006, 1.0]))
    seat = house.seat(1, "slow", Trust(budget_s=0.005, strikes=2), computing_time=lambda: next(times))
    house.slots.incumbent = seat
    assert [house.choose().server for _ in range(3)] == ["b"] * 3
    assert (seat.decisions, seat.late, seat.resting) == (3, 2, True)
    assert seat.last_failure == "policy 'slow' took 6.0 ms, 5 are allowed"
    with pytest.raises(PolicyFailedError, match=r"took 6\.0 ms"):
        house.choose()


def test_a_shadow_is_asked_and_never_obeyed():
    worth = {"a": 0.5, "b": 0.8, "c": 0.1}
    house = House(0, expect=lambda task, server, now: worth[server])
    house.slots.set_shadow(house.seat(1, "dark"), house.servers)
    assert {house.choose(key).server for key in keys(3)} == {"a"}
    house.shadow_answers(0)
    house.choose()
    state = house.slots.state(house.clock())["shadow"]
    assert state == {
        "name": "dark",
        "decisions": 4,
        "agreement": 0.25,
        "expected_gain": pytest.approx(0.3 * 3 / 4),
        "failures": 0,
    }
    house.shadow_answers(RuntimeError("broken"))
    assert house.choose().server == "a"
    assert house.slots.state(house.clock())["shadow"]["failures"] == 1
    house.slots.set_shadow(None, house.servers)
    assert house.slots.state(house.clock())["shadow"] is None


def answer(house, blocks, canary, control):
    """Answer requests of both groups in every block, with what they are worth."""
    groups = {True: canary, False: control}
    for block in range(blocks):
        for key in keys(20):
            house.slots.answered(key, groups[house.slots.is_canary(key)](block), house.clock())
        house.clock.now += 30


def test_a_canary_that_falls_behind_loses_its_share():
    house = House(0)
    house.slots.try_canary(house.seat(1, "worse"), 0.5, house.servers)
    rng = np.random.default_rng(0)
    answer(house, 40, lambda b: 0.7 + b / 50 + rng.normal(0, 0.02), lambda b: 0.8 + b / 50 + rng.normal(0, 0.02))
    assert house.slots.candidate is None
    assert house.slots.events[-1].startswith("The policy 'worse' lost its share: in ")


def test_a_canary_that_is_as_good_keeps_its_share_although_the_load_changes():
    house = House(0)
    house.slots.try_canary(house.seat(1, "equal"), 0.5, house.servers)
    rng = np.random.default_rng(1)
    answer(house, 40, lambda b: math.sin(b) + rng.normal(0, 0.05), lambda b: math.sin(b) + rng.normal(0, 0.05))
    state = house.slots.state(house.clock())["canary"]
    assert (state["name"], state["share"], state["blocks"]) == ("equal", 0.5, 40)
    assert state["requests"] + state["control_requests"] == 800
    assert state["interval"][0] < state["difference"] < state["interval"][1]
    assert abs(state["difference"]) < 0.05


def test_a_canary_that_has_held_its_own_takes_charge():
    house = House(0, settled=8)
    house.slots.try_canary(house.seat(1, "better"), 0.5, house.servers)
    rng = np.random.default_rng(2)
    answer(house, 10, lambda b: 0.9 + rng.normal(0, 0.05), lambda b: 0.8 + rng.normal(0, 0.05))
    assert house.slots.incumbent.label == "better"
    assert house.slots.candidate is None


def test_the_guard_compares_within_blocks():
    guard = Guard(10.0, 100.0)
    rng = np.random.default_rng(3)
    differences = []
    for block in range(9):
        canary, control = rng.normal(block, 0.1, 5), rng.normal(block, 0.1, 7)
        for values, is_canary in ((canary, True), (control, False)):
            for value in values:
                guard.add(is_canary, value, 100 + 10 * block + 5)
        if block < 8:  # the last one is not over
            differences.append(canary.mean() - control.mean())
    guard.add(True, 99.0, 250.0)  # a block without a control group says nothing
    verdict = guard.verdict(185.0)
    expected = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    assert verdict.blocks == 8
    assert verdict.requests == (40, 56)
    assert verdict.difference == pytest.approx(np.mean(differences))
    assert (verdict.low, verdict.high) == pytest.approx((expected.low, expected.high))
    assert not verdict.behind
    assert guard.verdict(1e6).blocks == 9


def test_one_block_is_no_verdict():
    guard = Guard(10.0, 0.0)
    guard.add(True, -5.0, 1.0)
    guard.add(False, 5.0, 1.0)
    assert guard.verdict(5.0).blocks == 0
    verdict = guard.verdict(15.0)
    assert (verdict.blocks, verdict.difference, verdict.behind) == (1, -10, False)


def test_the_scheduler_says_who_decided_and_tells_the_guard_what_came_of_it():
    class Judge:
        def made(self, task, server, steps, delay_s):
            return -delay_s * steps

        def lost(self, task):
            return -99.0

    house = House(0)
    scheduler = Scheduler(house.slots, worth=Judge())
    house.slots.try_canary(house.seat(1, "new"), 0.5, house.servers)
    canary = next(key for key in keys(99) if house.slots.is_canary(key))
    control = next(key for key in keys(99) if not house.slots.is_canary(key))
    decision = scheduler.place(task(canary), "1")
    assert (decision.server, decision.policy, decision.canary) == ("b", "new", True)
    assert not scheduler.place(task(control), "2").canary
    for _ in range(2):
        scheduler.answered(task(canary), "b", 2, 3.0)
        scheduler.unanswered(task(control))
        house.clock.now += 30
    verdict = house.slots.state(house.clock())["canary"]
    assert (verdict["blocks"], verdict["difference"]) == (2, 93)
