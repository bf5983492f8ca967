# SPDX-License-Identifier: Apache-2.0
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from edgegen.algorithms.core.catalog import make_policy
from edgegen.platform.engine.tuning import Spent
from edgegen.platform.live_table import duration
from edgegen.platform.records.model_registry import Registration
from edgegen.platform.runs.comparison import compare
from edgegen.platform.sweeps.bar import TunedResult
from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.importance import optuna_study
from edgegen.platform.sweeps.progress import SweepProgress
from edgegen.platform.sweeps.relay import FAILED, FINISHED, RUNNING, TrialView
from edgegen.platform.sweeps.report import (
    CONTROL,
    FinalResult,
    SweepOutcome,
    choose,
    summary,
    write_report,
)

TIMES = "\N{MULTIPLICATION SIGN}"
SWEEP = make_sweep(
    {
        "name": "small",
        "algorithm": "ladts",
        "overrides": {"slots": 4, "tasks_per_slot.high": 3},
        "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}, "hidden": {"choice": [8, 16]}},
        "budget": {"trials": 8, "episodes": 12, "report_every": 4},
        "retrain": {"seeds": [11, 12, 13]},
    }
)


def view(number, *objectives, status=FINISHED, hidden=8):
    values = {"actor_lr": 1e-4 * (number + 1), "hidden": hidden}
    history = tuple({"episodes": 4 * (k + 1), "objective": value} for k, value in enumerate(objectives))
    return TrialView(f"t{number}", number, status, {"settings": values}, history, ((0, values),), None)


def finals(**values):
    return [
        FinalResult(label.replace("_", " "), seed, value, Path(f"/{label}/{seed}"), f"{label}{seed}")
        for label, by_seed in values.items()
        for seed, value in zip((11, 12, 13), by_seed, strict=False)
    ]


def test_the_seed_in_the_middle_of_the_best_settings_is_taken():
    results = finals(trial_3=(1.0, 5.0, 3.0), trial_7=(2.0, 2.1, 2.2), preset=(0.1, 0.1, 0.1))
    chosen = choose(SWEEP, results)
    assert (chosen.label, chosen.seed, chosen.objective) == ("trial 7", 12, 2.1)  # not trial 3, whose seed 11 is best
    assert choose(SWEEP, finals(trial_1=(1.0, 2.0), preset=(0.0, 0.0))).objective == 2.0  # of two the worse
    most = make_sweep({**SWEEP.spec.model_dump(), "algorithm": "t2drl", "overrides": {}, "metric": "hit_ratio"})
    assert choose(most, results).label == "trial 3"


def test_importances_compare_trials_after_the_same_training():
    # Trial 1 was stopped after one report: its value there counts, and those of the others at the same point.
    made, episodes = optuna_study(SWEEP, [view(0, 9.0, 1.0, 0.5), view(1, 2.0), view(2, 5.0, 4.0), view(3)])
    assert episodes == 4
    assert [trial.value for trial in made.trials] == [9.0, 2.0, 5.0]
    assert made.trials[0].params == {"actor_lr": 1e-4, "hidden": 8}


@pytest.fixture(scope="module")
def outcome():
    rules = ("least-delay", "capacity-weighted")
    comparison = compare(SWEEP.world, {rule: make_policy(rule, SWEEP.world, 0) for rule in rules}, 3, 1000)
    trials = [
        view(number, 3.0 + 0.001 * number, 2.0 - 0.1 * (number % 2), hidden=8 + 8 * (number % 2)) for number in range(8)
    ]
    results = finals(trial_1=(1.9, 2.0, 2.1), preset=(1.0, 1.1, 1.2))
    return SweepOutcome(
        sweep=SWEEP,
        trials=(*trials, view(8, status=FAILED)),
        finals=tuple(results),
        chosen=choose(SWEEP, results),
        comparison=comparison,
        registration=Registration("edgegen-small", "3", "challenger", "Not better."),
        seconds=61.0,
        tuned=tuned(1.5, 1.6, 1.4),
    )


def tuned(*by_seed):
    """A rule that was tuned with each seed."""
    spent = Spent(3, 1, 12, 600)
    return tuple(
        TunedResult("priced-greedy (tuned)", seed, value, Path(f"/tuned/{seed}"), spent)
        for seed, value in zip((11, 12, 13), by_seed, strict=True)
    )


def test_of_the_bar_the_seed_in_the_middle_is_taken(outcome):
    assert (outcome.bar.seed, outcome.bar.objective) == (11, 1.5)
    assert outcome.labels == ["trial 1", "preset", "priced-greedy (tuned)"]


def test_the_report_says_whether_learning_passed_the_bar(outcome, tmp_path):
    behind = SweepOutcome(**{**vars(outcome), "tuned": tuned(2.5, 2.6, 2.4)})
    assert "The bar, priced-greedy (tuned), has 2.50 on average." in summary(behind)[-1]
    without = SweepOutcome(**{**vars(outcome), "tuned": ()})
    write_report(without, tmp_path)
    assert "tuned" not in (tmp_path / "report.md").read_text()
    assert without.bar is None


def test_the_report_says_what_was_found_and_with_which_seeds(outcome, tmp_path):
    write_report(outcome, tmp_path)
    text = (tmp_path / "report.md").read_text()
    for part in (
        "| search | 0 | validation, seed 0, 20 episodes |",
        "| final training | 11, 12, 13 | the same |",
        "evaluation, seed 1000, 3 episodes",
        "1 failed",
        "![Importances](importance.png)",
        "![Parallel coordinates](parallel.png)",
        "| trial 1 | 2.00 ± 0.25 | 1.90 | 2.00 | 2.10 |",  # t(0.975, 2 df) · 0.1 / √3
        "the one in the middle (2.00). The preset without any change is no worse (1.10): the search did not pay. "
        "The bar, priced-greedy (tuned), is no worse (1.50): learning did not pay.",
        "| priced-greedy (tuned) | 1.50 ± 0.25 | 1.50 | 1.60 | 1.40 |",
        f"priced-greedy (tuned), on the training episodes of each seed: 3 trials {TIMES} 1 training episodes {TIMES} "
        "50 requests, and at most 9 episodes in the final round: 600 requests for each seed, no more than the 12 "
        "episodes of a training.",
        "`models:/edgegen-small/3`, alias `challenger`. Not better.",
        "| least-delay |",
    ):
        assert part in text
    for name in ("importance", "parallel", "comparison"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / f"{name}.svg").is_file()
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["format"] == "edgegen-sweep-1"
    assert len(data["trials"]) == 9
    assert data["final"]["trial 1"]["seeds"] == {"11": 1.9, "12": 2.0, "13": 2.1}
    assert data["final"]["priced-greedy (tuned)"]["seeds"] == {"11": 1.5, "12": 1.6, "13": 1.4}
    spent = {"trials": 3, "episodes": 1, "played": 12, "requests": 600, "start": 0}
    assert data["tuned"]["priced-greedy (tuned)"]["11"] == spent
    assert data["chosen"] == {"settings_of": "trial 1", "seed": 12, "policy": "/trial_1/12"}
    assert sum(data["importances"]["shares"].values()) == pytest.approx(1)
    assert any("did not pay" in line for line in summary(outcome))
    assert any(CONTROL in line for line in summary(outcome))


def test_few_trials_tell_no_importances(outcome, tmp_path):
    few = SweepOutcome(**{**vars(outcome), "trials": outcome.trials[:3]})
    write_report(few, tmp_path)
    assert "3 trials are too few" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "importance.png").exists()


def test_the_table_shows_every_state_the_best_and_the_time_left(monkeypatch):
    clock = iter([0.0, *[100.0] * 20])
    monkeypatch.setattr("edgegen.platform.sweeps.progress.time.monotonic", lambda: next(clock))
    out = io.StringIO()
    progress = SweepProgress(SWEEP, Console(file=out, width=160), "small: search", 4)
    progress.watch([view(0, 2.0)], [view(0, 2.0)])  # stopped early in an earlier process: no work of this one
    now = [view(0, 2.0), view(1, 1.0, 1.0, 0.5), view(2, 3.0, status=FAILED), view(3, 3.0, status=RUNNING)]
    progress.watch(now, now[1:])
    # Behind us 1 at the start, now 3 1/3 trials; 2 1/3 in 100 s, so 2/3 take 28.6 s.
    assert progress.headline() == (
        "3 of 4 trials, 1 running, 1 failed, best mean_delay_s 0.5 (trial 1), 1 min 40 s elapsed, at most 29 s left"
    )
    lines = out.getvalue().splitlines()
    assert [line.split(" after")[0] for line in lines] == ["trial 0 finished", "trial 1 finished", "trial 2 failed"]
    Console(file=out, width=160).print(progress.render())
    table = out.getvalue()[sum(len(line) + 1 for line in lines) :]
    assert table.index("running") < table.index("finished") < table.index("failed")
    assert "actor_lr" in table


def test_times_are_said_as_people_say_them():
    assert [duration(seconds) for seconds in (0.4, 59.4, 61, 3600, 7325)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h 0 min",
        "2 h 2 min",
    ]
