# SPDX-License-Identifier: Apache-2.0
"""A kind and a method from outside of the package: every command works with what their two entries say."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.toy.toy_process import HERE, PACKAGE, RULES, run

PLUGINS = ("world:KIND", "method:METHOD", *RULES)
SCENARIO = PACKAGE / "edgegen_toy" / "toy.yaml"
SWEEP, STUDY = PACKAGE / "sweep.yaml", PACKAGE / "study.yaml"


def edgegen(folder: Path, *arguments: Any) -> str:
    done = run(folder, PLUGINS, "-m", "edgegen.platform.cli", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_whole_world_is_small() -> None:
    assert len((PACKAGE / "edgegen_toy" / "world.py").read_text(encoding="utf-8").splitlines()) < 150


def test_its_scenarios_are_listed_with_the_others(tmp_path: Path) -> None:
    listed = edgegen(tmp_path, "scenarios", "--json", "scenarios.json")
    assert "Toy" in listed
    assert "A job comes every second." in listed
    data = json.loads((tmp_path / "scenarios.json").read_text())
    assert data[str(SCENARIO)]["longest_s"] == 2.0
    assert data["demo"]["kind"] == "offloading"


def test_its_rules_are_compared(tmp_path: Path) -> None:
    shown = edgegen(tmp_path, "compare", "--scenario", SCENARIO, "-n", 20, "--json", "compared.json", "--plot", "c.png")
    assert "20 episodes with identical jobs" in shown
    assert (tmp_path / "c.svg").exists()
    data = json.loads((tmp_path / "compared.json").read_text())
    assert list(data["policies"]) == ["shortest", "coin"]
    assert data["policies"]["shortest"]["difference_s"]["high"] < 0
    assert list(data["marl_eval"]) == ["toy"]


def test_a_rule_is_evaluated_and_fields_are_set(tmp_path: Path) -> None:
    given = ("--scenario", SCENARIO, "--set", "slots=7", "-n", 4, "--json", "one.json")
    assert "mean wait, s" in edgegen(tmp_path, "evaluate", "shortest", *given)
    rule = json.loads((tmp_path / "one.json").read_text())["actions"]["rule"]
    assert rule["jobs"] == 7
    assert len(rule["wait_s"]) == 4
    assert "wait_interval_s" in rule


def test_it_is_played_through_pettingzoo(tmp_path: Path) -> None:
    done = run(tmp_path, PLUGINS, HERE / "play_with_pettingzoo.py", SCENARIO)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['dispatcher_0'] (5,) Discrete(2)\n12 12\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "local", "--scenario", SCENARIO], "The policy 'local' is for offloading, but scenario 'toy'"),
        (["train", "bandit", "--scenario", "demo"], "is of the kind offloading, but one of the kind toy is needed"),
        (["train", "ladts", "--scenario", SCENARIO], "is of the kind toy, but one of the kind offloading is needed"),
        (["train", "bandit", "--preset", "improved"], "Unknown bandit preset 'improved'; presets are plain."),
        (["evaluate", "coin", "--scenario", SCENARIO, "--set", "slot=1"], "Did you mean 'slots'?"),
        (["train", "bandits"], "Did you mean 'bandit'?"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, arguments: list[Any], sentence: str) -> None:
    done = run(tmp_path, PLUGINS, "-m", "edgegen.platform.cli", *arguments)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A folder, and what came of all commands that start Ray."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copy(SCENARIO, folder)  # the study names it
    short = ["train", "bandit", "--checkpoint-every", 2, "--set", "slots=10"]
    lines: dict[str, list[Any]] = {
        "whole": [*short, "-n", 6, "--out", "whole"],
        "begun": [*short, "-n", 2, "--no-tracking"],
        "resumed": ["train", "--resume", "runs/bandit-plain-toy-seed0", "-n", 6, "--no-tracking"],
        "compare": ["compare", "whole", "shortest", "--scenario", "whole/scenario.yaml", "-n", 5, "--json", "c.json"],
        "evaluate": ["evaluate", "whole", "--scenario", "whole/scenario.yaml", "-n", 3],
        "sweep": ["sweep", SWEEP, "--out", "swept"],
        "reproduce": ["reproduce", STUDY, "--quick", "--out", "report"],
    }
    text = json.dumps([[str(word) for word in line] for line in lines.values()])
    done = run(folder, PLUGINS, HERE / "several_commands.py", text)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert results[-1]["code"] == 0, results[-1]
    return folder, dict(zip(lines, results, strict=True))


@pytest.mark.e2e
@pytest.mark.soak
def test_a_resumed_training_equals_an_uninterrupted_one(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = trained
    one, two = folder / "whole", folder / "runs" / "bandit-plain-toy-seed0"
    for file in ("episodes.json", "checkpoint-000006/policy/weights.safetensors"):
        assert (one / file).read_bytes() == (two / file).read_bytes()
    assert len(json.loads((one / "episodes.json").read_text())["wait_s"]) == 6
    manifest = json.loads((one / "checkpoint-000006" / "policy" / "policy.json").read_text())
    assert (manifest["algorithm"], manifest["roles"]) == ("bandit", ["dispatcher"])
    assert manifest["scenario"]["kind"] == "toy"


@pytest.mark.e2e
@pytest.mark.soak
def test_a_training_says_how_it_goes_and_what_to_do_next(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    assert "mean wait, s, last 10" in results["whole"]["notes"]
    assert "edgegen compare whole coin shortest" in results["whole"]["notes"]
    assert (folder / "whole" / "learning_curve.png").exists()


@pytest.mark.e2e
@pytest.mark.soak
def test_a_trained_policy_is_compared_and_evaluated(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, results = trained
    assert set(json.loads((folder / "c.json").read_text())["policies"]) == {"whole", "shortest", "coin"}
    assert "sampled" in results["evaluate"]["out"]
    assert "greedy" in results["evaluate"]["out"]


@pytest.mark.e2e
@pytest.mark.soak
def test_its_settings_are_searched(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = trained
    report = (folder / "swept" / "report" / "report.md").read_text()
    assert "bandit, preset plain, on toy." in report
    assert "| wait, s | relative to coin |" in report.replace("| policy ", "")
    assert json.loads((folder / "swept" / "report" / "report.json").read_text())["model"]["version"]


@pytest.mark.e2e
@pytest.mark.soak
def test_a_study_of_it_is_reproduced(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = trained
    (data,) = (folder / "report").rglob("data/both.json")
    found = json.loads(data.read_text())
    assert found["kind"] == "toy"
    assert found["reference"] == "coin"
    assert {cell["label"] for cell in found["cells"]} == {"bandit", "coin", "shortest"}
    (page,) = (folder / "report").glob("*.md")
    assert "Bandit" in page.read_text()
    assert [*(folder / "report").rglob("both-curves.svg")]


@pytest.mark.e2e
@pytest.mark.soak
def test_its_records_are_in_mlflow(trained: tuple[Path, dict[str, Any]]) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{trained[0] / 'mlflow.db'}")
    runs = [run for experiment in client.search_experiments() for run in client.search_runs(experiment.experiment_id)]
    (own,) = (
        run for run in runs if run.data.tags.get("mlflow.runName", "").startswith("bandit-plain-toy-seed0, slots")
    )
    assert own.data.params["longest_s"] == "2.0"
    assert own.data.params["bandit.sharpness"] == "2.0"
    assert "episode/wait_s" in own.data.metrics
