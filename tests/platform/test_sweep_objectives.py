# SPDX-License-Identifier: Apache-2.0
"""Sweeps with several objectives: what decides, what is searched beside it, and the front."""

import json

import optuna
import pytest
import yaml
from rich.console import Console

from edgegen.envs.core.errors import InputError
from edgegen.platform.engine.doing import read_json
from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.front import draw_front, front_lines, front_of
from edgegen.platform.sweeps.history import remember
from edgegen.platform.sweeps.objectives import TRAINING_CPU, Objective, pareto_front
from edgegen.platform.sweeps.progress import SweepProgress
from edgegen.platform.sweeps.relay import FAILED, FINISHED, TrialView
from edgegen.platform.sweeps.searching import StudySearch
from edgegen.platform.sweeps.training import SeedsTraining
from tests.platform.command_lines import run
from tests.platform.small_sweep import SMALL

SPEC = {
    "name": "both",
    **SMALL,
    "objectives": [{"metric": "mean_delay_s"}, {"metric": TRAINING_CPU, "mode": "min"}],
    "searcher": {"kind": "tpe", "startup_trials": 2},
    "scheduler": {"kind": "none"},
    "budget": {"trials": 3, "episodes": 4, "report_every": 4},
}


def view(number, objective, cpu_s, status=FINISHED, episodes=4):
    values = {"actor_lr": 1e-4 * (number + 1)}
    last = {"episodes": episodes, "objective": objective, "also": {TRAINING_CPU: cpu_s}}
    return TrialView(f"t{number}", number, status, {"settings": values}, (last,), ((0, values),), None)


def test_the_front_is_what_nothing_beats_in_everything():
    less, more = Objective("a", "min"), Objective("b", "max")
    assert pareto_front([less, less], [(1, 5), (2, 2), (3, 3), (5, 1), (2, 2)]) == [0, 1, 3, 4]  # equals stay
    assert pareto_front([less, more], [(1, 5), (2, 2), (3, 9)]) == [0, 2]
    assert pareto_front([less], [(3,), (1,), (2,)]) == [1]
    assert pareto_front([less], []) == []


def test_the_first_objective_decides_and_directions_are_known():
    sweep = make_sweep(SPEC)
    assert (sweep.metric, sweep.mode, sweep.also) == ("mean_delay_s", "min", (Objective(TRAINING_CPU, "min"),))
    goals = [{"metric": "hit_ratio"}, {"metric": "mean_cost"}]
    other = make_sweep({**SPEC, "algorithm": "t2drl", "scenario": None, "overrides": {}, "settings": {},
                        "space": {"tau": {"uniform": [0.001, 0.1]}}, "objectives": goals})  # fmt: skip
    assert [(each.metric, each.mode) for each in other.objectives] == [("hit_ratio", "max"), ("mean_cost", "min")]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"metric": "mean_delay_s"}, "metric and objectives both say what decides"),
        ({"objectives": [{"metric": "mean_delay_s"}]}, "objectives"),
        ({"objectives": [{"metric": "mean_delay_s"}] * 2}, "none may occur twice"),
        ({"objectives": [{"metric": "mean_delay_s"}, {"metric": "mean_dealy_s"}]}, "Did you mean 'mean_delay_s'?"),
        ({"objectives": [{"metric": TRAINING_CPU}, {"metric": "mean_delay_s"}]}, "the first objective decides"),
        (
            {"objectives": [{"metric": "mean_delay_s", "mode": "max"}, {"metric": TRAINING_CPU}]},
            "objectives.0.mode is 'max', but of mean_delay_s less is better; write min, or leave it out.",
        ),
        ({"searcher": {"kind": "cmaes"}}, "searcher cmaes knows only one"),
        ({"scheduler": {"kind": "pbt"}, "searcher": {"kind": "random"}}, "follows one metric"),
        ({"objectives": "mean_delay_s"}, "'objectives' is 'mean_delay_s', but must be a list."),
        ({"objectives": ["a", "b"]}, "'objectives.0' is 'a', but must be a mapping of names to values."),
        ({"objectives": [{"metrik": "mean_delay_s"}, {}]}, "'objectives.0.metric' is missing"),
    ],
)
def test_what_can_be_no_objectives_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(InputError) as error:
        make_sweep({**SPEC, **changes})
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_training_reports_every_objective_and_counts_on_after_a_checkpoint(tmp_path):
    training = SeedsTraining(
        make_sweep({**SPEC, "budget": {"trials": 1, "episodes": 8, "report_every": 4}}), [0], [(0, {"actor_lr": 1e-3})]
    )
    first = training.report()
    assert set(first["also"]) == {TRAINING_CPU}
    assert first["also"][TRAINING_CPU] == first["seeds"]["0"]["also"][TRAINING_CPU] > 0
    training.save(tmp_path)
    again = SeedsTraining(training.sweep, [0], [(0, {"actor_lr": 1e-3})])
    again.load(tmp_path)
    assert again.report()["also"][TRAINING_CPU] > first["also"][TRAINING_CPU]
    for each in (training, again):
        each.close()


@pytest.mark.parametrize("kind", ["tpe", "gp", "random"])
def test_searchers_learn_from_all_objectives_and_remember_them(tmp_path, kind):
    histories = remember(tmp_path)
    from edgegen.platform.sweeps import search

    url = f"sqlite:///{tmp_path / 'study.db'}"
    sweep = make_sweep({**SPEC, "searcher": {"kind": kind, "startup_trials": 2, "storage": url}})
    first = search._searcher(sweep, "s")
    assert isinstance(first, StudySearch)
    drawn = {name: first.suggest(name)["settings"] for name in "abcd"}
    for k, name in enumerate("abc"):
        report = {"episodes": 4, "objective": float(k), "also": {TRAINING_CPU: 9.0 - k}}
        histories.add(name, {"first": 0, "reports": [report]})
        first.on_trial_complete(name, report)
    first.suggest("e")  # with something to learn from
    again = search._searcher(sweep, "s")
    assert isinstance(again, StudySearch)
    again.recall([{"trial_id": n, "config": {"settings": drawn[n]}, "status": "TERMINATED"} for n in "abc"])
    study = optuna.load_study(study_name="s", storage=url)
    assert [trial.values for trial in study.get_trials()[:3]] == [[0.0, 9.0], [1.0, 8.0], [2.0, 7.0]]
    assert len(study.best_trials) == 3  # none beats another in both


def test_the_front_is_a_table_and_a_figure_of_the_longest_trained(tmp_path):
    sweep = make_sweep(SPEC)
    trials = [
        view(0, 3.0, 10.0), view(1, 2.0, 20.0), view(2, 2.5, 25.0), view(3, 9.0, 5.0), view(4, 0.1, 0.1, FAILED),
        view(5, 0.2, 0.2, episodes=2),
    ]  # fmt: skip
    assert [trial.number for trial in front_of(sweep, trials)] == [1, 0, 3]
    lines = front_lines(sweep, trials)
    assert [line for line in lines if line.startswith("| ")][1:] == [
        "| 1 | 2 | 20 | 0.0002 |", "| 0 | 3 | 10 | 0.0001 |", "| 3 | 9 | 5 | 0.0004 |",
    ]  # fmt: skip
    assert "Of 4 trials" in "\n".join(lines)
    written = draw_front(sweep, trials, tmp_path)
    assert [path.name for path in written] == ["front.png", "front.svg"]
    assert front_of(sweep, []) == []
    screen = Console(width=120, record=True, quiet=False, file=(tmp_path / "screen").open("w"))
    progress = SweepProgress(sweep, screen, "both: search", 6)
    progress.watch(trials, [])
    screen.print(progress.render())
    assert TRAINING_CPU in (text := screen.export_text())
    assert "25" in text


@pytest.mark.e2e
@pytest.mark.soak
def test_a_sweep_with_two_objectives_from_its_file_to_its_report(tmp_path):
    file, out = tmp_path / "both.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(SPEC))
    result = run("sweep", file, "--out", out, "--no-tracking")
    assert result.exit_code == 0, result.output
    trials = [TrialView.of(data) for data in read_json(out / "search.json")]
    found = json.loads((out / "report" / "report.json").read_text())
    assert [row["trial"] for row in found["front"]] == [trial.number for trial in front_of(make_sweep(SPEC), trials)]
    assert found["objectives"] == [{"metric": "mean_delay_s", "mode": "min"}, {"metric": TRAINING_CPU, "mode": "min"}]
    text = (out / "report" / "report.md").read_text()
    assert "## Pareto front" in text
    assert (out / "report" / "front.png").stat().st_size > 5000
    best = min(trials, key=lambda trial: trial.objective or 0.0)
    assert f"the settings of trial {best.number}" in text
    status = run("sweep", "status", out)
    assert TRAINING_CPU in status.stdout
