# SPDX-License-Identifier: Apache-2.0
"""The queue of an edge: loads are planned in the order of the work, whatever joins, leaves or fails."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgegen.serve.edge.queue import Queue
from edgegen.serve.edge.residency import Eviction, Load, Residency, Wish

SIZES = {"a": 2.0, "b": 3.0, "c": 1.0, "d": 4.0, "e": 2.0}
MODELS = st.sampled_from(sorted(SIZES))


def queue(resident="", memory_gb=6.0, **options):
    memory = Residency(SIZES, memory_gb, **options)
    for model in resident:
        memory.bring(model)
    return Queue(memory)


def test_a_load_is_planned_against_the_memory_at_the_end():
    line = queue("ab")
    assert line.join("a", "1", 1.0).load is None
    assert line.join("d", "2", 2.0).load == Load("d", evictions=(Eviction("b"),))
    assert line.join("b", "3", 3.0).load == Load("b", evictions=(Eviction("a"), Eviction("d")))
    assert line.front.resident == {"a", "b"}
    assert line.end.resident == {"b"}


def test_what_leaves_takes_its_load_with_it():
    line = queue("ab")
    other = line.join("d", "1", 1.0)
    last = line.join("b", "2", 2.0)
    assert last.load is not None
    line.leave(other)
    assert last.load is None
    assert line.end.resident == {"a", "b"}


def test_the_next_one_loads_what_one_that_left_was_to_load():
    line = queue("ab")
    first, second = line.join("d", "1", 1.0), line.join("d", "2", 2.0)
    assert second.load is None
    line.leave(first)
    assert second.load == Load("d", evictions=(Eviction("a"), Eviction("b")))


def test_a_load_that_failed_is_tried_again_by_the_next():
    line = queue("ab")
    line.join("d", "1", 1.0)
    second = line.join("d", "2", 2.0)
    line.fail(line.begin())
    assert line.front.resident == set()
    assert second.load == Load("d")


def test_the_cachers_load_falls_away_when_it_is_not_needed():
    line = queue("abc")
    job = line.join("d", "1", 1.0)
    line.join("c", None, 1.0, Wish(frozenset("c")))
    assert [item.model for item in line.waiting] == ["d", "c"]
    line.leave(job)
    assert line.waiting == []


class Life(RuleBasedStateMachine):
    """Whatever happens, memory is not exceeded, pins stay, order is kept, and a model is there when it is needed."""

    @initialize(memory_gb=st.integers(6, 12), host_gb=st.integers(0, 5), pinned=st.sampled_from(["", "a", "ac"]))
    def begin(self, memory_gb, host_gb, pinned):
        if pinned == "ac":
            memory_gb = max(memory_gb, 7)
        memory = Residency(SIZES, memory_gb, pinned, host_gb)
        for model in memory.at_start():
            memory.bring(model)
        self.line = Queue[Any](memory)
        self.device, self.host = set(memory.resident), set(memory.host)
        self.number, self.latest = 0, 0

    @rule(model=MODELS, wanted=st.sets(MODELS, max_size=2), scores=st.dictionaries(MODELS, st.floats(0, 1)))
    def job(self, model, wanted, scores):
        self.number += 1
        wish = self.line.end.affordable(Wish(frozenset(wanted), scores), {})
        self.line.join(model, self.number, float(self.number), wish)

    @rule(wanted=st.sets(MODELS))
    def keep(self, wanted):
        self.number += 1
        wish = self.line.end.affordable(Wish(frozenset(wanted)), {})
        for model in self.line.end.missing(wish):
            self.line.join(model, None, float(self.number), wish)

    @precondition(lambda self: self.line.waiting)
    @rule(fails=st.booleans())
    def turn(self, fails):
        item = self.line.begin()
        if item.load is not None:
            if item.load.from_host:
                assert item.model in self.host
            for gone in item.load.evictions:
                self.device.remove(gone.model)
                self.host -= set(gone.forgotten)
                self.host |= {gone.model} if gone.shelved else set()
            self.host.discard(item.model)
            if fails:
                self.line.fail(item)
                return
            assert item.model not in self.device
            self.device.add(item.model)
        assert item.model in self.device
        if item.job is not None:
            assert item.job > self.latest
            self.latest = item.job

    @precondition(lambda self: any(item.job is not None for item in self.line.waiting))
    @rule(which=st.integers(0, 1000))
    def leave(self, which):
        jobs = [item for item in self.line.waiting if item.job is not None]
        self.line.leave(jobs[which % len(jobs)])

    @invariant()
    def memory_is_as_it_should_be(self):
        if not hasattr(self, "line"):
            return
        for memory in (self.line.front, self.line.end):
            assert memory.taken_gb <= memory.memory_gb
            assert sum(SIZES[model] for model in memory.host) <= memory.host_memory_gb
            assert memory.pinned <= memory.resident
            assert not memory.resident & set(memory.host)
        assert self.line.front.resident == self.device
        assert set(self.line.front.host) == self.host


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
