# SPDX-License-Identifier: Apache-2.0
"""The ledger of all edges, on states made by hand: what edges have to do, and what is in their memories."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import EdgeReport
from edgegen.serve.control.ledger import Ledger

MODELS = ("m", "n", "o")


def ledger(**options):
    """Two edges of 4 and 2 Gcycle/s with room for two of three models, and their books."""
    books = [Server(name, MODELS, 450.0, 1.0, 9, memory_gb=5.0, **options) for name in "ab"]
    made = Ledger(books, MODELS, (2.0, 2.0, 3.0), (1.0, 1.5, 2.0))
    for server, capacity in zip(books, (4.0, 2.0), strict=True):
        server.hear(report(server.name, capacity=capacity), 10.0)
    return made, books


def report(name, *jobs, capacity=4.0, resident=(), **fields):
    return EdgeReport(name, 1, jobs, 0, 0.0, capacity, 0.1, 0, None, resident, **fields)


def test_reports_say_what_is_left_to_do_and_how_fast():
    made, books = ledger()
    assert made.backlog_s(10.0).tolist() == [0, 0]
    books[0].hear(report("a", ("1", 6.0), ("load n", 6.0), ("2", 2.0), load_s=(("n", 2.5), ("strange", 9.0))), 11.0)
    assert made.backlog_s(11.0).tolist() == [3.5, 0]  # 14 Gcycle at 4 Gcycle/s
    assert made.backlog_s(12.0).tolist() == [2.5, 0]
    assert made.backlog_s(99.0).tolist() == [0, 0]
    assert made.mean_backlog_s(12.0) == 1.25
    assert made.load_s[0].tolist() == [1.0, 2.5, 2.0]
    assert made.heard_at.tolist() == [11, 10]


def test_what_is_placed_counts_with_the_load_that_it_needs():
    made, books = ledger()
    books[1].admit("1", 4.0, 10.0, "n")
    assert made.backlog_s(10.0).tolist() == [0, 3.5]
    assert made.resident[1].tolist() == [False, True, False]
    books[1].admit("2", 4.0, 11.0, "n")  # it will be there by then
    assert made.backlog_s(11.0).tolist() == [0, 4.5]
    books[1].admit("3", 2.0, 50.0, "n")
    assert made.backlog_s(50.0).tolist() == [0, 1]


def test_what_is_taken_back_counts_no_more():
    made, books = ledger()
    books[0].admit("1", 8.0, 10.0, "m")
    books[0].admit("2", 12.0, 10.0, "m")
    assert made.backlog_s(10.0)[0] == 6
    books[0].drop("2", 11.0)
    assert made.backlog_s(11.0)[0] == 2
    books[0].drop("strange", 11.0)
    assert made.backlog_s(11.0)[0] == 2


def test_a_job_that_the_edge_had_not_got_when_it_reported_counts():
    made, books = ledger()
    books[0].admit("1", 8.0, 10.0, "o")
    books[0].hear(report("a", resident=("m",), expected=("m",)), 10.0)
    assert made.backlog_s(10.0)[0] == 4  # load and work
    assert made.resident[0].tolist() == [True, False, True]
    books[0].hear(report("a", ("1", 12.0), resident=("m",), expected=("n", "o")), 11.0)
    assert made.backlog_s(11.0)[0] == 3
    assert made.resident[0].tolist() == [False, True, True]


def test_an_edge_that_can_not_say_what_it_will_hold_is_taken_to_bring_in_what_its_jobs_need():
    made, books = ledger()
    books[0].admit("1", 8.0, 10.0, "o")
    books[0].hear(report("a", ("1", 8.0), resident=("m",)), 11.0)
    assert made.resident[0].tolist() == [True, False, True]
    books[0].drop("1", 12.0)
    books[0].hear(report("a", resident=("m",)), 12.0)
    assert made.resident[0].tolist() == [True, False, False]


def test_what_nobody_wants_and_was_asked_for_longest_ago_goes_first():
    made, books = ledger()
    for at, model in ((11.0, "n"), (12.0, "m")):
        books[0].admit(f"{at}", 1.0, at, model)
    books[0].admit("o", 1.0, 13.0, "o")  # 7 of 5 GB
    assert made.resident[0].tolist() == [True, False, True]
    made.keep(0, np.array([True, False, False]))
    books[0].admit("n", 1.0, 14.0, "n")
    assert made.resident[0].tolist() == [True, True, False]


def test_demand_is_forgotten_by_halves():
    made, _ = ledger()
    made.count("a", "m")
    made.count("a", "m")
    made.count("b", "o")
    made.next_frame()
    made.count("a", "m")
    assert made.demand.tolist() == [[2, 0, 0], [0, 0, 0.5]]
    assert made.asked.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert made.frame == 1


def test_an_edge_that_is_lost_is_not_healthy_until_it_reports():
    made, books = ledger()
    assert made.healthy.tolist() == [True, True]
    books[0].lose("gone")
    assert made.healthy.tolist() == [False, True]
    books[0].hear(report("a"), 20.0)
    assert made.healthy.tolist() == [True, True]


def test_before_the_first_report_nothing_is_known():
    books = [Server("a", ("m",), 450.0, 2.0, 9), Server("far", MODELS, 450.0, 8.0, 9, cloud=True)]
    made = Ledger(books, MODELS)
    assert made.heard_at.tolist() == [-math.inf, -math.inf]
    assert made.allowed.tolist() == [[True, False, False], [True, True, True]]
    books[0].admit("1", 4.0, 1.0)
    books[1].admit("2", 80.0, 1.0, "m")
    assert made.mean_backlog_s(1.0) == pytest.approx(2)  # the cloud does not count
