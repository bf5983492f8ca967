# SPDX-License-Identifier: Apache-2.0
"""A thousand trials: what the driver writes and asks for does not grow with them."""

import builtins
import io
import pathlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from edgegen.platform.sweeps.history import history_of, remember
from edgegen.platform.sweeps.progress import SweepProgress
from edgegen.platform.sweeps.records import SweepRecords
from edgegen.platform.sweeps.relay import Stand, watching
from edgegen.platform.sweeps.search import RememberingASHA
from edgegen.platform.sweeps.searching import StudyPlan, StudySearch
from edgegen.platform.sweeps.state import put_state_back, states_folder, trials_in
from tests.platform.fake_search import FakeSearch

TRIALS, REPORTS = 1000, 4


class CountingStore:
    """A store that only counts what is handed over; asking it for anything would fail."""

    def __init__(self, folder):
        self.counts: dict[str, int] = {}
        self.client = SimpleNamespace(
            search_runs=lambda *_, **__: _Page(),
            get_metric_history=lambda *_: [],
        )
        self.experiment_id, self.folder = "0", folder

    def loudly(self):
        import contextlib

        return contextlib.nullcontext()

    def begin(self):
        return 0

    def create_run(self, *_):
        return "parent"

    def make_run(self, *_):
        return self._count("make_run")

    def __getattr__(self, name):
        if name in ("log_metrics", "log_parameters", "store_file", "set_tags", "end_run", "go_on"):
            return lambda *_, **__: self._count(name)
        raise AttributeError(name)

    def _count(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1
        return f"@{self.counts[name]}"


class _Page(list[Any]):
    token = None


class Written:
    """Counts the bytes that go to files."""

    def __init__(self, monkeypatch):
        self.bytes = 0
        for module, name in ((io, "open"), (builtins, "open")):
            monkeypatch.setattr(module, name, self._opening(getattr(module, name)))
        monkeypatch.setattr("shutil.copyfile", self._copying(__import__("shutil").copyfile))

    def _opening(self, original):
        def opened(file, mode="r", *rest, **options):
            found = original(file, mode, *rest, **options)
            if set(mode) & set("wax+"):
                write = found.write

                def counted(data):
                    self.bytes += len(data)
                    return write(data)

                return _Counted(found, counted)
            return found

        return opened

    def _copying(self, original):
        def copied(source, target, **options):
            self.bytes += Path(source).stat().st_size
            return original(source, target, **options)

        return copied


class _Counted:
    def __init__(self, file, write):
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """A search of a thousand trials whose driver was then killed; what it wrote, and what it handed to MLflow."""
    search, store = FakeSearch(tmp_path), CountingStore(tmp_path)
    assert pathlib  # files are opened by way of io.open
    progress = SweepProgress(search.sweep, Console(file=io.StringIO()), "large", TRIALS)
    records: Any = SweepRecords(search.sweep, "large-1", store)  # type: ignore[arg-type]  # as far as records use it
    stand = Stand()
    with monkeypatch.context() as patched, watching([stand, progress, records]):
        written = Written(patched)
        for number in range(TRIALS):
            trial = search.add()
            for k in range(1, REPORTS + 1):
                search.report(trial, k, last=k == REPORTS and number != TRIALS - 1)
    return search, store, stand, written


def test_what_is_written_and_asked_for_per_report_is_bounded(searched, tmp_path):
    search, store, stand, written = searched
    assert search.events == TRIALS * REPORTS
    assert 4_000 < written.bytes / search.events < 20_000
    assert search.whole < 100
    results = len(stand.trials)
    assert results == TRIALS
    assert [len(view.history) for view in stand.trials] == [REPORTS] * TRIALS
    assert store.counts["make_run"] == TRIALS
    assert store.counts["log_metrics"] < TRIALS * REPORTS + 3 * TRIALS  # of trials, and the best so far
    assert store.counts["end_run"] == TRIALS - 1

    # The driver is killed, and another process goes on.
    assert put_state_back(search.experiment)
    remember(states_folder(search.experiment))
    found = trials_in(search.experiment)
    assert [trial["trial_id"] for trial in found] == [trial.trial_id for trial in search.trials]
    assert [trial["status"] for trial in found] == ["TERMINATED"] * (TRIALS - 1) + ["RUNNING"]
    assert all(len(history_of(trial.trial_id)) == REPORTS for trial in search.trials)
    asha = RememberingASHA(time_attr="episodes", max_t=80, grace_period=4, reduction_factor=3)
    asha.set_search_properties("objective", "min")
    asha.recall((trial, history_of(trial.trial_id)) for trial in search.trials)
    assert [len(rung) for _, rung in asha._brackets[0]._rungs] == [0, TRIALS, TRIALS]  # halts at 36, 12 and 4
    plan = StudyPlan("s", "tpe", 0, 10, "min", search.sweep.space)
    searcher = StudySearch(plan)
    searcher.restore_from_dir(str(search.experiment))
    trials = searcher.study.get_trials()
    assert [trial.params for trial in trials] == [trial.config["settings"] for trial in search.trials]
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * (TRIALS - 1) + ["RUNNING"]
    assert set(searcher.suggest("next")["settings"]) == {"actor_lr", "hidden"}
