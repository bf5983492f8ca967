# SPDX-License-Identifier: Apache-2.0
"""Fleet scenarios that can not be: one sentence each; and what the draws promise."""

from typing import Any

import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario, scenario_names
from edgegen.envs.fleet.draws import ASKED, EXTRA, draw_requests
from tests.envs.fleet.fleets import MODELS, small


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": [{**MODELS[0], "size_gb": 4}]}, "model 0 takes 4 GB, but the smallest site has 3 GB"),
        ({"models": [{**MODELS[0], "load_s": 0}]}, "load_s"),
        ({"load": 0}, "load"),
        ({"models": [{**MODELS[0], "full_quality": 0.2}]}, "least_quality (0.3) must not exceed full_quality (0.2)"),
        ({"models": [{**MODELS[0], "least_steps": 11}]}, "least_steps (11) must not exceed full_steps (10)"),
        ({"deadline_s": {"low": 0.3, "high": 3}}, "deadlines must be longer"),
        ({"weight": {"low": 3, "high": 2}}, "low (3) must not exceed high (2)"),
        ({"weight": {"low": 0, "high": 2, "shape": {"kind": "loguniform"}}}, "loguniform needs a low above 0"),
        ({"pictures": {"low": 0.5, "high": 2}}, "pictures is between 0.5 and 2, but must be between 1"),
        ({"memory_gb": [5]}, "memory_gb has 1 entries for 3 speeds"),
        ({"model_speed": [[1, 1]]}, "model_speed has 1 entries for 3 speeds"),
        ({"model_speed": [[1, 1]] * 3}, "model_speed.0 has 2 entries, but needs one per model"),
        ({"model_speed": [[1, 1, 0]] * 3}, "model_speed.0.2"),
        ({"loading": {"host_memory_gb": [1], "host_s": 1}}, "loading.host_memory_gb has 1 entries for 3 speeds"),
        ({"loading": {"host_s": 1}}, "host_memory_gb and loading.host_s belong together"),
        ({"loading": {"noise": {"low": 0, "high": 1}}}, "loading.noise.low is 0"),
        ({"service_noise": {"low": 0, "high": 1}}, "service_noise.low is 0"),
        ({"asked_steps": {"low": 0, "high": 9}}, "asked_steps is between 0 and 9"),
        ({"outages": {"factor": 1, "mean_up_s": 9, "mean_down_s": 9}}, "outages.factor"),
        ({"outages": {"factor": 0, "mean_up_s": 0.1, "mean_down_s": 9}}, "outages.mean_up_s"),
        (
            {"outages": {"factor": 0.5, "mean_up_s": 9, "mean_down_s": 9, "keeps_models": False}},
            "keeps_models can be false only where factor is 0",
        ),
        ({"hop_s": [[1, 1, 1]]}, "hop_s has 1 rows for 3 sites"),
        ({"rate_mbit_s": [[1, 1]] * 3}, "rate_mbit_s.0 has 2 entries, but needs one per site"),
        ({"rate_mbit_s": [[1, 0, 1]] * 3}, "rate_mbit_s.0.1"),
        ({"hop_s": [[0, 0, 9]] * 3}, "takes 9 s; deadlines must be longer"),
        ({"rate_mbit_s": "fast"}, "rate_mbit_s"),
        ({"radio": {}}, "radio needs an upload_mbit above 0"),
        ({"day": {"period_s": 9, "hours": [0, 0]}}, "day.hours must not all be 0"),
        ({"day": {"period_s": 9, "hours": [1, 2], "amplitude": 0.5}}, "stand instead of an amplitude"),
        ({"curve": {"kind": "exponential", "rate": 2}}, "model 0 has least_quality and a curve"),
        ({"models": [{**MODELS[0], "least_quality": None}]}, "model 0 has neither least_quality nor a curve"),
        ({"curve": {"kind": "points", "steps": [0.5, 1], "quality": [1, 0.5]}}, "quality must rise, but 0.5 follows 1"),
        ({"curve": {"kind": "points", "steps": [0.5, 0.5], "quality": [0, 1]}}, "steps must rise"),
        ({"curve": {"kind": "points", "steps": [0.5], "quality": [1]}}, "the last of steps is 0.5, but must be 1"),
        ({"curve": {"kind": "points", "steps": [1], "quality": [0.5, 1]}}, "quality has 2 entries for 1 steps"),
        ({"load": 1e9}, "requests in an episode"),
        ({"bursts": {"mean_calm_s": 0.1}}, "mean_calm_s"),
        ({"sites": 0}, "sites"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_impossible_scenarios_are_refused_in_a_sentence(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refused:
        small(**changes)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", scenario_names("fleet"))
def test_shipped_worlds_have_the_load_that_they_state(name: str) -> None:
    scenario = load_scenario(name)
    episodes = 4 if scenario.sites > 16 else 40
    requests = draw_requests(scenario, 1, range(episodes))
    fixed_s, step_s = (np.array([getattr(m, n) for m in scenario.kinds_of_models]) for n in ("fixed_s", "step_s"))
    work_s = step_s[requests.model] * requests.more[..., ASKED]
    if scenario.further_picture is None:
        work_s = requests.pictures * (fixed_s[requests.model] + work_s)
    else:
        work_s = fixed_s[requests.model] + work_s * (1 + scenario.further_picture * (requests.pictures - 1))
    work_s += requests.more[..., EXTRA]
    arrived = sum(work_s[e, : requests.number[e]].sum() for e in range(episodes))
    load = arrived / (episodes * scenario.duration_s * sum(scenario.site_speed))
    assert load == pytest.approx(scenario.load, rel=0.1 if scenario.bursts else 0.04)
    assert all((np.diff(requests.arrival_s[e, : requests.number[e]]) >= 0).all() for e in range(episodes))


def test_hot_spots_and_popularity_are_as_stated() -> None:
    requests = draw_requests(load_scenario("fleet-8:mixed"), 1, range(40))
    for e in range(40):
        minute = requests.arrival_s[e] < 60
        share = np.sort(np.bincount(requests.home[e][minute], minlength=8))[::-1] / minute.sum()
        assert share[:2].sum() == pytest.approx(12 / 18, abs=0.16)
