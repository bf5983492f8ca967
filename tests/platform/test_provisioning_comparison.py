# SPDX-License-Identifier: Apache-2.0
"""Comparison of provisioning policies, from Python and on the command line."""

import json

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.rules.caching import make_provisioning_rule
from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.cli import app
from edgegen.platform.figures.plots import plot_comparison
from edgegen.platform.files import write_json
from edgegen.platform.runs.comparison import compare

NAMES = ("never-cache", "popular-static", "popular-static-best", "oracle")
TINY = ["--set", "frames=2", "--set", "slots_per_frame=2"]


@pytest.fixture(scope="module")
def scenario():
    return load_scenario("t2drl-contended", {"frames": 3, "slots_per_frame": 2})


@pytest.fixture(scope="module")
def comparison(scenario):
    return compare(scenario, {name: make_policy(name, scenario) for name in NAMES}, 6, seed=0)


def test_best_comes_first_and_the_reference_is_popularity_with_equal_shares(comparison):
    assert [row.label for row in comparison.rows] == ["oracle", "popular-static-best", "popular-static", "never-cache"]
    assert comparison.reference == "popular-static"


def test_differences_are_paired_by_episode(comparison):
    row, base = comparison.row("popular-static-best"), comparison.row("popular-static")
    difference = row.results["mean_cost"] - base.results["mean_cost"]
    assert row.difference.estimate == pytest.approx(difference.mean())
    assert row.improvement == (difference < 0).mean() == 1
    half = stats.t.ppf(0.975, 5) * difference.std(ddof=1) / np.sqrt(6)
    assert row.difference.high - row.difference.low == pytest.approx(2 * half)


def test_the_gap_to_the_oracle_is_closed_by_none_and_by_all(comparison):
    cost = {row.label: row.results["mean_cost"].mean() for row in comparison.rows}
    share = (cost["popular-static"] - cost["popular-static-best"]) / (cost["popular-static"] - cost["oracle"])
    closed = comparison.row("popular-static-best").closed
    assert closed.estimate == pytest.approx(share)
    assert closed.low < closed.estimate < closed.high
    assert comparison.row("oracle").closed.estimate == 1
    assert comparison.row("popular-static").closed.estimate == 0
    assert comparison.row("never-cache").closed.estimate < 0


def test_without_an_oracle_there_is_no_gap(scenario):
    policies = {name: make_provisioning_rule(name) for name in ("popular-static", "rcars")}
    result = compare(scenario, policies, 2, seed=0)
    assert all(row.closed is None for row in result.rows)
    assert "closed" not in [column.header for column in result.table().columns]


def test_the_table_has_every_quantity_by_itself(comparison, scenario):
    console = Console(width=190)
    with console.capture() as captured:
        console.print(comparison.table())
    text = captured.get()
    for expected in ("cost", "delay, s", "TV", "hits, %", "useless, %", "fetch, s", "closed", "identical requests"):
        assert expected in text
    assert "overflow" not in text
    assert "late" not in text
    limited = load_scenario("t2drl-contended", {"frames": 1, "slots_per_frame": 1, "max_delay_s": 20})
    late = compare(limited, {"popular-static": make_provisioning_rule("popular-static")}, 2, seed=0)
    assert "late, %" in [column.header for column in late.table().columns]


def test_json_has_the_layout_of_marl_eval_and_every_episode(comparison, tmp_path):
    write_json(tmp_path / "c.json", comparison.to_json())
    data = json.loads((tmp_path / "c.json").read_text())
    run = data["marl_eval"]["provisioning"]["t2drl-contended"]["oracle"]["seed_0"]
    assert run["step_0"]["step_count"] == 0
    for name in ("mean_cost", "delay_s", "tv", "hit_ratio", "useless_hits", "fetch_s", "overflow_gb"):
        assert len(run["step_0"][name]) == 6
    assert run["absolute_metrics"]["mean_reward"][0] == -run["absolute_metrics"]["mean_cost"][0]
    policy = data["policies"]["never-cache"]
    assert policy["difference"]["low"] <= policy["difference"]["estimate"] <= policy["difference"]["high"]
    assert policy["gap_closed"]["estimate"] < 0
    assert policy["per_episode"]["useless_hits"] == [None] * 6
    assert data["scenario"]["kind"] == "provisioning"


def test_the_plot_is_drawn(comparison, tmp_path):
    written = plot_comparison(comparison, tmp_path / "c.svg")
    assert written == [tmp_path / "c.png", tmp_path / "c.svg"]
    assert all(path.stat().st_size > 5000 for path in written)


def test_policies_for_other_worlds_do_not_play(scenario):
    with pytest.raises(ValueError, match="the policy local does not decide for the role allocator"):
        compare(scenario, {"local": make_rule("local")}, 1, seed=0, reference="local")
    with pytest.raises(InputError, match="Did you mean 'rcars'"):
        compare(scenario, {"rcars": make_provisioning_rule("rcars")}, 1, seed=0, reference="racrs")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_compare_on_the_command_line(tmp_path):
    files = ["--json", tmp_path / "c.json", "--plot", tmp_path / "c.png"]
    result = run("compare", "rcars", "oracle", "-s", "t2drl-default", "-n", 3, "--seed", 1, *TINY, *files)
    assert result.exit_code == 0, result.output
    data = json.loads((tmp_path / "c.json").read_text())
    assert set(data["policies"]) == {"rcars", "oracle", "popular-static"}  # the reference joins in
    assert (data["seed"], data["episodes"], data["scenario"]["frames"]) == (1, 3, 2)
    assert (tmp_path / "c.png").exists()


def test_compare_without_names_plays_all_that_can():
    result = run("compare", "-s", "t2drl-default", "-n", 1, *TINY, "--set", "models=14", "--set", "users=3")
    assert result.exit_code == 0, result.output
    assert "schrs" in result.stdout
    assert "oracle" not in result.stdout


def test_evaluate_on_the_command_line(tmp_path):
    result = run("evaluate", "never-cache", "-s", "t2drl-default", "-n", 2, *TINY, "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    for expected in ("mean cost", "mean TV", "hits, % of requests", "requests", "backhaul"):
        assert expected in result.stdout
    data = json.loads((tmp_path / "e.json").read_text())
    assert list(data["actions"]) == ["rule"]
    assert len(data["actions"]["rule"]["tv"]) == 2
    assert data["actions"]["rule"]["mean_cost_interval"]["estimate"] > 40


def test_scenarios_list_both_kinds(tmp_path):
    result = run("scenarios", "--json", tmp_path / "s.json")
    assert result.exit_code == 0
    assert "t2drl-contended:cells3" in result.stdout
    data = json.loads((tmp_path / "s.json").read_text())
    assert data["t2drl-contended"]["users"] == 15
    assert data["demo"]["servers"] == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "least-delay", "-s", "t2drl-default"], "'least-delay' is for offloading"),
        (["compare", "oracle", "-s", "demo"], "'oracle' is for provisioning"),
        (["compare", "orcale", "-s", "t2drl-default"], "Did you mean 'oracle'?"),
        (["evaluate", "schrs"], "'schrs' is for provisioning"),
        (["compare", "-s", "t2drl-defualt"], "Did you mean 't2drl-default'?"),
        (["compare", "-s", "t2drl-default:cells9"], "has no variant 'cells9'"),
        (["compare", "-s", "t2drl-default", "--set", "user=3"], "Did you mean 'users'?"),
        (["compare", "-s", "t2drl-default", "--set", "storage_gb=-1"], "'storage_gb"),
        (["compare", "rcars", "-s", "t2drl-default", "--reference", "uniform"], "reference 'uniform'"),
        (["compare", "oracle", "-s", "t2drl-default", "--set", "models=20"], "20 models, but the oracle"),
        (["evaluate", ".", "-s", "t2drl-default"], "holds no trained policy"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
