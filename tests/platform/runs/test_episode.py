# SPDX-License-Identifier: Apache-2.0
"""One episode of several policies: on the same arrivals, as comparisons have it, and only where it can be shown."""

from typing import Any

import numpy as np
import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.runs import episode
from edgegen.platform.runs.episode import play_episode
from edgegen.platform.runs.evaluation import evaluate

RULES = ("price-greedy", "earliest")


@pytest.fixture(scope="module")
def world() -> Any:
    return load_scenario("fleet-8:scarce-s4", {"frames": 2, "frame_s": 10})


def test_policies_share_the_arrivals_and_get_what_an_evaluation_says(world: Any) -> None:
    told: list[str] = []
    policies = {rule: make_policy(rule, world, 3) for rule in RULES}
    shown = play_episode(world, policies, number=2, seed=3, on_policy=told.append)
    assert tuple(told) == RULES == tuple(one.label for one in shown.played)
    first, second = (one.record for one in shown.played)
    for name, values in first.arrivals.items():
        assert (values == second.arrivals[name]).all()
    assert (first.served["delay_s"] != second.served["delay_s"]).any()
    for one in shown.played:
        measured = evaluate(world, policies[one.label], 3, seed=3)
        assert measured["requests"][2] == len(one.record.arrivals["arrival_s"])
        for metric in ("utility", "late_share", "loads", "p95_delay_s"):
            assert one.values[metric][0] == measured[metric][2]
        assert np.mean(one.record.served["utility"]) == pytest.approx(measured["utility"][2])


def test_a_world_without_a_timeline_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        play_episode(load_scenario("demo"), {})
    assert str(refused.value) == (
        "Scenario 'demo' is of the kind offloading, but only episodes of the kind fleet can be shown."
    )


def test_an_episode_of_too_many_requests_is_refused(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode, "MOST_REQUESTS", 3)
    with pytest.raises(InputError, match=r"has [0-9]+ requests, but at most 3 can be shown"):
        play_episode(world, {"earliest": make_policy("earliest", world, 0)})
