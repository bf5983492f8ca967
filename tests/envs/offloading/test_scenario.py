# SPDX-License-Identifier: Apache-2.0
"""Scenarios: what is shipped, what is computed from it, and what is refused."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import build_scenario, load_scenario, scenario_names
from edgegen.envs.offloading.demands import IntegerRange, Quantity
from edgegen.envs.offloading.scenario import OffloadingScenario


def test_every_shipped_scenario_loads_under_its_name() -> None:
    names = scenario_names("offloading")
    assert {"demo", "ladts-paper", "ladts-paper:n10", "ladts-stable:n40"} <= set(names)
    for name in names:
        assert load_scenario(name).name == name


def test_published_instance_is_what_the_published_seeds_give() -> None:
    # The authors draw capacities with numpy's legacy seed 2, rates with seed 5, both once.
    paper = load_scenario("ladts-paper")
    assert paper.capacity_gcycles_s == tuple(np.random.RandomState(2).randint(10, 51, 20).tolist())
    assert paper.rate_mbit_s == tuple(np.random.RandomState(5).randint(400, 501, 20).tolist())
    assert sum(paper.capacity_gcycles_s) == 656
    assert (paper.slots, paper.slot_s, paper.max_tasks) == (59, 1.0, 50)
    steps = [6, 12, 13, 9, 10, 12, 6, 1, 1, 2, 13, 8, 14, 13, 7, 10, 3, 5, 6, 3, 5, 12, 13, 11, 13]
    steps += [14, 3, 5, 8, 8, 10, 2, 8, 1, 7, 14, 10, 10, 8, 14, 7, 10, 2, 1, 13, 2, 9, 9, 14]
    assert paper.steps.by_index(49).tolist() == steps


@pytest.mark.parametrize(("tasks", "load"), [(10, 0.24), (20, 0.46), (30, 0.72), (40, 0.97), (50, 1.24), (60, 1.48)])
def test_load_factors_of_the_published_servers(tasks: int, load: float) -> None:
    scenario = load_scenario("ladts-paper", {"tasks_per_slot.high": tasks})
    assert scenario.load == pytest.approx(load, abs=0.0075)  # the reference is rounded, and sampled over 20 episodes


def test_load_of_the_stable_scenarios() -> None:
    assert load_scenario("ladts-stable:n30").load == pytest.approx(0.72, abs=0.0075)
    assert load_scenario("ladts-stable:n40").load == pytest.approx(0.97, abs=0.0075)
    # Per task: mean steps 7.5 times mean work per step 0.2 = 1.5 Gcycle. 5 servers, 8 tasks each on average,
    # 76 Gcycle/s in all: 5 * 8 * 1.5 / 76 = 0.789.
    assert load_scenario("demo").load == pytest.approx(60 / 76)


def test_overrides_change_one_value_and_leave_the_rest() -> None:
    base = load_scenario("demo")
    changed = load_scenario("demo", {"tasks_per_slot.high": 3, "slots": 7})
    assert (changed.tasks_per_slot.high, changed.tasks_per_slot.low, changed.slots) == (3, base.tasks_per_slot.low, 7)
    assert load_scenario("demo") == base  # nothing is remembered


def test_scenarios_are_frozen_and_hashable_by_value() -> None:
    scenario = load_scenario("demo")
    with pytest.raises(ValidationError):
        scenario.slots = 3
    assert build_scenario(scenario.model_dump()) == scenario
    assert OffloadingScenario.model_validate_json(scenario.model_dump_json()) == scenario


@pytest.mark.parametrize(
    ("name", "overrides", "complaint"),
    [
        ("dmeo", {}, r"Unknown scenario 'dmeo'.*Did you mean 'demo'\?"),
        ("ladts-paper:n11", {}, "no variant 'n11'; it has: by-index, n10, n20, n60"),
        ("missing.yaml", {}, "There is no scenario file 'missing.yaml'"),
        ("demo", {"slts": 3}, r"no field 'slts'.*Did you mean 'slots'\?"),
        ("demo", {"tasks_per_slot.hihg": 3}, r"no part 'hihg'; parts are high, low\. Did you mean 'high'\?"),
        ("demo", {"slots.high": 3}, "'slots' has no parts"),
        ("demo", {"slots": 0}, "'slots' is 0, but input should be greater than or equal to 1"),
        ("demo", {"capacity_gcycles_s": [12, 6, 0, 8, 30]}, r"'capacity_gcycles_s.2' is 0, but .*greater than 0"),
        ("demo", {"capacity_gcycles_s": [12, 6, -1, 8, 30]}, r"'capacity_gcycles_s.2' is -1"),
        ("demo", {"capacity_gcycles_s": [12, 6, float("inf"), 8, 30]}, "finite"),
        ("demo", {"capacity_gcycles_s": []}, "capacity_gcycles_s"),
        ("demo", {"rate_mbit_s": [400, 400]}, "rate_mbit_s has 2 entries and capacity_gcycles_s has 5"),
        ("demo", {"rate_mbit_s": [400, 0, 1, 1, 1]}, r"'rate_mbit_s.1' is 0"),
        ("demo", {"slot_s": 0}, "'slot_s' is 0"),
        ("demo", {"size_mbit.high": 1e39}, r"'size_mbit.high' is 1e\+39, but must be finite, and between"),
        ("demo", {"slot_s": 1e-46}, r"'slot_s' is 1e-46, but must be at least 1e-12"),
        ("demo", {"slots": 2**63}, r"'slots' is 9223372036854775808, but must be finite, and between"),
        ("demo", {"slots": 10**400}, r"'slots' is 10+\.\.\., but must be finite, and between"),
        ("demo", {"slots": "yes"}, r"'slots' is 'yes', but must be a number\."),
        ("demo", {"steps.integer": "yes"}, r"'steps.integer' is 'yes', but must be true or false\."),
        ("demo", {"capacity_gcycles_s": [True, 1, 1, 1, 1]}, r"'capacity_gcycles_s.0' is True, but must be a number\."),
        ("demo", {"name": 130}, r"'name' is 130, but input should be a valid string"),
        ("demo", {"slots": 100_000, "tasks_per_slot.high": 100_000}, "make 50000500000 places for tasks in an episode"),
        ("links", {"server_sets.servers": 2000}, "is 2000, but with per_link there may be at most 1000"),
        (
            "demo",
            {"steps.high": 1e12, "cycles_per_step_gcycles.high": 1e12, "capacity_gcycles_s": [1e-12] * 5},
            "take 3.07e",
        ),
        ("stable", {"server_sets.load": 1e12, "server_sets.capacity_gcycles_s": {"low": 1e-12, "high": 1e12}}, "take "),
        ("demo", {"tasks_per_slot.low": 20}, "must not exceed high"),
        ("demo", {"size_mbit.low": 9}, "must not exceed high"),
        ("demo", {"size_mbit.low": -1}, "'size_mbit.low' is -1"),
        ("demo", {"steps.high": 2.5}, "whole numbers"),
        ("demo", {"size_mbit.drawn": "per_index"}, "needs a seed"),
    ],
)
def test_impossible_scenarios_are_refused_in_one_sentence(name: str, overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as refused:
        load_scenario(name, overrides)
    assert "\n" not in str(refused.value)


def test_a_file_extends_shipped_scenarios_and_files_beside_it(tmp_path, monkeypatch) -> None:
    (tmp_path / "lab.yaml").write_text("extends: demo\nslots: 3\nvariants: {long: {slots: 9}}\n")
    (tmp_path / "annex.yaml").write_text("extends: lab.yaml:long\ndescription: the annex\n")
    monkeypatch.chdir("/")
    lab = load_scenario(tmp_path / "lab.yaml")
    assert (lab.name, lab.slots) == ("lab", 3)  # its own name: results of it are not those of demo
    assert lab.capacity_gcycles_s == load_scenario("demo").capacity_gcycles_s
    annex = load_scenario(tmp_path / "annex.yaml")
    assert (annex.name, annex.slots) == ("annex", 9)


def test_a_path_may_hold_colons(tmp_path) -> None:
    folder = tmp_path / "run:3"
    folder.mkdir()
    (folder / "lab.yaml").write_text("extends: demo\nslots: 3\nvariants: {long: {slots: 9}}\n")
    assert load_scenario(folder / "lab.yaml").slots == 3
    assert load_scenario(f"{folder / 'lab.yaml'}:long").slots == 9


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- 1\n", "must hold a mapping"),
        ("a: [\n", "can not be read"),
        ("extends: loop.yaml\n", "extends itself"),
        ("extends: demo\nvariants: {a: 3}\n", "'variants' must map names to changes"),
        ("extends: demo\nvariants: {a: {1: 2}}\n", "in 'variants', 1 stands where a name is needed"),
        ("extends: demo\nslotts: 3\n", r"unknown field 'slotts'.*Did you mean 'slots'\?"),
        ("slots: 3\n", "the field 'capacity_gcycles_s' is missing"),
    ],
)
def test_broken_files_are_refused(tmp_path, text: str, complaint: str) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        load_scenario(path)


def test_quantities_stay_in_range_and_indices_are_prefix_stable() -> None:
    rng = np.random.default_rng(0)
    steps = Quantity(low=1, high=4, integer=True).sample(rng, (1000,))
    assert set(steps.tolist()) == {1.0, 2.0, 3.0, 4.0}
    sizes = Quantity(low=2, high=5).sample(rng, (1000,))
    assert sizes.min() >= 2
    assert sizes.max() <= 5
    assert sizes.mean() == pytest.approx(3.5, abs=0.1)
    fixed = Quantity(low=1, high=4, drawn="per_index", seed=3)
    assert fixed.by_index(10)[:4].tolist() == fixed.by_index(4).tolist()
    assert IntegerRange(low=1, high=4).mean == 2.5


def test_the_expected_work_of_very_many_tasks_takes_no_time_for_each_pair() -> None:
    # Every count with every index would be 10^10 pairs.
    many = load_scenario("demo", {"slots": 3, "tasks_per_slot": {"low": 1, "high": 100_000}})
    assert many.work_by_index_gcycles.shape == (100_000,)
    assert many.work_gcycles_s == pytest.approx(5 * 50_000.5 * 1.5)
