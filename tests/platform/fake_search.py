# SPDX-License-Identifier: Apache-2.0
"""Searches without training: Tune's own trials, whose reports are made up, and what the driver does about each."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.experiment.trial import StorageContext
from ray.tune.registry import register_trainable

from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.history import FIRST, REPORTS, HistoryKeeper, remember
from edgegen.platform.sweeps.relay import Relay
from edgegen.platform.sweeps.state import StateKeeper, states_folder, written_by
from edgegen.platform.sweeps.trial import SweepTrial

SPEC: dict[str, Any] = {
    "name": "large",
    "algorithm": "ladts",
    "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}, "hidden": {"choice": [8, 16]}},
    "budget": {"trials": 1000, "episodes": 80, "report_every": 4},
}


def report(number: int, value: float) -> dict[str, Any]:
    """A report as :class:`SeedsTraining` makes it, in all its length."""
    losses = {f"{name}_loss": value / 3 for name in ("actor", "critic", "entropy", "temperature")}
    return {
        "episodes": 4 * number,
        "objective": value,
        "seeds": {"0": {"validation": value, "training": value * 1.1, **losses}},
        "process": {"cpu_s": 12.5 * number, "memory_mb": 412.75, "resumed_at_episodes": 0.0},
    }


class Storage(StorageContext):
    """Where trials are kept, without a Ray session."""

    @property
    def experiment_driver_staging_path(self) -> str:
        """Where Tune writes its state."""
        return f"{self.experiment_fs_path}-staging"

    @property
    def trial_driver_staging_path(self) -> str:
        """Where a trial keeps its errors."""
        return f"{self.experiment_driver_staging_path}/{self.trial_dir_name}"


class FakeSearch:
    """A driver's callbacks, fed by hand with trials and reports.

    Args:
        folder: Folder of the sweep.

    Attributes:
        whole: How often Tune's state was written as a whole.
        sweep: The sweep.
        trials: Tune's trials.
        events: Reports so far.
    """

    def __init__(self, folder: Any) -> None:
        self.sweep = make_sweep(SPEC)
        self.folder, self.events = folder, 0
        self.trials: list[Any] = []
        register_trainable("SweepTrial", SweepTrial)
        self.experiment = folder / "search"
        self.experiment.mkdir()
        (self.experiment / "tuner.pkl").write_bytes(b"")
        self.storage = Storage(storage_path=str(folder), experiment_dir_name="search")
        remember(states_folder(self.experiment))
        self.callbacks: list[Any] = [HistoryKeeper(), StateKeeper(), Relay()]
        self.generator = np.random.default_rng(0)
        self.whole = 0
        written_by(self.write)

    def write(self) -> None:
        """Write the state of all trials as Tune does."""
        self.whole += 1
        staging = Path(self.storage.experiment_driver_staging_path)
        staging.mkdir(parents=True, exist_ok=True)
        data = {"trial_data": [trial.get_json_state() for trial in self.trials], "runner_data": {}, "stats": {}}
        (staging / "experiment_state-2030-01-02_03-04-05.json").write_text(json.dumps(data))
        generator = {"counter": len(self.trials), "finished": False}
        (staging / "search_gen_state-2030-01-02_03-04-05.json").write_bytes(pickle.dumps(generator))

    def add(self) -> Any:
        """Make a trial."""
        number = len(self.trials) + 1
        settings = {"actor_lr": float(self.generator.uniform(1e-4, 1e-2)), "hidden": 8}
        trial = Trial(
            "SweepTrial",
            config={"folder": str(self.folder), "stage": "search", "settings": settings},
            trial_id=f"{number:08x}",
            experiment_tag=f"{number}_actor_lr=1,hidden=8",
            evaluated_params={"settings/actor_lr": settings["actor_lr"], "settings/hidden": 8},
            storage=self._storage_of(f"{number:08x}"),
            stub=True,
            _setup_default_resource=False,
        )
        self.trials.append(trial)
        trial.set_status(Trial.RUNNING)
        for callback in self.callbacks:
            callback.on_trial_start(0, self.trials, trial)
        self.step()
        return trial

    def _storage_of(self, trial_id: str) -> Storage:
        storage = copy.copy(self.storage)
        storage.trial_dir_name = trial_id
        return storage

    def report(self, trial: Any, number: int, last: bool = False) -> None:
        """Let a trial report."""
        value = float(self.generator.uniform(3, 9))
        new = report(number, value)
        settings = trial.config["settings"]
        result = {
            "objective": value,
            "episodes": 4 * number,
            FIRST: number - 1,
            REPORTS: [new],
            "schedule": [(0, settings)],
            "done": last,
            # What Tune adds to it.
            "trial_id": trial.trial_id,
            "training_iteration": number,
            "time_this_iter_s": 3.25,
            "time_total_s": 3.25 * number,
            "time_since_restore": 3.25 * number,
            "iterations_since_restore": number,
            "pid": 4711,
            "hostname": "a-machine-of-the-cluster",
            "node_ip": "10.11.12.13",
            "date": "2030-01-02_03-04-05",
            "timestamp": 1_900_000_000,
            "config": trial.config,
            "experiment_tag": trial.experiment_tag,
        }
        self.events += 1
        for callback in self.callbacks:
            callback.on_trial_result(0, self.trials, trial, result=result)
        trial.update_last_result(result)
        self.step()
        for callback in self.callbacks:
            callback.on_trial_save(0, self.trials, trial)
        if last:
            trial.set_status(Trial.TERMINATED)
            for callback in self.callbacks:
                callback.on_trial_complete(0, self.trials, trial)
        self.step()

    def step(self) -> None:
        """End a step of Tune."""
        for callback in self.callbacks:
            callback.on_step_end(0, self.trials)
