# SPDX-License-Identifier: Apache-2.0
"""The scaling figure: hand-computed predictions, and one real measurement."""

import json

import pytest
from typer.testing import CliRunner

from edgegen.platform.cli import app
from edgegen.platform.cluster.scaling import ScalingReport, ScalingRow
from edgegen.platform.runs.statistics import mean_interval


def value(number):
    return mean_interval([number, number, number])


def test_predictions_by_hand():
    rows = (
        ScalingRow(0, value(900.0), value(0.0), value(100.0)),
        ScalingRow(1, value(800.0), value(100.0), value(7.0)),
        ScalingRow(4, value(1500.0), value(120.0), value(22.0)),
    )
    report = ScalingReport(
        "ladts", "improved", "demo", 0, 10, 16, 160, 30, 3, rows, overhead_ms=5.0, fixed_ms=2.0, update_ms=10.0,
        updates_per_slot=0.25, machine={"cores": 2},
    )  # fmt: skip
    # A fragment of 160 slots takes 100 ms, storing it 5 ms for every runner, a round 2 ms besides.
    assert report.predicted(1) == pytest.approx(160 / 0.107)
    assert report.predicted(4) == pytest.approx(640 / 0.122)
    assert report.predicted_training(4) == pytest.approx(640 / (0.122 + 640 * 0.25 * 0.01))
    assert report.shared(4) == pytest.approx(640 / 0.211)  # 422 ms of work on two cores
    assert report.shared(1) == report.predicted(1)  # one runner and the driver take turns


@pytest.mark.e2e
def test_measures_on_real_runners(tmp_path):
    arguments = ["--runners", "1", "--rounds", "2", "--repeats", "3", "--fragment-length", "2"]
    files = ["--json", str(tmp_path / "s.json"), "--plot", str(tmp_path / "s.png")]
    result = CliRunner().invoke(app, ["scaling", *arguments, *files])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "s.json").read_text())
    assert [row["runners"] for row in report["rows"]] == [0, 1]
    assert report["slots_per_fragment"] == 2 * report["copies"]
    assert all(row["slots_per_s"]["estimate"] > 0 for row in report["rows"])
    assert report["rows"][1]["runner_ms"]["estimate"] > 0
    assert (tmp_path / "s.png").stat().st_size > 0
    assert (tmp_path / "s.svg").stat().st_size > 0
