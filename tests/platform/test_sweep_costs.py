# SPDX-License-Identifier: Apache-2.0
"""Trials through Ray Tune itself, with trainings that take no time: what is left on disk per report.

That none of it grows with the number of trials is tested with a thousand, without Ray: `test_sweep_large.py`.
"""

import io
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from rich.console import Console

from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.platform.files import write_json
from edgegen.platform.sweeps import run, search
from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.relay import FINISHED
from edgegen.platform.sweeps.trial import SWEEP_FILE, SweepTrial
from tests.platform.fake_search import SPEC, report

TRIALS, REPORTS = 30, 20
SWEEP: dict[str, Any] = {
    **SPEC,
    "budget": {"trials": TRIALS, "episodes": 4 * REPORTS, "report_every": 4},
    "scheduler": {"kind": "none"},
    "searcher": {"kind": "random"},
    "resources": {"cpus": 0.5},
}


class _Made:
    """A training that only makes reports up."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.values = settings
        self.history: list[dict[str, Any]] = []
        self.schedule = [(0, settings)]

    def report(self) -> dict[str, Any]:
        self.history.append(report(len(self.history) + 1, 1000 * self.values["actor_lr"] + 1 / (len(self.history) + 1)))
        return self.history[-1]

    @property
    def over(self) -> bool:
        return len(self.history) >= REPORTS

    def save(self, folder: Path) -> None:
        write_json(folder / "trial.json", {"history": self.history, "sizes": {}})

    def close(self) -> None:
        """Nothing is held."""


class MadeTrial(SweepTrial):
    """A trial with such a training."""

    def _begin(self, config):
        self._store, self._told, self._own_folder = None, 0, Path("/nowhere")
        self.training: Any = _Made(dict(config["settings"]))


@pytest.mark.e2e
@pytest.mark.soak
def test_what_a_report_leaves_behind_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "_trainable", lambda sweep: tune.with_resources(MadeTrial, {"CPU": 0.5}))
    sweep = make_sweep(SWEEP)
    made = run._Sweep(run.SweepRequest(sweep, tmp_path / "out", tracking=False), Console(file=io.StringIO()))
    write_json(made.folder / SWEEP_FILE, {"identity": "large-1", **sweep.described()})
    with ray_session(num_cpus=2):
        assert ray.is_initialized()
        trials = made._search()
    assert [trial.status for trial in trials] == [FINISHED] * TRIALS
    assert all(len(trial.history) == REPORTS for trial in trials)
    kept = sum(path.stat().st_size for path in made.folder.rglob("*.json*") if "checkpoint_" not in str(path))
    assert 1_000 < kept / TRIALS / REPORTS < 20_000
