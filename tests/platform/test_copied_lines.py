# SPDX-License-Identifier: Apache-2.0
"""Lines that people copy into a shell mean there what they were printed for."""

import io
import shlex
from pathlib import Path

from rich.console import Console

from edgegen.platform.commands.train import report_training
from edgegen.platform.runs.training import TrainResult


def test_folders_with_any_name_are_quoted():
    out = Path("my runs/it's #1")
    result = TrainResult(
        out=out,
        policy=out / "policy",
        episodes={},
        seconds=1.0,
        cpu_seconds=1.0,
        interrupted=True,
        mlflow_run_id="1",
        mlflow_uri="sqlite:////my runs/mlflow.db",
        rivals=("least-delay",),
    )
    text = io.StringIO()
    report_training(Console(file=text, width=160), result)
    lines = [shlex.split(line.partition(":")[2]) for line in text.getvalue().splitlines()[1:]]
    assert lines == [
        ["mlflow", "ui", "--backend-store-uri", "sqlite:////my runs/mlflow.db"],
        ["edgegen", "train", "--resume", str(out)],
        ["edgegen", "compare", str(out), "least-delay", "--scenario", f"{out}/scenario.yaml"],
    ]
