# SPDX-License-Identifier: Apache-2.0
"""The Python interface does what the commands do, with their defaults."""

import doctest
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

import edgegen
from edgegen.algorithms.core.codec import save_policy
from edgegen.algorithms.methods.registry import find_method
from edgegen.platform import api
from edgegen.platform.cli import app
from edgegen.platform.commands import compare as compare_command
from edgegen.platform.runs.training import EpisodeReport, TrainRequest


def trained(folder: Path, seed: int, preset: str = "improved", **changes: Any) -> Path:
    """Write the policy of an untrained network as if a training of this seed had made it."""
    method, world = find_method("ladts"), edgegen.load_world("demo")
    settings = method.make_settings(preset, changes)
    learning = method.learning(world, settings)
    policy = learning.policy({role: learner.network() for role, learner in learning.roles.items()}, seed)
    what = {"algorithm": "ladts", "preset": preset, "settings": settings.model_dump(), "seed": seed, "episodes": 5}
    save_policy(policy, folder, world, what)
    return folder


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trainings of one method and one of another."""
    folder = tmp_path_factory.mktemp("policies")
    for seed in range(3):
        trained(folder / f"run-{seed}", seed)
    trained(folder / "other", 0, hidden=8)
    return folder


def test_the_package_has_the_interface_and_loads_it_when_it_is_asked_for() -> None:
    for name in edgegen.__all__:
        assert getattr(edgegen, name) is not None
    assert set(edgegen.__all__) <= set(dir(edgegen))
    with pytest.raises(AttributeError, match=r"^module 'edgegen' has no attribute 'comprae'$"):
        edgegen.comprae  # noqa: B018
    code = "import edgegen, sys; print('torch' in sys.modules, edgegen.load_world('demo').name, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False demo False\n"


def test_its_examples_are_true() -> None:
    tests = doctest.DocTestFinder().find(api, globs=vars(api))
    examples = [test for test in tests if test.examples]
    assert {test.name.rpartition(".")[2] for test in examples} == {"load_world", "make_policy", "play", "compare"}
    for test in examples:
        assert doctest.DocTestRunner().run(test).failed == 0


def test_its_defaults_are_those_of_the_commands() -> None:
    own = inspect.signature(edgegen.compare).parameters
    command = inspect.signature(compare_command.compare).parameters
    assert all(own[name].default == command[name].default for name in ("episodes", "seed"))
    assert inspect.signature(edgegen.train).parameters["seed"].default == TrainRequest.seed


def test_a_comparison_is_that_of_the_command(tmp_path: Path) -> None:
    line = [
        "compare",
        "-s",
        "demo",
        "-n",
        "4",
        "--set",
        "slots=10",
        "local",
        "least-delay",
        "--json",
        str(tmp_path / "c.json"),
    ]
    assert CliRunner().invoke(app, line).exit_code == 0
    found = edgegen.compare(edgegen.load_world("demo", {"slots": 10}), ["local", "least-delay"], episodes=4)
    assert found.to_json()["policies"].keys() == json.loads((tmp_path / "c.json").read_text())["policies"].keys()
    for row in found.rows:
        told = json.loads((tmp_path / "c.json").read_text())["policies"][row.label]["per_episode"]["mean_delay_s"]
        assert told == row.results["mean_delay_s"].tolist()
        alone = edgegen.play(found.scenario, row.label, episodes=4)
        assert alone["mean_delay_s"].tolist() == told
    frame = found.to_frame()
    assert frame["policy"].tolist() == [row.label for row in found.rows]
    assert frame["mean_delay_s"].tolist() == [row.mean.estimate for row in found.rows]
    assert edgegen.play("demo", "local", episodes=2).to_frame().shape[0] == 2


def test_policies_are_given_by_name_by_label_or_as_they_are(policies: Path) -> None:
    mine = edgegen.make_policy("local", "demo")
    found = edgegen.compare("demo", {"mine": mine, "theirs": policies / "run-0"}, episodes=2)
    assert {row.label for row in found.rows} == {"mine", "theirs", "capacity-weighted"}
    with pytest.raises(edgegen.InputError, match=r"^Two policies are called 'local'; give a dictionary"):
        edgegen.compare("demo", ["local", mine], episodes=2)
    with pytest.raises(edgegen.InputError, match=r"Did you mean 'least-delay'\?$"):
        edgegen.compare("demo", ["least-dealy"], episodes=2)


def test_trainings_of_a_method_are_pooled(policies: Path, tmp_path: Path) -> None:
    runs = [policies / f"run-{seed}" for seed in range(3)]
    alone = edgegen.compare("demo", [*runs, policies / "other", "local"], episodes=4)
    found = edgegen.compare("demo", [*runs, policies / "other", "local"], episodes=4, pooled=True)
    assert {row.label for row in found.rows} == {
        "ladts improved (run-0, …)",
        "ladts improved (other)",
        "local",
        "capacity-weighted",
    }
    pooled = found.row("ladts improved (run-0, …)")
    assert list(pooled.trainings) == [0, 1, 2]
    means = [alone.row(f"run-{seed}").mean.estimate for seed in range(3)]
    assert pooled.mean.estimate == pytest.approx(np.mean(means))
    base = alone.row("capacity-weighted").mean.estimate
    assert pooled.ratio.estimate == pytest.approx(np.mean(means) / base)
    assert pooled.difference.estimate == pytest.approx(np.mean(means) - base)
    assert pooled.mean.method == "t over runs and episodes"
    assert found.row("local").difference == alone.row("local").difference
    seeds = found.to_json()["marl_eval"]["offloading"]["demo"]["ladts improved (run-0, …)"]
    assert list(seeds) == ["seed_0", "seed_1", "seed_2"]
    with pytest.raises(
        edgegen.InputError, match=r"^'run-0' and 'again' are the same training with the same seed \(0\)"
    ):
        edgegen.compare("demo", {"run-0": runs[0], "again": runs[0]}, episodes=2, pooled=True)
    line = ["compare", "-s", "demo", "-n", "2", "--group", "method", *map(str, runs), "--table", str(tmp_path / "t.md")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert "| ladts improved | 3 |" in (tmp_path / "t.md").read_text()
    line = [*line[:5], "--group", "method", str(runs[0]), "--reference", "run-0"]
    refused = CliRunner().invoke(app, line)
    assert refused.exit_code == 2
    assert "--reference is 'run-0', but trainings are pooled" in refused.stderr


def test_figures_are_matplotlib_objects_with_own_labels(policies: Path, tmp_path: Path) -> None:
    runs = [policies / f"run-{seed}" for seed in range(2)]
    found = edgegen.compare("demo", [*runs, "local"], episodes=3, pooled=True)
    figure = edgegen.figures.comparison(found, {"local": "stay at home"}, title="Mine")
    assert isinstance(figure, Figure)
    left, right = figure.axes
    assert "stay at home" in [label.get_text() for label in left.get_yticklabels()]
    assert figure.get_suptitle() == "Mine"
    assert right.get_xlim() == (-20.0, 20.0)
    (legend,) = figure.legends
    texts = " ".join(text.get_text() for text in legend.get_texts())
    assert "interval over episodes" in texts
    assert "over training seeds and episodes" in texts
    figure.savefig(tmp_path / "mine.pdf")
    assert (tmp_path / "mine.pdf").read_bytes().startswith(b"%PDF")
    episode = edgegen.figures.episode("fleet-8:scarce", {"bar": "earliest"})
    assert isinstance(episode, Figure)
    with pytest.raises(edgegen.InputError, match=r"only episodes of the kind fleet can be shown"):
        edgegen.figures.episode("demo", {"bar": "local"})


@pytest.mark.e2e
def test_training_and_tuning_end_in_policies_that_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world = edgegen.load_world("demo", {"slots": 5})
    told: list[EpisodeReport] = []
    run = edgegen.train("ladts", world, episodes=3, settings={"copies": 2}, on_episode=told.append)
    assert run.out == Path("runs/ladts-improved-demo-seed0")
    assert [(report.episode, report.episodes) for report in told] == [(2, 4), (4, 4)]  # two at a time
    assert {len(values) for values in run.episodes.values()} == {4}
    assert isinstance(edgegen.figures.training(run), Figure)
    tuned = edgegen.tune("priced-greedy", world, trials=3, episodes=2, out=tmp_path / "tuned")
    assert tuned.policy is not None
    found = edgegen.compare(world, {"learned": run.policy, "tuned": tuned.policy}, episodes=2)
    assert {row.label for row in found.rows} == {"learned", "tuned", "capacity-weighted"}
