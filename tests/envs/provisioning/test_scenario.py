# SPDX-License-Identifier: Apache-2.0
"""Provisioning scenarios: what is shipped, what follows from it, how kinds are kept apart, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenario_files import scenario_kind, shipped_names
from edgegen.envs.core.scenarios import build_scenario, load_scenario, scenario_names
from edgegen.envs.core.yaml_files import dump_yaml
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.provisioning.curves import CurveSet
from edgegen.envs.provisioning.parts import SkewnessChain
from edgegen.envs.provisioning.scenario import ProvisioningScenario

DEFAULT = "t2drl-default"
CURVE = {"a1_steps": 60, "a2_tv": 110, "a3_steps": 170, "a4_tv": 28, "b1_s_per_step": 0.18, "b2_s": 5.74}


def test_every_shipped_scenario_loads_under_its_name_and_stands_alone() -> None:
    names = scenario_names("provisioning")
    axes = {"users6", "users14", "storage10", "storage30", "steps600", "steps1400", "uplink10", "skewness1.0"}
    axes |= {"alpha0.3", "backhaul50", "cells3"}
    assert {DEFAULT, "t2drl-contended", *(f"{DEFAULT}:{axis}" for axis in axes)} <= set(names)
    for name in names:
        scenario = load_scenario(name)
        assert scenario.name == name
        assert build_scenario(scenario.model_dump()) == scenario
        assert ProvisioningScenario.model_validate_json(scenario.model_dump_json()) == scenario


def test_the_default_has_the_constants_of_its_description() -> None:
    world = load_scenario(DEFAULT)
    assert (world.users, world.models, world.frames, world.slots_per_frame, world.cells) == (10, 10, 10, 10, 1)
    assert (world.storage_per_cell_gb, world.steps_per_cell, world.slots) == ((20.0,), (1000,), 100)
    assert (world.backhaul_mbit_s, world.delay_weight, world.uplink_mhz, world.downlink_mhz) == (100, 0.7, 20, 40)
    assert isinstance(world.curves, CurveSet)
    assert world.curves.per_model(10)[9].model_dump(include=set(CURVE)) == CURVE
    assert load_scenario(f"{DEFAULT}:alpha0.3").delay_weight == 0.3
    assert load_scenario(f"{DEFAULT}:cells3", {"storage_gb": [5, 6, 7]}).storage_per_cell_gb == (5, 6, 7)
    assert load_scenario(f"{DEFAULT}:cells3").steps_per_cell == (1000, 1000, 1000)


def test_kinds_are_kept_apart() -> None:
    names = [*scenario_names("offloading"), *scenario_names("provisioning"), *scenario_names("fleet")]
    assert sorted(shipped_names()) == sorted(names)
    assert not {*scenario_names("offloading")} & {*scenario_names("provisioning")}
    assert scenario_kind("demo") == "offloading"
    assert scenario_kind("t2drl-contended:cells3") == "provisioning"  # inherited from what it extends
    wrong = r"'t2drl-default' is of the kind provisioning, but one of the kind offloading .* are .*\bdemo, "
    with pytest.raises(InputError, match=wrong):
        load_scenario(DEFAULT, None, OffloadingScenario)
    with pytest.raises(
        InputError, match="'demo' is of the kind offloading, but one of the kind provisioning is needed"
    ):
        load_scenario("demo", None, ProvisioningScenario)
    with pytest.raises(InputError, match="of the kind provisioning, but one of the kind offloading is needed"):
        build_scenario(load_scenario(DEFAULT).model_dump(), OffloadingScenario)
    with pytest.raises(InputError, match="of the kind offloading, but one of the kind provisioning is needed"):
        build_scenario(load_scenario("demo").model_dump(), ProvisioningScenario)


def test_zipf_by_hand() -> None:
    world = load_scenario(DEFAULT, {"models": 3, "size_gb": [1, 1, 1]})
    popularity = world.rank_popularity()
    np.testing.assert_allclose(popularity[2], np.array([6, 3, 2]) / 11)  # 1, 1/2 and 1/3 over their sum
    roots = np.array([1, 2**-0.5, 3**-0.5])
    np.testing.assert_allclose(popularity[1], roots / roots.sum())
    np.testing.assert_allclose(world.static_popularity(), popularity.mean(0))  # all states equally often
    shuffled = world.model_copy(update={"drift": world.drift.model_copy(update={"start": "shuffled"})})
    np.testing.assert_allclose(shuffled.static_popularity(), 1 / 3)


def test_stationary_states_by_hand() -> None:
    # Flow both ways must be equal: 0.1 * p = 0.3 * q, so three quarters and one quarter.
    chain = SkewnessChain(states=(0.2, 1), transition=((0.9, 0.1), (0.3, 0.7)), initial="stationary")
    np.testing.assert_allclose(chain.stationary(), [0.75, 0.25])
    np.testing.assert_allclose(chain.start(), [0.75, 0.25])
    periodic = SkewnessChain(states=(0.2, 1), transition=((0, 1), (1, 0)), initial=1.0)
    np.testing.assert_allclose(periodic.stationary(), [0.5, 0.5])
    assert periodic.start().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"storage_gb": -1}, "'storage_gb.0' is -1, but input should be greater than 0"),
        ({"storage_gb": 0}, "'storage_gb.0' is 0"),
        ({"storage_gb": "much"}, "'storage_gb' is 'much'"),
        ({"storage_gb": [1, 2]}, "storage_gb has 2 entries for 1 cells; give one for all or one each"),
        ({"steps_per_slot": 0}, "'steps_per_slot.0' is 0"),
        ({"size_gb": [1, 2]}, "size_gb has 2 entries for 10 models"),
        ({"size_gb": [*range(10)]}, "'size_gb.0' is 0, but input should be greater than 0"),
        ({"size_gb.low": 11}, r"low \(11\) must not exceed high \(10\)"),
        ({"size_gb.hihg": 11}, r"no part 'hihg'.*Did you mean 'high'\?"),
        ({"skewness.initial": 0.7}, "initial is 0.7, but must be uniform, stationary or one of 0.2, 0.5, 1"),
        ({"skewness.states": [-0.2, 0.5, 1]}, "'skewness.states.0' is -0.2"),
        ({"skewness.states": [0.5, 0.5, 1]}, "states must differ"),
        ({"skewness.states": [0.5, 1]}, "transition must have 2 rows of 2 probabilities"),
        ({"skewness.transition": [[0.6, 0.5, 0], [1, 0, 0], [1, 0, 0]]}, "row 0 of transition sums to 1.1"),
        ({"skewness.transition": [[0, 1, 0], [2, -1, 0], [1, 0, 0]]}, "'skewness.transition.1.0' is 2"),
        ({"curves": "nope"}, "Unknown curves 'nope'; shipped ones are"),
        (
            {"curves": {"source": "x", "curves": [CURVE | {"a3_steps": 4}]}},
            r"a3_steps \(4\) must exceed a1_steps \(60\)",
        ),
        ({"curves": {"source": "x", "curves": [CURVE] * 2}}, "2 curves for 10 models"),
        ({"mobility.kind": "fly"}, "'mobility.kind' is 'fly'"),
        ({"delay_weight": 1.1}, "'delay_weight' is 1.1"),
        ({"users": 1001}, r"min_bandwidth_share \(0.001\) times users \(1001\) must not exceed 1"),
        ({"distance_factor.low": 0}, "distance_factor.low must be greater than 0"),
        ({"users": True}, r"'users' is True, but must be a number\."),
        ({"storage_gb": True}, r"'storage_gb.0' is True, but must be a number\."),
        ({"upload_mb.high": 1e39}, r"'upload_mb.high' is 1e\+39, but must be finite, and between"),
        ({"backhaul_mbit_s": 1e-46}, "'backhaul_mbit_s' is 1e-46, but must be at least 1e-12"),
        ({"skewness.initial": True}, "the field 'skewness.initial' is True"),
        (
            {"frames": 100_000, "slots_per_frame": 100_000},
            "make 100000000000 values in an episode, but at most 200000000",
        ),
        ({"frames": 100_000, "models": 100_000}, "frames, cells and models .* make 10000100000 values in an episode"),
        ({"frames": 100_000, "drift.swaps_per_frame": 10_000}, "twice drift.swaps_per_frame .* make 2000000000 values"),
        ({"path_loss_db": -1e5}, r"make -1.001e\+05 dB at 1 m, but losses must be between -300 and 300 dB"),
        ({"min_distance_m": 1e-12}, "dB at 1e-12 m, but losses"),
        ({"side_m": 1e12}, "dB at 7.07107e"),
        (
            {"noise_total_dbm": 100, "user_power_dbm": -300},
            "delays and penalties could reach .*, but must stay below 1e",
        ),
        ({"kind": "offloading"}, "no field 'kind'"),
        ({"caching_amender": "hope"}, "'caching_amender' is 'hope'"),
        ({"userss": 3}, r"no field 'userss'.*Did you mean 'users'\?"),
        ({"users.low": 3}, "'users' has no parts"),
    ],
)
def test_impossible_scenarios_are_refused_in_one_sentence(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as refused:
        load_scenario(DEFAULT, overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"curves.a1_steps": {"low": 20, "high": 100}}, r"a3_steps.low \(100\) must exceed a1_steps.high \(100\)"),
        ({"curves.a4_tv": {"low": 20, "high": 90}}, r"a4_tv.high \(90\) must not exceed a2_tv.low \(80\)"),
        ({"curves.b2_s": {"low": 3, "high": 2}}, r"low \(3\) must not exceed high \(2\)"),
        ({"curves.a3_steps": {"low": 200, "high": 1e7}}, "a3_steps.high .* must not exceed 1000000"),
        ({"curves.b3_s": 1}, "has no part 'b3_s'"),
    ],
)
def test_impossible_ranges_of_curves_are_refused(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_scenario("t2drl-contended", overrides)


def test_a_file_names_curves_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = CurveSet.model_validate({"source": "here", "curves": [CURVE | {"b2_s": 1}]})
    (tmp_path / "mine.yaml").write_text(dump_yaml(curves.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    (tmp_path / "lab.yaml").write_text(f"extends: {DEFAULT}\ncurves: mine.yaml\nvariants: {{few: {{users: 2}}}}\n")
    monkeypatch.chdir("/")
    lab = load_scenario(f"{tmp_path / 'lab.yaml'}:few")
    assert (lab.name, lab.users, lab.curves) == ("lab:few", 2, curves)
    with pytest.raises(InputError, match="There is no curves file"):
        load_scenario(DEFAULT, {"curves": "mine.yaml"})  # on the command line: from the working folder


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind: caching\n", "'kind' is 'caching', but must be offloading or provisioning or fleet"),
        ("extends: loop.yaml\n", "of the kind offloading"),
        ("kind: provisioning\nextends: loop.yaml\n", "extends itself"),
        ("extends: nowhere\n", "Unknown scenario 'nowhere'"),
        (
            "kind: provisioning\nextends: demo\n",
            "is of the kind provisioning, but extends 'demo' of the kind offloading",
        ),
        ("kind: provisioning\nusers: 3\n", "'models' is missing"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "loop.yaml").write_text(text)
    with pytest.raises(InputError, match=complaint):
        load_scenario(tmp_path / "loop.yaml", None, ProvisioningScenario)
