# SPDX-License-Identifier: Apache-2.0
"""MLflow's records of a sweep, whatever moment its driver is killed at; and 20 writers at once."""

from collections import Counter
from dataclasses import replace

import pytest

from edgegen.platform.records.tracking import Store
from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.records import SweepRecords
from edgegen.platform.sweeps.relay import FAILED, FINISHED, RUNNING, WAITING, TrialView

SWEEP = make_sweep(
    {
        "name": "small",
        "algorithm": "ladts",
        "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}, "hidden": {"choice": [8, 16]}},
        "budget": {"trials": 3, "episodes": 12, "report_every": 4},
        "seeds": [0, 5],
        "settings": {"copies": 2},
    }
)


def reports(count):
    return tuple(
        {
            "episodes": 4 * number,
            "objective": 1.0 / number,
            "seeds": {
                seed: {"validation": number + float(seed), "training": 2.0, "critic_loss": 0.5} for seed in ("0", "5")
            },
            "process": {"cpu_s": 1.0, "memory_mb": 100.0},
        }
        for number in range(1, count + 1)
    )


def view(number, status, count, checkpoint=None):
    values = {"actor_lr": 1e-3 * (number + 1), "hidden": 8}
    schedule = ((0, values),) if count else ()
    return TrialView(f"t{number}", number, status, {"settings": values}, reports(count), schedule, checkpoint)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"  # made once: that takes longer than most tests here


@pytest.fixture
def runs(database, monkeypatch, tmp_path):
    """Reads the runs of the sweeps whose names begin with a text."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")

    def read(start):
        store = Store(tmp_path)
        found = store.client.search_runs([store.experiment_id], max_results=100)
        return store.client, [run for run in found if run.data.tags["edgegen.sweep"].startswith(start)]

    return read


def test_records_are_complete_whatever_the_driver_remembers(runs, tmp_path):
    checkpoint = tmp_path / "checkpoint_000001"
    for seed in (0, 5):
        (checkpoint / f"seed-{seed}" / "policy").mkdir(parents=True)
        (checkpoint / f"seed-{seed}" / "policy" / "policy.json").write_text("{}")
    first = SweepRecords(SWEEP, "whole-1", Store(tmp_path))
    first.watch([view(0, WAITING, 0)])
    first.watch([view(0, RUNNING, 0), view(1, WAITING, 0)])
    first.watch([view(0, RUNNING, 2), view(1, RUNNING, 0), view(2, RUNNING, 1)])
    first.store.close()  # as if killed here. Tune remembers neither trial 2 nor the second report of trial 0.
    error = tmp_path / "error.txt"
    error.write_text("it broke")
    second = SweepRecords(SWEEP, "whole-1", Store(tmp_path))
    second.watch([view(0, RUNNING, 1), view(1, RUNNING, 1)])
    second.watch([view(0, RUNNING, 3), view(1, RUNNING, 1)])
    end = [view(0, FINISHED, 3, checkpoint), replace(view(1, FAILED, 1), error=error)]
    second.watch(end)
    second.settle("search", end)
    second.store.close()
    third = SweepRecords(SWEEP, "whole-1", Store(tmp_path))  # killed again, after everything was done
    third.settle("search", end)
    third.finish("FINISHED")
    other = SweepRecords(SWEEP, "whole-2", Store(tmp_path))
    other.finish("KILLED")

    client, found = runs("whole")
    sweeps = [run for run in found if run.data.tags["edgegen.role"] == "sweep"]
    assert sorted((run.data.tags["edgegen.sweep"], run.info.status) for run in sweeps) == [
        ("whole-1", "FINISHED"),
        ("whole-2", "KILLED"),
    ]
    (parent,) = (run for run in sweeps if run.data.tags["edgegen.sweep"] == "whole-1")
    assert parent.data.params["fixed.copies"] == "2"
    assert parent.data.params["space.hidden"] == "choice [8, 16]"
    assert parent.data.metrics["best/mean_delay_s"] == pytest.approx(1 / 3)
    best = client.get_metric_history(parent.info.run_id, "best/mean_delay_s")
    assert len({(metric.step, metric.value) for metric in best}) == len(best)
    children = [run for run in found if run.data.tags["edgegen.role"] == "trial"]
    counted = Counter((run.data.tags["edgegen.trial"], run.data.tags["edgegen.seed"]) for run in children)
    assert counted == {(trial, seed): 1 for trial in ("t0", "t1") for seed in ("0", "5")}
    for run in children:
        seed, trial = run.data.tags["edgegen.seed"], run.data.tags["edgegen.trial"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {
            "trial": trial[1:],
            "seed": seed,
            "actor_lr": str(1e-3 * (int(trial[1:]) + 1)),
            "hidden": "8",
        }
        history = client.get_metric_history(run.info.run_id, "validation/mean_delay_s")
        wanted = {"t0": 3, "t1": 1}[trial]
        assert [(metric.step, metric.value) for metric in history] == [
            (4 * number, number + float(seed)) for number in range(1, wanted + 1)
        ]
        stored = [file.path for file in client.list_artifacts(run.info.run_id)]
        assert run.info.status == {"t0": "FINISHED", "t1": "FAILED"}[trial]
        assert stored == {"t0": ["policy", "trial.json"], "t1": ["error.txt", "trial.json"]}[trial]


def test_a_failed_trial_that_is_tried_again_keeps_its_record(runs, tmp_path):
    first = SweepRecords(SWEEP, "again-1", Store(tmp_path))
    first.watch([view(0, FAILED, 1)])
    first.store.close()
    second = SweepRecords(SWEEP, "again-1", Store(tmp_path))
    second.watch([view(0, RUNNING, 1)])
    assert second.store.flush()
    _, found = runs("again")
    assert {run.info.status for run in found if "edgegen.trial" in run.data.tags} == {"RUNNING"}
    second.watch([view(0, FINISHED, 3)])
    second.store.flush()
    second.store.close()
    _, found = runs("again")
    assert [run.info.status for run in found if "edgegen.trial" in run.data.tags] == ["FINISHED", "FINISHED"]


def test_stopping_on_request_is_recorded(runs, tmp_path):
    records = SweepRecords(SWEEP, "stopped-1", Store(tmp_path))
    records.watch([view(0, RUNNING, 1), view(1, FINISHED, 3)])
    records.finish("KILLED")
    _, found = runs("stopped")
    status = {run.data.tags.get("edgegen.trial", "sweep"): run.info.status for run in found}
    assert status == {"sweep": "KILLED", "t0": "KILLED", "t1": "FINISHED"}


def test_a_store_that_goes_away_costs_nothing(runs, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("edgegen.platform.records.tracking.PATIENCE_S", 0.1)
    records = SweepRecords(SWEEP, "away-1", Store(tmp_path))
    records.watch([view(0, RUNNING, 1)])
    assert records.store.flush()
    for request in ("log_batch", "create_run", "set_terminated", "get_experiment"):
        monkeypatch.setattr(records.store.client, request, lambda *args, **kwargs: 1 / 0)
    records.watch([view(0, RUNNING, 2), view(1, RUNNING, 1)])
    records.finish("FINISHED")
    assert caplog.text.count("MLflow does not answer") == 1
    assert f"records wait in '{tmp_path / '.tracking'}'" in caplog.text
    monkeypatch.setattr("edgegen.platform.records.tracking.PATIENCE_S", 30.0)
    later = SweepRecords(SWEEP, "away-1", Store(tmp_path))  # resumed, with the store back
    later.settle("search", [view(0, FINISHED, 3), view(1, FINISHED, 3)])
    later.finish("FINISHED")
    assert not (tmp_path / ".tracking").exists()
    client, found = runs("away")
    assert {run.info.status for run in found} == {"FINISHED"}
    children = [run for run in found if "edgegen.trial" in run.data.tags]
    assert len(children) == 4
    for run in children:
        assert len(client.get_metric_history(run.info.run_id, "validation/mean_delay_s")) == 3
        assert run.data.params["hidden"] == "8"
