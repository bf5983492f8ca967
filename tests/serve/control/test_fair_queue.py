# SPDX-License-Identifier: Apache-2.0
"""Fair turns: shares by weight, priorities within a tenant, no credit for pauses, and what waits ahead."""

from __future__ import annotations

from collections import Counter

import pytest

from edgegen.serve.control.fair_queue import MOST_TENANTS, FairQueue, Held


def everything(model):
    return True


def served(queue, count, is_open=everything):
    return [queue.next(is_open) for _ in range(count)]


def filled(*tenants, count=10, work=1.0, **options):
    queue = FairQueue(**options)
    for _ in range(count):
        for tenant in tenants:
            queue.add(Held(tenant, "m", work))
    return queue


def test_order_of_arrival_where_there_is_one_tenant():
    queue = FairQueue()
    asked = [Held("a", "m", 1.0 + number % 3) for number in range(6)]
    for one in asked:
        queue.add(one)
    assert queue.work_gcycles == 12
    assert served(queue, 7) == [*asked, None]
    assert (len(queue), queue.work_gcycles) == (0, 0)


def test_flood_of_one_tenant_does_not_hold_up_another():
    queue = filled("loud", count=100)
    served(queue, 10)
    queue.add(Held("quiet", "m", 1.0))
    assert [one.tenant for one in served(queue, 2)].count("quiet") == 1


@pytest.mark.parametrize(("weights", "shares"), [({}, (10, 10)), ({"a": 3.0}, (15, 5)), ({"b": 4.0}, (4, 16))])
def test_shares_of_work_are_as_the_weights(weights, shares):
    queue = filled("a", "b", count=30, weights=weights)
    counts = Counter(one.tenant for one in served(queue, 20))
    assert (counts["a"], counts["b"]) == pytest.approx(shares, abs=1)


def test_shares_are_of_work_and_not_of_requests():
    queue = FairQueue()
    for _ in range(40):
        queue.add(Held("large", "m", 4.0))
        queue.add(Held("small", "m", 1.0))
    counts = Counter(one.tenant for one in served(queue, 25))
    assert counts["small"] == pytest.approx(4 * counts["large"], abs=4)


def test_pause_saves_nothing_up():
    queue = filled("busy", count=50)
    queue.add(Held("back", "m", 1.0))
    served(queue, 30)
    for _ in range(10):
        queue.add(Held("back", "m", 1.0))
    assert Counter(one.tenant for one in served(queue, 10)) == {"busy": 5, "back": 5}


def test_leaving_and_coming_back_pays_no_debt_off():
    queue = filled("other", count=20)
    queue.add(Held("sly", "m", 10.0))
    assert "sly" in [one.tenant for one in served(queue, 2)]  # ten units of work at once
    for _ in range(8):
        queue.add(Held("sly", "m", 1.0))
    assert {one.tenant for one in served(queue, 9)} == {"other"}


def test_priorities_are_among_requests_of_one_tenant():
    queue = FairQueue()
    low, normal, high = (Held("a", "m", 1.0, priority) for priority in range(3))
    other = Held("b", "m", 1.0, 0)
    for one in (low, normal, other, high):
        queue.add(one)
    order = served(queue, 4)
    assert [one for one in order if one.tenant == "a"] == [high, normal, low]
    assert order.index(other) < 2


def test_model_without_an_edge_holds_up_no_other_model():
    queue = FairQueue()
    blocked, free, later = Held("a", "busy", 1.0, 2), Held("a", "idle", 1.0), Held("b", "busy", 1.0)
    for one in (blocked, free, later):
        queue.add(one)
    asked = []

    def is_open(model):
        asked.append(model)
        return model == "idle"

    assert served(queue, 2, is_open) == [free, None]
    assert asked.count("busy") == 2  # once each time, however many wait for it
    assert served(queue, 2) in ([blocked, later], [later, blocked])


def test_removed_request_is_not_served():
    queue = FairQueue()
    one, other = Held("a", "m", 1.0), Held("a", "m", 2.0)
    queue.add(one)
    queue.add(other)
    assert queue.remove(one)
    assert not queue.remove(one)
    assert served(queue, 2) == [other, None]


def test_work_ahead_is_what_is_served_before():
    queue = filled("a", count=6, work=2.0)
    queue.add(Held("b", "m", 2.0))
    new = Held("a", "m", 2.0)
    assert queue.ahead_gcycles(new) == 14
    quick = Held("a", "m", 2.0, 2)
    assert queue.ahead_gcycles(quick) <= 2
    stranger = Held("c", "m", 2.0)
    expected = queue.ahead_gcycles(stranger)
    queue.add(stranger)
    order = served(queue, 8)
    assert expected == pytest.approx(sum(one.work_gcycles for one in order[: order.index(stranger)]), abs=2)


def test_last_one_is_the_last_to_be_served():
    queue = filled("a", "b", count=3)
    queue.add(Held("a", "m", 1.0, 0))
    last = queue.last()
    assert (last.tenant, last.priority) == ("a", 0)
    assert queue.would_be_before(Held("c", "m", 1.0), last)
    assert not FairQueue.would_be_before(filled("b", "c", count=3), Held("c", "m", 1.0), Held("b", "m", 1.0))
    assert served(queue, 7)[-1] is last
    assert queue.last() is None


def test_made_up_names_are_not_remembered_for_ever():
    """Every request has a user of its own, which costs its sender nothing; who has much to pay is not forgotten."""
    queue = FairQueue()
    for _ in range(3):
        queue.add(Held("flood", "m", 1000.0))
        assert queue.next(lambda model: True) is not None
    for number in range(3 * MOST_TENANTS):
        queue.add(Held(f"user-{number}", "m", 1.0))
        assert queue.next(lambda model: True) is not None
        assert len(queue._tenants) <= MOST_TENANTS + 1
    queue.add(Held("flood", "m", 1.0))
    queue.add(Held("late", "m", 1.0))
    turns = [queue.next(lambda model: True) for _ in range(2)]
    assert [held.tenant for held in turns if held is not None] == ["late", "flood"]
