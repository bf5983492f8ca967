# SPDX-License-Identifier: Apache-2.0
"""What every live world does: it takes requests and decisions in turn, counts slots, and goes on from a state."""

from __future__ import annotations

import math

import pytest
import torch

from edgegen.envs.offloading.view import ROUTER
from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeReport
from edgegen.serve.control.live_world import Task
from edgegen.serve.kinds.offloading import LiveOffloading


class Clock:
    def __init__(self):
        self.now = 1024.0

    def __call__(self):
        return self.now


def make_live(**options):
    """A live world of three idle edges, and its clock."""
    clock = Clock()
    books = [Server(name, ("m",), 450.0, capacity, 1) for name, capacity in zip("abc", (4.0, 2.0, 1.0), strict=True)]
    for server in books:
        server.hear(EdgeReport(server.name, 1, (), 0, 0.0, server.capacity_gcycles_s, 0.1, 0, None), clock())
    return LiveOffloading(books, 0.5, clock=clock, **options), books, clock


def task(home="a"):
    return Task("m", home, 4.0, 0.001, 0.1)


def choose(server, columns=1):
    return torch.full((1, 3, columns), server)


def test_while_nothing_waits_the_view_is_that_of_a_slot_without_arrivals():
    live, books, clock = make_live()
    assert live.turn is None
    books[0].admit("1", 4.0, clock())
    books[0].admit("2", 4.0, clock())
    books[1].silent = True
    clock.now += 0.75
    view = live.observe()
    assert (view.slot, live.round) == (1, 1)
    assert view.tasks.present.shape == (1, 3, 1)
    assert not view.tasks.present.any()
    assert view.backlog_gcycles.tolist() == [[5.0, 0.0, 0.0]]
    assert view.available.tolist() == [[False, False, True]]
    assert view.capacity_gcycles_s[0].tolist() == pytest.approx([4.0, 0.002, 1.0])


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (torch.zeros(3), r"actions have shape \(3,\), expected \(1, 3, 1\)"),
        (choose(1, columns=2), r"actions have shape \(1, 3, 2\), expected \(1, 3, 1\)"),
        (choose(math.nan), "the action is nan"),
        (choose(math.inf), "the action is inf"),
        (choose(3), "the action is 3, servers are 0 to 2"),
        (choose(-1), "the action is -1, servers are 0 to 2"),
        (choose(0.5), "the action is 0.5"),
    ],
)
def test_an_impossible_action_is_refused_and_the_request_still_waits(action, words):
    live, _, _ = make_live()
    live.arrive(task("b"), [])
    with pytest.raises(ValueError, match=words):
        live.decide(action)
    assert live.turn == ROUTER
    outcome = live.decide(choose(2))
    assert (outcome.server, outcome.rewards) == ("c", {})
    assert live.turn is None


def test_only_the_cell_of_the_request_counts():
    live, _, _ = make_live()
    live.arrive(task("b"), [])
    action = choose(math.nan)
    action[0, 1, 0] = 2.0
    assert live.decide(action).server == "c"


def test_turns_are_kept():
    live, books, _ = make_live()
    with pytest.raises(ValueError, match="no request waits"):
        live.decide(choose(0))
    with pytest.raises(ValueError, match="'x' is none of the edges a, b, c"):
        live.arrive(task("x"), books)
    assert live.turn is None
    live.arrive(task(), books)
    with pytest.raises(ValueError, match="a request waits already"):
        live.arrive(task(), books)
    live.withdraw()
    with pytest.raises(ValueError, match="no request waits"):
        live.decide(choose(0))
    live.arrive(task(), books)
    assert live.observe().tasks.present.nonzero().tolist() == [[0, 0, 1]]  # the one withdrawn had arrived, too


def test_what_a_live_world_can_not_do_is_refused():
    live, _, _ = make_live()
    with pytest.raises(ValueError, match="no seed"):
        live.reset(seed=1)
    with pytest.raises(ValueError, match="an edge 'x'"):
        live.load_state_dict({"elapsed_s": 0.0, "slot": 0, "arrived": {"x": 1}})


def test_slots_and_columns_go_on_from_a_state_and_begin_anew_at_a_reset():
    live, books, clock = make_live(width=2)
    clock.now += 1.25
    live.arrive(task(), books)
    live.decide(choose(0, columns=2))
    state = live.state_dict()
    assert state == {"elapsed_s": 1.25, "slot": 2, "arrived": {"a": 1}}
    later, books, clock = make_live(width=2)
    clock.now += 100.0
    later.load_state_dict(state)
    assert (later.round, later.turn) == (2, None)
    for column in (1, 0):
        later.arrive(task(), books)
        view = later.observe()
        assert (view.slot, view.tasks.present.nonzero().tolist()) == (2, [[0, 0, column]])
        later.decide(choose(0, columns=2))
    assert state["arrived"] == {"a": 1}
    books[0].admit("1", 4.0, clock())
    view = later.reset()
    assert (view.slot, later.round, later.turn) == (0, 0, None)
    assert view.backlog_gcycles.tolist() == [[4.0, 0.0, 0.0]]  # the edges go on working
    later.arrive(task(), books)
    assert later.observe().tasks.present.nonzero().tolist() == [[0, 0, 0]]
