# SPDX-License-Identifier: Apache-2.0
"""Studies of sweeps: made anew of Tune's trials, or kept in a database that others can read."""

import optuna
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.platform.sweeps.history import remember
from edgegen.platform.sweeps.searching import TRIAL, StudyPlan, StudySearch
from edgegen.platform.sweeps.space import Domain

SPACE = {"x": Domain("uniform", (0.0, 1.0)), "n": Domain("log_int", (1, 8)), "c": Domain("choice", ("a", "b"))}


def known(name, settings, status):
    return {"trial_id": name, "config": {"settings": settings}, "status": status}


def test_a_study_in_a_database_is_gone_on_with_and_can_be_read(tmp_path):
    histories = remember(tmp_path)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    plan = StudyPlan("s", "tpe", 0, 2, "min", SPACE, url)
    first = StudySearch(plan)
    drawn = {name: first.suggest(name)["settings"] for name in ("a", "b", "c", "unheard")}
    first.on_trial_complete("a", {"objective": 3.0})
    histories.add("b", {"first": 0, "reports": [{"episodes": 4, "objective": 2.0}]})
    # The driver is killed. Tune remembers that b ended, which Optuna was not told, and nothing of the last one.
    again = StudySearch(plan)
    statuses = {"a": "TERMINATED", "b": "TERMINATED", "c": "RUNNING"}
    again.recall([known(name, drawn[name], status) for name, status in statuses.items()])
    again.on_trial_complete("c", {"objective": 1.0})
    study = optuna.load_study(study_name="s", storage=url)
    assert [(trial.user_attrs[TRIAL], trial.value, trial.state.name) for trial in study.get_trials()] == [
        ("a", 3.0, "COMPLETE"),
        ("b", 2.0, "COMPLETE"),
        ("c", 1.0, "COMPLETE"),
        ("unheard", None, "FAIL"),
    ]
    assert [trial.params for trial in study.get_trials()] == list(drawn.values())
    assert study.best_trial.user_attrs[TRIAL] == "c"


def test_a_study_in_memory_is_made_anew_and_draws_nothing_twice(tmp_path):
    histories = remember(tmp_path)
    plan = StudyPlan("s", "random", 7, 2, "max", SPACE)
    first = StudySearch(plan)
    drawn = {name: first.suggest(name)["settings"] for name in "abc"}
    histories.add("a", {"first": 0, "reports": [{"episodes": 4, "objective": 2.0}]})
    again = StudySearch(plan)
    again.recall([known("a", drawn["a"], "TERMINATED"), known("b", drawn["b"], "ERROR"), known("c", drawn["c"], "x")])
    assert [trial.params for trial in again.study.get_trials()] == list(drawn.values())
    new = [again.suggest(name)["settings"]["x"] for name in "def"]
    assert not {values["x"] for values in drawn.values()} & set(new)
    again.on_trial_complete("b", None, error=True)
    again.on_trial_complete("nobody's", {"objective": 1.0})
    assert [trial.state.name for trial in again.study.get_trials()[:3]] == ["COMPLETE", "FAIL", "RUNNING"]


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/study.db", "nonsense", "mysql://u:secret@127.0.0.1:1/x"])
def test_a_database_that_can_not_be_used_is_said_in_a_sentence(url):
    with pytest.raises(InputError, match=r"searcher\.storage is '.*', which can not be used: .*\.$") as error:
        _ = StudySearch(StudyPlan("s", "tpe", 0, 2, "min", SPACE, url)).study
    assert "secret" not in str(error.value)
