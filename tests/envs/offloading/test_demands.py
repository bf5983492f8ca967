# SPDX-License-Identifier: Apache-2.0
"""Episodes in which users ask for different things: as if each were of a scenario of its own."""

import numpy as np
import pytest
import torch

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.offloading.draws import draw_episodes, draw_members, draw_servers
from edgegen.envs.offloading.kind import KIND
from edgegen.envs.offloading.scenario import OffloadingScenario

FEW = {"tasks_per_slot": {"low": 0, "high": 2}, "steps": {"low": 10, "high": 30, "integer": True}}
BURSTS = {"traffic": {"bursts": {"factor": 3, "mean_calm_slots": 3, "mean_burst_slots": 3}}}
DEMANDS = {"demands": [FEW, BURSTS], "slots": 30}


def family(**fields) -> OffloadingScenario:
    return load_scenario("stable", {**DEMANDS, **fields}, OffloadingScenario)


def test_a_demand_is_drawn_for_every_episode() -> None:
    scenario = family()
    drawn = draw_members(scenario, 5, range(400))
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.08)
    assert drawn[7:9].tolist() == draw_members(scenario, 5, range(7, 9)).tolist()


def test_an_episode_is_what_it_would_be_in_a_scenario_of_its_own() -> None:
    scenario = family()
    episodes = range(8)
    together, of = draw_episodes(scenario, 3, episodes), draw_members(scenario, 3, episodes)
    assert set(of.tolist()) == {0, 1}
    for episode in episodes:
        member = scenario.members[of[episode]]
        alone = draw_episodes(member, 3, range(episode, episode + 1))
        width = member.max_tasks
        if of[episode]:  # traffic is drawn for both, so the one without has its own numbers of tasks
            assert torch.equal(together.present[episode, ..., :width], alone.present[0])
        counts = together.present[episode].sum(-1)
        assert int(counts.max()) <= width
        assert not together.present[episode, ..., width:].any()


def test_every_episode_has_the_load_that_was_drawn_for_it() -> None:
    scenario = family(**{"server_sets.load": 0.8, "slots": 400})
    tasks, servers = draw_episodes(scenario, 1, range(8)), draw_servers(scenario, 1, range(8))
    work = (tasks.workload_gcycles * tasks.present).sum((1, 2, 3)) / (scenario.slots + 1)
    load = work / servers.capacity_gcycles_s.sum(1)
    assert load.tolist() == pytest.approx([0.8] * 8, rel=0.12)
    total = servers.capacity_gcycles_s.sum(1)
    assert float(total.max() / total.min()) > 1.1  # 20 Gcycle of the few large tasks a slot, and 12 of the others


def test_expectations_are_means_over_demands() -> None:
    scenario = family()
    few, bursts = scenario.members
    assert scenario.max_tasks == bursts.max_tasks > few.max_tasks == 2
    assert scenario.max_workload_gcycles == pytest.approx(0.3 * 30)
    assert scenario.work_gcycles_s == pytest.approx((few.work_gcycles_s + bursts.work_gcycles_s) / 2)
    assert few.work_gcycles_s == pytest.approx(10 * 1 * 0.2 * 20)
    assert KIND.columns[1].text(scenario) == "0-15"


def test_it_survives_being_written_down_and_leaves_no_trace_where_there_is_none() -> None:
    scenario = family()
    assert build_scenario(scenario.model_dump(), OffloadingScenario) == scenario
    assert "demands" not in load_scenario("stable").model_dump()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"demands": [{}]}, "a demand needs tasks_per_slot, steps or traffic"),
        ({"demands": [{"steps": {"low": 1, "high": 9, "drawn": "per_index", "seed": 1}}]}, "must be drawn per_task"),
        ({"demands": [{"traffic": {"recorded": "city-departures"}}]}, "can not be recorded"),
        ({"demands": [{"traffic": {"hot_spots": {"servers": 11, "factor": 2}}}]}, "only 10 servers"),
        ({"demands": [{"tasks_per_slot": {"low": 1, "high": 9e9}}]}, "tasks_per_slot.high"),
        ({"demands": [{"tasks": {"low": 1, "high": 9}}]}, "tasks"),
        ({"demands": [FEW], "steps": {"low": 1, "high": 9, "drawn": "per_index", "seed": 1}}, "per_task"),
    ],
)
def test_demands_that_can_not_be_are_refused_in_one_sentence(fields, complaint) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        load_scenario("stable", fields)
    assert len(str(caught.value).splitlines()) == 1
