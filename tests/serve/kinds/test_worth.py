# SPDX-License-Identifier: Apache-2.0
"""What requests are worth, by hand."""

from __future__ import annotations

import math

import pytest

from edgegen.serve.config import build_config
from edgegen.serve.control.jobs import EdgeReport
from edgegen.serve.control.live_world import Task
from edgegen.serve.kinds.facts import open_books
from edgegen.serve.kinds.worth import Worth

MODEL = {"cycles_per_step_gcycles": 0.1, "default_steps": 20, "fixed_gcycles": 0.5, "size_gb": 2, "load_s": 3}
CLOUD = {"distance_s": 1.5, "price": 0.2, "price_per_work_s": 0.01}
CONFIG = build_config(
    {
        "models": {"m": MODEL, "n": MODEL},
        "edges": [
            {"name": "a", "models": ["m", "n"], "capacity_gcycles_s": 2, "memory_gb": 2},
            {"name": "far", "models": ["m", "n"], "capacity_gcycles_s": 5, "cloud": CLOUD},
        ],
        "deadline_s": 10,
        "utility": {"late_penalty": 0.3, "delay_price": 0.01, "hop_price": 0.05},
    }
)
QUARTER = math.expm1(-3.5 / 4) / math.expm1(-3.5)
"""Quality with a quarter of the steps on the usual curve."""


def worth(of="utility"):
    books = open_books(CONFIG)
    books[0].hear(EdgeReport("a", 1, (("x", 4.0),), 0, 0.0, 2.0, 0.1, 0, None, ("m",), (("n", 3.0),)), 100.0)
    assert books[0].ledger is not None
    return Worth(CONFIG, books[0].ledger, of)


def task(home="a", model="m"):
    return Task(model, home, 2.5, 0.0, 0.0, steps=20, deadline_s=10.0, weight=2.0)


def test_a_picture_in_time_is_worth_its_quality_less_its_delay():
    assert worth().made(task(), "a", 20, 4.0) == pytest.approx(2 - 0.04)
    assert worth().made(task(), "a", 5, 4.0) == pytest.approx(2 * QUARTER - 0.04)
    assert worth().made(task("b"), "a", 20, 4.0) == pytest.approx(2 - 0.04 - 0.05)


def test_a_late_one_costs():
    assert worth().made(task(), "a", 20, 10.5) == pytest.approx(-0.6 - 0.105)
    assert worth().lost(task()) == pytest.approx(-0.6 - 0.1)


def test_the_cloud_has_a_price():
    assert worth().made(task(), "far", 20, 4.0) == pytest.approx(2 - 0.04 - 0.2 - 0.01 * 2.5)


def test_what_is_expected_is_the_delay_behind_all_others():
    assert worth().expect(task(), "a", 101.0) == pytest.approx(2 - 0.01 * (1 + 2.5 / 2))
    assert worth().expect(task(model="n"), "a", 101.0) == pytest.approx(2 - 0.01 * (1 + 3 + 2.5 / 2))
    assert worth().expect(task(), "far", 101.0) == pytest.approx(2 - 0.01 * (1.5 + 0.5) - 0.2 - 0.025)


def test_delay_alone_may_count():
    assert worth("delay").made(task(), "a", 5, 4.0) == -4
    assert worth("delay").lost(task()) == -10
    assert worth("delay").expect(task(), "a", 101.0) == pytest.approx(-2.25)
