# SPDX-License-Identifier: Apache-2.0
"""How a sweep stands, looked at from another process."""

import io
import json

import pytest
from rich.console import Console

from edgegen.platform.files import write_json
from edgegen.platform.records.presence import DRIVER
from edgegen.platform.sweeps.checked import make_sweep
from edgegen.platform.sweeps.relay import FAILED, FINISHED, RUNNING, TrialView
from edgegen.platform.sweeps.status import STATUS_FILE, StatusLog, SweepStatus
from tests.platform.command_lines import refused, run

SWEEP = make_sweep(
    {
        "name": "looked-at",
        "algorithm": "ladts",
        "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}},
        "budget": {"trials": 3, "episodes": 8, "report_every": 4},
    }
)


def view(number, status, *objectives):
    history = tuple({"episodes": 4 * (k + 1), "objective": value} for k, value in enumerate(objectives))
    values = {"actor_lr": 0.001 * (number + 1)}
    return TrialView(f"t{number}", number, status, {"settings": values}, history, ((0, values),), None)


def test_a_sweep_is_followed_from_search_to_report(tmp_path):
    assert "holds no sweep" in refused("sweep", "status", tmp_path)
    write_json(tmp_path / "sweep.json", SWEEP.described())
    out = run("sweep", "status", tmp_path)
    assert out.exit_code == 0, out.output
    assert "No trial has begun yet." in out.stdout
    log = StatusLog(tmp_path, "search")
    first = view(0, RUNNING, 5.0)
    log.watch([first], [first])
    screen = io.StringIO()
    status = SweepStatus(tmp_path, Console(file=screen, width=120))
    assert status.headline().startswith("0 of 3 trials, 1 running, best mean_delay_s 5 (trial 0), last change")
    assert not status.over
    now = [view(0, FINISHED, 5.0, 4.0), view(1, FAILED), view(2, RUNNING, 3.0)]
    log.watch(now, now)
    with (tmp_path / STATUS_FILE).open("a") as file:
        file.write('{"trial": 0, "sta')  # just being written
    status.update()
    assert status.headline().startswith("2 of 3 trials, 1 running, 1 failed, best mean_delay_s 4 (trial 0)")
    status.console.print(status.render())
    assert "looked-at: search" in screen.getvalue()
    rows = [words[:3] for line in screen.getvalue().splitlines() if (words := line.split())[:1] == ["trial"]]
    assert rows[1:4] == [["trial", "2", "running"], ["trial", "0", "finished"], ["trial", "1", "failed"]]

    lines = (tmp_path / STATUS_FILE).read_text().splitlines()[:-1]
    machine = json.loads(lines[0])[DRIVER].partition(":")[0]
    lines.append(json.dumps({**json.loads(lines[0]), DRIVER: f"{machine}:1-1"}))  # a driver that is no more
    (tmp_path / STATUS_FILE).write_text("\n".join(lines) + "\n")
    out = run("sweep-status", tmp_path)
    assert "nobody is at work on it; --resume continues" in " ".join(out.stdout.split())
    StatusLog(tmp_path, "final").watch([], [view(0, FINISHED, 4.0, 3.5)])
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("")
    out = run("sweep", "status", tmp_path)
    assert "looked-at: final training" in out.stdout
    assert "1 of 1 trials, 0 running, best mean_delay_s 3.5 (trial 0), over;" in " ".join(out.stdout.split())


@pytest.mark.parametrize(
    "line", ["garbage", '{"trial": 1}', "[]", '{"stage": "what"}', '{"stage": "search", "edgegen.driver": "1"}', "null"]
)
def test_a_damaged_log_is_said_in_a_sentence(tmp_path, line):
    write_json(tmp_path / "sweep.json", SWEEP.described())
    (tmp_path / STATUS_FILE).write_text(f"{line}\n")
    assert "status.jsonl' is damaged" in refused("sweep", "status", tmp_path)
