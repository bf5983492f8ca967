# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.history import remember
from edgegen.platform.sweeps.relay import FAILED, FINISHED, RUNNING, TrialView, view_of
from edgegen.platform.sweeps.search import ClipToSpace, RememberingASHA
from edgegen.platform.sweeps.space import Domain

SPEC = {
    "name": "small",
    "algorithm": "ladts",
    "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}},
    "budget": {"trials": 6, "episodes": 16, "report_every": 4},
}


def reports(*values):
    """Reports of these values, one every four episodes."""
    return [{"episodes": 4 * (number + 1), "objective": value} for number, value in enumerate(values)]


def result(*values):
    """The last result of a trial that reported these values."""
    return {"episodes": 4 * len(values), "objective": values[-1]} if values else {}


@pytest.fixture
def histories(tmp_path):
    return remember(tmp_path)


def asha():
    made = RememberingASHA(time_attr="episodes", max_t=16, grace_period=4, reduction_factor=2)
    made.set_search_properties("objective", "min")
    return made


def trial(name, *values):
    return SimpleNamespace(trial_id=name, status="TERMINATED", last_result=result(*values))


class Controller:
    """Tune's controller, as far as schedulers look at it."""

    def __init__(self, trials):
        self.get_trials = lambda: trials
        self.save_to_dir = None
        self._checkpoint_manager = SimpleNamespace(_sync_every_n_trial_checkpoints=2)


def test_halving_goes_on_where_it_was():
    stories = {"a": (1.0, 0.9, 0.8), "b": (2.0, 1.5), "c": (3.0,), "d": (0.5, 0.7)}
    lived = asha()
    for name in stories:
        lived.on_trial_add(None, trial(name))
    for name, values in stories.items():
        for number in range(len(values)):
            lived.on_trial_result(None, trial(name), result(*values[: number + 1]))
    restored = asha()
    restored.recall([(trial(name), reports(*values)) for name, values in stories.items()])
    assert [rung for _, rung in restored._brackets[0]._rungs] == [rung for _, rung in lived._brackets[0]._rungs]
    for scheduler in (lived, restored):
        scheduler.on_trial_add(None, trial("e"))
        assert scheduler.on_trial_result(None, trial("e"), result(1.7)) == "STOP"  # worse than the better half
    fresh = asha()
    fresh.on_trial_add(None, trial("e"))
    assert fresh.on_trial_result(None, trial("e"), result(1.7)) == "CONTINUE"  # had it forgotten


def test_it_recalls_once_and_before_the_first_decision(histories):
    scheduler = asha()
    histories.add("a", {"first": 0, "reports": reports(1.0, 0.5)})
    controller: Any = Controller([trial("a", 1.0, 0.5), trial("b")])
    scheduler.choose_trial_to_run(controller)
    recorded = [dict(rung) for _, rung in scheduler._brackets[0]._rungs]
    assert recorded == [{}, {"a": -0.5}, {"a": -1.0}]
    scheduler.choose_trial_to_run(controller)
    assert controller._checkpoint_manager._sync_every_n_trial_checkpoints is None
    assert [dict(rung) for _, rung in scheduler._brackets[0]._rungs] == recorded


def test_moved_values_stay_in_their_ranges():
    clip = ClipToSpace(
        {"a": Domain("log_uniform", (0.1, 1.0)), "b": Domain("int", (2, 8)), "c": Domain("choice", ("x", "y"))}
    )
    config = clip({"folder": "f", "settings": {"a": 1.2, "b": 9.6, "c": "y"}})
    assert config == {"folder": "f", "settings": {"a": 1.0, "b": 8, "c": "y"}}


def test_trials_are_numbered_as_they_were_created(histories):
    def tuned(name, tag, status, values=()):
        histories.add(name, {"first": 0, "reports": reports(*values)})
        return SimpleNamespace(
            trial_id=name,
            experiment_tag=tag,
            status=status,
            config={"settings": {"x": 1}},
            last_result=result(*values),
            checkpoint=SimpleNamespace(path="/c") if values else None,
            num_failures=0,
            error_file=None,
        )

    trials = [
        tuned("first", "1", "TERMINATED", (3.0,)),
        tuned("second", "2_x=1@perturbed[x=2]", "ERROR"),
        tuned("late", "12_x=1", "RUNNING", (2.0, 1.0)),
    ]
    views = [view_of(trial, 1) for trial in trials]
    assert [(view.identity, view.number, view.status, view.episodes) for view in views] == [
        ("first", 0, FINISHED, 4),
        ("second", 1, FAILED, 0),
        ("late", 11, RUNNING, 8),
    ]
    assert views[2].objective == 1.0
    assert [TrialView.of(view.to_json()) for view in views] == views


def test_searchers_and_schedulers_follow_the_spec():
    from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining

    from edgegen.platform.sweeps import search

    sweep = make_sweep({**SPEC, "scheduler": {"kind": "asha", "grace_episodes": 8}})
    scheduler = search._scheduler(sweep)
    assert [milestone for milestone, _ in scheduler._brackets[0]._rungs] == [8]
    assert isinstance(search._scheduler(make_sweep({**SPEC, "scheduler": {"kind": "none"}})), FIFOScheduler)
    pbt = make_sweep({**SPEC, "scheduler": {"kind": "pbt"}, "searcher": {"kind": "random"}})
    assert isinstance(search._scheduler(pbt), PopulationBasedTraining)
    drawn = []
    for kind in ("random", "tpe", "gp", "cmaes"):
        for _ in range(2):
            searcher = search._searcher(make_sweep({**SPEC, "searcher": {"kind": kind, "seed": 3}}), "s")
            drawn.append([searcher.suggest(str(number))["settings"]["actor_lr"] for number in range(3)])
    assert drawn[::2] == drawn[1::2]  # the same seed
    assert all(1e-4 <= value <= 1e-2 for values in drawn for value in values)


class PopulationTrial:
    """One of Tune's trials, as far as PB2 looks at it."""

    def __init__(self, name, value):
        self.trial_id, self.experiment_tag, self.evaluated_params = name, name, {}
        self.config = {"folder": "f", "settings": {"actor_lr": value}}
        keeping = SimpleNamespace(checkpoint_config=SimpleNamespace(num_to_keep=4))
        self.run_metadata = SimpleNamespace(checkpoint_manager=keeping)

    def __str__(self):
        return str(self.trial_id)


def test_a_process_of_gains_proposes_what_a_population_goes_on_with(monkeypatch):
    from edgegen.platform.sweeps import search

    spec = {**SPEC, "scheduler": {"kind": "pb2"}, "searcher": {"kind": "random"}}
    made = search._scheduler(make_sweep({**spec, "space": {"actor_lr": {"uniform": [0.0001, 0.0101]}}}))
    made.set_search_properties("objective", "min")
    best, worst = PopulationTrial("best", 0.002), PopulationTrial("worst", 0.009)
    for each in (best, worst):
        made.on_trial_add(SimpleNamespace(search_alg=None), each)
    for k in range(1, 5):  # the best gains 1 with every report, the other nothing
        for each, objective in ((best, 10.0 - k), (worst, 10.0 + 0.1 * k)):
            result = {"episodes": 4 * k, "objective": objective, "training_iteration": k}
            made._save_trial_state(made._trial_state[each], 4 * k, result, each)
    config, _ = made._get_new_config(worst, best)
    assert config["folder"] == "f"
    assert 0.0001 <= config["settings"]["actor_lr"] < 0.0055  # on the side where something is gained

    def fits_nothing(*_):
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr("ray.tune.schedulers.pb2._explore", fits_nothing)
    assert made._get_new_config(worst, best) == (best.config, {})


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_is_the_best_of_the_longest_trained(mode):
    from edgegen.platform.sweeps.progress import best_of, ranking

    sweep = make_sweep({**SPEC, **({} if mode == "min" else {"algorithm": "t2drl", "metric": "hit_ratio"})})

    def view(number, status, *values):
        return TrialView(str(number), number, status, {"settings": {}}, tuple(reports(*values)), (), None)

    trials = [
        view(0, FINISHED, 5.0, 5.0, 5.0, 3.0),
        view(1, FINISHED, 9.0),
        view(2, FINISHED, 0.1),
        view(3, FINISHED, 5.0, 5.0, 5.0, 4.0),
        view(4, RUNNING),
    ]
    order = [0, 3, 2, 1] if mode == "min" else [3, 0, 1, 2]
    assert [trial.number for trial in ranking(sweep, trials)] == order
    best = best_of(sweep, trials)
    assert best is not None
    assert best.number == order[0]
    assert best_of(sweep, trials[4:]) is None
