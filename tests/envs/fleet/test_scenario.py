"""Fleet scenarios that can not be: one sentence each; and what the draws promise."""

from typing import Any

import numpy as np
import pytest
from fleets import MODELS, small

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario, scenario_names
from edgegen.envs.fleet.draws import draw_requests


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
    episodes = 4 if scenario.sites > 16 else 60
    requests = draw_requests(scenario, 1, range(episodes))
    work_s = np.array([model.full_work_s for model in scenario.kinds_of_models])
    arrived = sum(work_s[requests.model[e, : requests.number[e]]].sum() for e in range(episodes))
    load = arrived / (episodes * scenario.duration_s * sum(scenario.site_speed))
    assert load == pytest.approx(scenario.load, rel=0.1 if scenario.bursts else 0.04)
    assert all((np.diff(requests.arrival_s[e, : requests.number[e]]) >= 0).all() for e in range(episodes))


def test_hot_spots_and_popularity_are_as_stated() -> None:
    requests = draw_requests(load_scenario("fleet-8:mixed"), 1, range(40))
    for e in range(40):
        minute = requests.arrival_s[e] < 60
        share = np.sort(np.bincount(requests.home[e][minute], minlength=8))[::-1] / minute.sum()
        assert share[:2].sum() == pytest.approx(12 / 18, abs=0.16)
