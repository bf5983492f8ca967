# SPDX-License-Identifier: Apache-2.0
"""A small sweep with population-based training, from its file to its report."""

import pytest
import yaml

from edgegen.platform.engine.doing import read_json
from edgegen.platform.sweeps.relay import TrialView
from tests.platform.command_lines import run
from tests.platform.small_sweep import SMALL

SWEEP = {
    "name": "population",
    **SMALL,
    "searcher": {"kind": "random"},
    "budget": {"trials": 2, "episodes": 16, "report_every": 4},
    "resources": {"concurrent": 2},
}


@pytest.mark.e2e
@pytest.mark.parametrize("scheduler", ["pbt", pytest.param("pb2", marks=pytest.mark.soak)])
def test_the_worse_copies_the_better_and_the_final_training_follows_the_schedule_that_won(tmp_path, scheduler):
    file, out = tmp_path / "population.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({**SWEEP, "scheduler": {"kind": scheduler, "quantile": 0.5}}))
    result = run("sweep", file, "--out", out, "--no-tracking")
    assert result.exit_code == 0, result.output
    trials = [TrialView.of(data) for data in read_json(out / "search.json")]
    assert [[report["episodes"] for report in trial.history] for trial in trials] == [[4, 8, 12, 16]] * 2
    copied = [trial for trial in trials if len(trial.schedule) > 1]
    assert copied  # of two trials, one is in the worse half every time
    for trial in copied:
        starts, values = zip(*trial.schedule, strict=True)
        assert list(starts) == sorted(set(starts))
        assert set(starts) <= {0, 4, 8, 12}
        assert all(1e-4 <= value["actor_lr"] <= 1e-2 for value in values)
        assert len({value["actor_lr"] for value in values}) == len(values)
    best = min(trials, key=lambda trial: trial.history[-1]["objective"])
    (entry,) = read_json(out / "entries.json")
    assert [tuple(step) for step in entry["schedule"]] == [tuple(step) for step in best.schedule]
    assert (out / "report" / "report.md").is_file()
