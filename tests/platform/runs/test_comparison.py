# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from rich.console import Console

from edgegen.algorithms.rules.offloading import RULES, make_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.files import write_json
from edgegen.platform.runs.comparison import compare, decimals_for


@pytest.fixture(scope="module")
def scenario():
    return load_scenario("demo", {"slots": 10})


@pytest.fixture(scope="module")
def comparison(scenario):
    return compare(scenario, {name: make_rule(name) for name in RULES}, 8, seed=0)


def test_a_policy_compared_with_itself_differs_by_exactly_nothing(scenario):
    twins = {"a": make_rule("capacity-weighted", 1), "b": make_rule("capacity-weighted", 2)}
    row = compare(scenario, twins, 5, seed=0, reference="a").row("b")
    assert (row.difference.estimate, row.difference.low, row.difference.high) == (0, 0, 0)
    assert (row.ratio.estimate, row.ratio.low, row.ratio.high) == (1, 1, 1)
    assert row.improvement == 0.5


def test_every_policy_meets_the_same_tasks(comparison):
    counts = [row.results["tasks"].tolist() for row in comparison.rows]
    assert all(count == counts[0] for count in counts)
    # Work per capacity does not depend on decisions where every task stays at home.
    assert len(set(counts[0])) > 1


def test_a_policy_is_judged_the_same_in_any_company(scenario, comparison):
    alone = compare(scenario, {"least-delay": make_rule("least-delay")}, 8, 0, reference="least-delay")
    np.testing.assert_array_equal(
        alone.rows[0].results["mean_delay_s"], comparison.row("least-delay").results["mean_delay_s"]
    )


def test_pairing_narrows_the_difference(comparison):
    row, base = comparison.row("least-delay"), comparison.row("capacity-weighted")
    paired = row.difference.high - row.difference.low
    unpaired = np.hypot(row.mean.high - row.mean.low, base.mean.high - base.mean.low)
    assert paired < unpaired


def test_best_comes_first_and_the_order_is_sensible(comparison):
    means = [row.mean.estimate for row in comparison.rows]
    assert means == sorted(means)
    labels = [row.label for row in comparison.rows]
    assert labels.index("opt-ts") < labels.index("capacity-weighted") < labels.index("local")


def test_an_unknown_reference_is_refused(scenario):
    with pytest.raises(InputError, match="Did you mean 'uniform'"):
        compare(scenario, {"uniform": make_rule("uniform")}, 2, 0, reference="unifrom")


def test_table_says_what_each_policy_knows(comparison):
    console = Console(width=170)
    with console.capture() as captured:
        console.print(comparison.table())
    text = captured.get()
    for expected in ("opt-ts", "everything placed before", "slot-start backlogs", "reference", "95 %", "identical"):
        assert expected in text


def test_json_has_the_layout_of_marl_eval_and_every_episode(comparison, tmp_path):
    path = tmp_path / "deep" / "comparison.json"
    write_json(path, comparison.to_json())
    data = json.loads(path.read_text())
    run = data["marl_eval"]["offloading"]["demo"]["opt-ts"]["seed_0"]
    assert run["step_0"]["step_count"] == 0
    assert len(run["step_0"]["mean_delay_s"]) == 8
    assert run["absolute_metrics"]["mean_reward"][0] == -run["absolute_metrics"]["mean_delay_s"][0]
    policy = data["policies"]["uniform"]
    assert policy["per_episode"]["mean_delay_s"] == comparison.row("uniform").results["mean_delay_s"].tolist()
    assert policy["difference_s"]["low"] <= policy["difference_s"]["estimate"] <= policy["difference_s"]["high"]
    assert data["scenario"]["slots"] == 10


def test_one_episode_is_compared_without_intervals(scenario, tmp_path):
    result = compare(scenario, {name: make_rule(name) for name in ("capacity-weighted", "local")}, 1, seed=0)
    write_json(tmp_path / "one.json", result.to_json())
    data = json.loads((tmp_path / "one.json").read_text())
    assert data["policies"]["local"]["difference_s"]["low"] is None
    result.table()


@pytest.mark.parametrize(("smallest", "decimals"), [(7.6, 2), (0.61, 3), (0.05, 4)])
def test_decimals_follow_the_smallest_value(smallest, decimals):
    assert decimals_for(smallest) == decimals
