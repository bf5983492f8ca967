# SPDX-License-Identifier: Apache-2.0
"""The commands that play policies: compare, evaluate and replay."""

import json

import pytest

from edgegen.platform.commands.compare import joined_by_role
from edgegen.platform.defaults import folder_label
from tests.platform.command_lines import TINY, run


def test_results_and_plot_need_files_of_their_own(tmp_path):
    same = ["--json", tmp_path / "c.png", "--plot", tmp_path / "c.png"]
    result = run("compare", "-s", "demo", "-n", "1", "uniform", *same)
    assert result.exit_code != 0
    assert "both the machine-readable result and the plot" in " ".join(result.output.split())
    assert not (tmp_path / "c.png").exists()


def test_compare_writes_table_json_and_plot(tmp_path):
    files = ["--json", tmp_path / "c.json", "--plot", tmp_path / "c.png"]
    result = run("compare", "local", "opt-ts", "--episodes", 3, "--seed", 1, *TINY, *files)
    assert result.exit_code == 0, result.output
    assert "capacity-weighted" in result.stdout  # the reference joins in
    data = json.loads((tmp_path / "c.json").read_text())
    assert set(data["policies"]) == {"local", "opt-ts", "capacity-weighted"}
    assert (data["seed"], data["episodes"], data["scenario"]["slots"]) == (1, 3, 4)
    assert (tmp_path / "c.png").exists()
    assert (tmp_path / "c.svg").exists()


@pytest.mark.parametrize(
    ("words", "policies"),
    [
        ("cacher=a allocator=b", ["cacher=a allocator=b"]),
        ("rule cacher=a allocator=b other", ["rule", "cacher=a allocator=b", "other"]),
        ("allocator=b cacher=a cacher=c allocator=d", ["allocator=b cacher=a", "cacher=c allocator=d"]),
        ("cacher=a cacher=c allocator=d", ["cacher=a", "cacher=c allocator=d"]),
        ("cacher=a rule allocator=b", ["cacher=a", "rule", "allocator=b"]),
        ("cacher=a allocater=b", ["cacher=a allocater=b"]),
        ("runs/x=1 cacher=models:/m@best allocator=runs/x=2", ["runs/x=1", "cacher=models:/m@best allocator=runs/x=2"]),
    ],
)
def test_words_by_role_side_by_side_are_one_policy(words, policies):
    assert joined_by_role(words.split(), ("cacher", "allocator")) == policies


def test_a_policy_by_role_in_quotes_is_whole():
    given = ["cacher=a", "cacher=b allocator=c", "allocator=d"]
    assert joined_by_role(given, ("cacher", "allocator")) == given


def test_compare_policies_by_role(tmp_path):
    words = ["cacher=rcars", "allocator=popular-static-best", "cacher=rcars", "allocator=rcars", "rcars"]
    small = ["-s", "t2drl-contended", "--set", "frames=2", "--set", "slots_per_frame=3", "-n", "2"]
    result = run("compare", *words, *small, "--label", "best", "--reference", "rcars", "--json", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    assert "do not cover a second training run" not in " ".join(result.stdout.split())  # these are rules
    policies = json.loads((tmp_path / "c.json").read_text())["policies"]
    assert set(policies) == {"best", "cacher=rcars allocator=rcars", "rcars"}
    costs = {label: policy["per_episode"]["mean_cost"] for label, policy in policies.items()}
    assert costs["cacher=rcars allocator=rcars"] == costs["rcars"]
    assert all(best < rule for best, rule in zip(costs["best"], costs["rcars"], strict=True))


def test_evaluate_and_replay_take_a_policy_by_role(tmp_path):
    results = {}
    for policy in ("least-delay", "router=least-delay"):
        file = tmp_path / f"{policy}.json"
        result = run("evaluate", policy, "--episodes", 2, *TINY, "--json", file)
        assert result.exit_code == 0, result.output
        actions = json.loads(file.read_text())["actions"]
        assert list(actions) == ["rule"]
        results[policy] = actions["rule"]["mean_delay_s"]
    assert results["router=least-delay"] == results["least-delay"]
    trace = tmp_path / "trace.csv"
    trace.write_text("slot,edge,index,size_mbit,workload_gcycles,result_mbit\n0,0,0,3,1,0.8\n1,2,0,3,2,0.8\n")
    result = run("replay", "--trace", trace, "--policy", "router=local", "--out", tmp_path / "o.csv")
    assert result.exit_code == 0, result.output


def test_compare_is_repeatable(tmp_path):
    for name in ("a", "b"):
        run("compare", "uniform", "--episodes", 3, "--seed", 5, *TINY, "--json", tmp_path / name)
    first, again = (json.loads((tmp_path / name).read_text())["marl_eval"] for name in ("a", "b"))
    assert first == again


def test_evaluate_a_rule(tmp_path):
    result = run("evaluate", "least-delay", "--episodes", 2, *TINY, "--json", tmp_path / "e.json")
    assert result.exit_code == 0, result.output
    assert "decisions/s" in result.stdout
    data = json.loads((tmp_path / "e.json").read_text())
    assert list(data["actions"]) == ["rule"]
    assert len(data["actions"]["rule"]["p99_delay_s"]) == 2


def test_replay_decides_anew(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("slot,edge,index,size_mbit,workload_gcycles,result_mbit\n0,0,0,3,1,0.8\n1,2,0,3,2,0.8\n")
    outputs = ("--out", tmp_path / "o.csv", "--json", tmp_path / "r.json")
    result = run("replay", "--trace", trace, "--policy", "local", *outputs)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "r.json").read_text())["tasks"] == 2
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 3
    before = trace.read_bytes()
    result = run("replay", "--trace", trace, "--policy", "local", "--out", tmp_path / "o.csv", "--json", trace)
    assert result.exit_code != 0
    assert "both the trace and the machine-readable result" in " ".join(result.output.split())
    assert trace.read_bytes() == before


def test_labels_of_trained_policies_are_their_runs(tmp_path):
    assert folder_label(str(tmp_path / "my-run")) == "my-run"
    assert folder_label(str(tmp_path / "my-run" / "checkpoint-000050")) == "my-run/checkpoint-000050"
    assert folder_label(str(tmp_path / "my-run" / "checkpoint-000050" / "policy")) == "my-run/checkpoint-000050"
