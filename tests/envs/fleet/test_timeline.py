# SPDX-License-Identifier: Apache-2.0
"""The timeline of a fleet: by hand, against the meter, and what no memory and no queue can do."""

from typing import Any

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.play import Turn, play
from edgegen.algorithms.core.policy import Memory, Policy
from edgegen.envs.core.timeline import Record
from edgegen.envs.fleet.meter import UtilityMeter
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.timeline import FleetTimeline
from edgegen.envs.fleet.world import FleetWorld
from tests.envs.fleet.fleets import changes, requests_of, small


class Anything(Policy):
    """Decides by chance."""

    roles = frozenset({"cacher", "router", "allocator"})

    def __init__(self, scenario: FleetScenario, seed: int) -> None:
        self.scenario, self.rng = scenario, np.random.default_rng(seed)

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[torch.Tensor, Memory]:
        if role == "cacher":
            wanted = self.rng.random((1, self.scenario.sites, len(self.scenario.kinds_of_models))) < 0.4
            return torch.from_numpy(wanted), memory
        if role == "router":
            return torch.tensor([[int(self.rng.integers(self.scenario.choices))]]), memory
        return torch.full((1, 1, 1, 1), float(self.rng.random()), dtype=torch.float64), memory


class Told(Policy):
    """Does what it is told, turn by turn."""

    roles = frozenset({"cacher", "router", "allocator"})

    def __init__(self, scenario: FleetScenario, frames: list[set[int]], sites: list[int]) -> None:
        self.shape = (1, scenario.sites, len(scenario.kinds_of_models))
        self.frames, self.sites = iter(frames), iter(sites)

    def act(self, role: str, view: Any, memory: Memory, explore: bool = True) -> tuple[torch.Tensor, Memory]:
        if role == "cacher":
            wanted = torch.zeros(self.shape, dtype=torch.bool)
            wanted[..., list(next(self.frames))] = True
            return wanted, memory
        if role == "router":
            return torch.tensor([[next(self.sites)]]), memory
        return torch.ones((1, 1, 1, 1)), memory


def recorded(world: FleetWorld, policy: Policy) -> tuple[Record, dict[str, Any]]:
    """Play a world; what was recorded of it and what was measured."""
    timeline, meter = FleetTimeline(world), UtilityMeter(world)

    def watch(turn: Turn) -> None:
        meter.add(turn.role, turn.view, turn.outcome)
        timeline.add(turn.role, turn.view, turn.outcome)

    play(world, policy, watch=watch)
    return timeline.record(), meter.values()


def rows(table: Any) -> list[tuple[float, ...]]:
    return sorted(zip(*(column.tolist() for column in table.values()), strict=True))


def test_an_episode_by_hand() -> None:
    """Models 0, 1, 2 take 2, 3, 1.5 GB and 1.5, 1.5, 2 s to load; site 0 has 5 GB and speed 2, site 1 3 GB."""
    requests = requests_of(
        [
            (1.0, 0, 0, 1.0, 8.0, 2.0),  # 10 steps of 0.1 s at speed 2: until 1.5
            (1.25, 0, 1, 1.0, 8.0, 1.0),  # waits 0.25 s, loads until 3, 10 steps of 0.2 s at speed 2: until 4
            (6.0, 1, 1, 1.0, 8.0, 0.5),  # at site 1, after the load for the frame
            (6.5, 2, 0, 1.0, 8.0, 1.0),  # in the cloud
        ]
    )
    scenario = small()
    world = FleetWorld(scenario, requests=requests)
    record, values = recorded(world, Told(scenario, [{0}, {2}, {2}], [0, 0, 1, 3]))
    assert record.duration_s == 15
    assert record.sites[0] == "speed 2, 5 GB"
    assert record.served["site"].tolist() == [0, 0, 1, 3]
    assert record.arrivals["asked"].tolist() == [10] * 4
    loads = [
        (0, 1, 1, 1.25, 1.5, 3.0),
        *((site, 2, -1, 5.0, 5.0, 7.0) for site in range(3)),  # what the frame brings
        (1, 1, 2, 6.0, 7.0, 8.5),  # drives out model 2, of 1.5 GB beside the 3 GB
        (1, 2, -1, 10.0, 10.5, 12.5),  # 2 s of generation until 10.5; then the frame has it back
    ]
    assert rows(record.loads) == sorted(loads)
    assert values["loads"][0] * 4 == len(loads)
    assert rows(record.queues) == sorted(
        [
            (0, 1.0, 1.5), (0, 1.25, 4.0), (0, 5.0, 7.0), (1, 5.0, 7.0), (2, 5.0, 7.0), (1, 6.0, 10.5),
            (1, 10.0, 12.5),
        ]
    )  # fmt: skip
    assert rows(record.residents) == sorted(
        [
            (0, 0, 0.0, 5.0), (0, 1, 1.5, np.inf), (0, 2, 5.0, np.inf),
            (1, 0, 0.0, 5.0), (1, 2, 5.0, 7.0), (1, 1, 7.0, 10.5), (1, 2, 10.5, np.inf),
            (2, 0, 0.0, np.inf), (2, 2, 5.0, np.inf),
        ]
    )  # fmt: skip
    assert record.end_s == 15
    assert not record.troubles["site"].size


def test_a_site_that_fails_forgets_when_its_queue_is_done() -> None:
    requests = requests_of([(1.0, 0, 0, 1.0, 8.0, 1.0), (6.0, 0, 0, 1.0, 8.0, 1.0)])
    scenario = small(outages={"factor": 0, "mean_up_s": 9, "mean_down_s": 7, "keeps_models": False})
    requests = requests._replace(happens=changes(scenario, 0.0, [1.25, 3.0]))
    record, values = recorded(FleetWorld(scenario, requests=requests), Told(scenario, [{0}, {0}, {0}], [0, 0]))
    assert rows(record.troubles) == [(0, 1.25, 3.0, 0.0)]
    assert record.served["generation_s"].tolist() == [2.25, 0.5]  # the first one stands still for 1.75 s
    assert [row[:4] for row in rows(record.residents) if row[0] == 0] == [(0, 0, 0.0, 3.25), (0, 0, 5.0, np.inf)]
    assert rows(record.loads) == [(0, 0, -1, 5.0, 5.0, 6.5)]
    assert values["loads"][0] * 2 == 1


FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "refusing": {"refuse_price": 0.1},
    "with a host": {"loading": {"host_memory_gb": [4, 2, 3], "host_s": 0.2, "noise": {"low": 0.5, "high": 2}}},
    "failing": {"outages": {"factor": 0, "mean_up_s": 4, "mean_down_s": 2, "keeps_models": False}, "frames": 6},
    "slow": {"outages": {"factor": 0.4, "mean_up_s": 4, "mean_down_s": 2}},
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_recorded_is_what_is_measured_and_what_is_possible(feature: str, seed: int) -> None:
    scenario = small(**{"load": 1.2, **FEATURES[feature]})
    world = FleetWorld(scenario)
    world.reset(seed)
    record, values = recorded(world, Anything(scenario, seed))
    served, count = record.served, len(record.arrivals["arrival_s"])
    assert count == values["requests"][0] > 10
    assert len(record.loads["site"]) == round(values["loads"][0] * count) == world.books.loads[0] > 0
    assert served["late"].mean() == pytest.approx(values["late_share"][0])
    assert served["utility"].mean() == pytest.approx(values["utility"][0])
    assert (served["site"] > scenario.sites).mean() == pytest.approx(values["refused_share"][0])
    assert (served["site"] == scenario.sites).mean() == pytest.approx(values["cloud_share"][0])
    here = served["site"] < scenario.sites
    loaded = record.loads["request"][record.loads["request"] >= 0]
    assert sorted(loaded) == np.flatnonzero(here & (served["load_s"] > 0)).tolist()
    _check_queues(record, world)
    _check_memory(record, world)


def _check_queues(record: Record, world: FleetWorld) -> None:
    """A site does one thing at a time, and is done when its books say so."""
    begun_s = record.arrivals["arrival_s"] + record.served["wait_s"]
    made_s = begun_s + record.served["load_s"] + record.served["generation_s"]
    for site in range(world.scenario.sites):
        own, loads = record.served["site"] == site, record.loads["site"] == site
        plans = loads & (record.loads["request"] < 0)
        begins = np.concatenate([begun_s[own], record.loads["begun_s"][plans]])
        ends = np.concatenate([made_s[own], record.loads["done_s"][plans]])
        order = np.argsort(begins, kind="stable")
        assert (begins[order][1:] >= ends[order][:-1] - 1e-9).all()
        free_s = record.queues["free_s"][record.queues["site"] == site]
        assert free_s.tolist() == pytest.approx(np.sort(ends).tolist())
        assert free_s.max(initial=0.0) == pytest.approx(world.books.free_s[0, site])


def _check_memory(record: Record, world: FleetWorld) -> None:
    """Memory is never exceeded, has what is made there, and ends as the books say."""
    held, scenario = record.residents, world.scenario
    assert (held["from_s"] <= held["until_s"]).all()
    size_gb = np.array([model.size_gb for model in scenario.kinds_of_models])[held["model"]]
    for site, limit_gb in enumerate(scenario.site_memory_gb):
        for now_s in held["from_s"][held["site"] == site]:
            there = (held["site"] == site) & (held["from_s"] <= now_s) & (now_s < held["until_s"])
            assert size_gb[there].sum() <= limit_gb + 1e-9
    at_the_end = np.isinf(held["until_s"])
    left = np.zeros_like(world.books.resident[0])
    left[held["site"][at_the_end], held["model"][at_the_end]] = 1
    assert (left == world.books.resident[0]).all()
    begun_s = record.arrivals["arrival_s"] + record.served["wait_s"]
    done_s = begun_s + record.served["load_s"] + record.served["generation_s"]
    for k in np.flatnonzero(record.served["site"] < scenario.sites):
        own = (held["site"] == record.served["site"][k]) & (held["model"] == record.arrivals["model"][k])
        assert (own & (held["from_s"] <= begun_s[k] + 1e-9) & (held["until_s"] >= done_s[k] - 1e-9)).any()


def test_only_one_copy_has_a_timeline() -> None:
    with pytest.raises(ValueError, match="one copy"):
        FleetTimeline(FleetWorld(small(), 2))
