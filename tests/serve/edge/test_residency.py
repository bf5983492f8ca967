# SPDX-License-Identifier: Apache-2.0
"""Memory of an edge: the same as in a fleet world, with pins and scores beside that."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.fleet.books import empty_books, fixed_of
from edgegen.envs.fleet.memory import bring
from edgegen.envs.fleet.physics import FORGETTING as FORGETTING_THERE
from edgegen.envs.fleet.physics import keep_all
from edgegen.serve.edge.residency import FORGETTING, Eviction, Load, Residency, Wish

SIZES = {"a": 2.0, "b": 3.0, "c": 1.0, "d": 4.0}


def memory(resident="", memory_gb=6.0, **options):
    made = Residency(SIZES, memory_gb, **options)
    for model in resident:
        assert made.bring(model) is not None
    return made


def test_what_was_asked_for_longest_ago_goes_first():
    room = memory("abc")
    for at_s, model in enumerate("cab", 1):
        room.use(model, at_s)
    assert room.bring("d") == Load("d", evictions=(Eviction("c"), Eviction("a"), Eviction("b")))
    assert room.resident == {"d"}


def test_it_evicts_no_more_than_it_has_to():
    room = memory("abc", memory_gb=9)
    for at_s, model in enumerate("bca", 1):
        room.use(model, at_s)
    assert room.bring("d") == Load("d", evictions=(Eviction("b"),))
    assert room.resident == {"a", "c", "d"}
    assert room.bring("d") is None


def test_what_is_wanted_goes_last_and_scores_come_before_age():
    wish = Wish(frozenset("b"), {"a": 0.7, "c": 0.2})
    room = memory("abc")
    room.use("b", 1.0)
    room.use("c", 9.0)
    room.use("a", 5.0)
    assert [gone.model for gone in room.bring("d", wish).evictions] == ["c", "a", "b"]


def test_pins_stay():
    room = memory("abc", pinned=["a"])
    assert [gone.model for gone in room.bring("d").evictions] == ["b", "c"]
    assert room.resident == {"a", "d"}


def test_an_edge_starts_with_its_pins_and_what_else_has_room_in_order():
    assert Residency(SIZES, 6.0).at_start() == ("a", "b", "c")
    assert Residency(SIZES, 6.0, pinned=["d"]).at_start() == ("d", "a")
    assert Residency(SIZES).at_start() == tuple(SIZES)


def test_a_wish_that_has_no_room_loses_what_is_least_asked_for_and_of_equals_the_last():
    room = memory()
    demand = {"a": 2.0, "b": 1.0, "c": 1.0, "d": 5.0}
    assert room.affordable(Wish(frozenset("abcd")), demand).wanted == {"a", "d"}
    assert room.affordable(Wish(frozenset("abcd")), {}).wanted == {"a", "b", "c"}
    assert room.affordable(Wish(frozenset("abcd"), {"c": 1.0, "d": 0.5}), demand).wanted == {"c", "d"}
    assert memory(pinned=["b"]).affordable(Wish(frozenset("d")), demand).wanted == {"b"}


def test_the_host_keeps_the_latest_that_fit():
    room = memory("abc", host_memory_gb=3)
    room.use("b", 1.0)
    room.use("c", 2.0)
    first = room.bring("d")
    assert [(gone.model, gone.shelved, gone.forgotten) for gone in first.evictions] == [
        ("a", True, ()),
        ("b", True, ("a",)),
    ]
    assert room.host == ["b"]
    assert room.bring("b") == Load("b", from_host=True, evictions=(Eviction("d"),))  # which is too large for the host
    assert room.host == []


CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("job"), st.integers(0, 5)),
        st.tuples(st.just("keep"), st.sets(st.integers(0, 5))),
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def fleet():
    """A scenario whose constants the test replaces."""
    return fixed_of(load_scenario("fleet-8"))


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=6, max_size=6),
    memory_gb=st.integers(5, 12),
    host_gb=st.integers(0, 8),
    calls=CALLS,
)
def test_memory_is_that_of_a_fleet_world(fleet, sizes, memory_gb, host_gb, calls):
    names = [f"m{number}" for number in range(6)]
    fixed = fleet._replace(
        memory_gb=np.array([float(memory_gb)]),
        host_gb=np.array([float(host_gb)]),
        size_gb=np.array(sizes, dtype=np.float64),
        load_s=np.arange(1.0, 7.0),
        host_s=0.5,
        forgetful=False,
    )
    books = empty_books(1, 1, 6)
    here = Residency(dict(zip(names, map(float, sizes), strict=True)), memory_gb, host_memory_gb=host_gb)
    wish, demand = Wish(), dict.fromkeys(names, 0.0)
    for number, (call, what) in enumerate(calls, 1):
        took_s = 0.0
        if call == "job":
            load = here.bring(names[what], wish)
            here.use(names[what], float(number))
            demand[names[what]] += 1
            loads = [] if load is None else [load]
            took_s = bring(fixed, books, 0, 0, what, False)[1]
            books.used_s[0, 0, what] = number
            books.demand[0, 0, what] += 1
        else:
            wish = here.affordable(Wish(frozenset(names[model] for model in what)), demand)
            loads = [load for model in here.missing(wish) if (load := here.bring(model, wish)) is not None]
            demand = {model: FORGETTING * value for model, value in demand.items()}
            books.wanted[0, 0] = [model in what for model in range(6)]
            before = books.free_s[0, 0]
            keep_all(fixed, books, 0.0, False)
            took_s = books.free_s[0, 0] - before
            assert wish.wanted == {name for name, on in zip(names, books.wanted[0, 0], strict=True) if on}
        assert here.resident == {name for name, on in zip(names, books.resident[0, 0], strict=True) if on}
        order = books.host[0, 0]
        assert here.host == [names[model] for model in np.argsort(order, kind="stable") if order[model] > 0]
        expected_s = sum(0.5 if load.from_host else 1.0 + names.index(load.model) for load in loads)
        assert math.isclose(took_s, expected_s, abs_tol=1e-9)
    assert FORGETTING == FORGETTING_THERE
