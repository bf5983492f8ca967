# SPDX-License-Identifier: Apache-2.0
"""The whole demonstration with a tiny world and a tiny pipeline, as a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import yaml

from edgegen.platform.records.tracking import URI_VARIABLE

DEMO = """
import sys
from pathlib import Path
from rich.console import Console
from edgegen.envs.core.scenarios import build_scenario
from edgegen.platform.runs import demo, live_comparison
from edgegen.platform.process import prefer_one_thread

prefer_one_thread()
small = {"slots": 4, "tasks_per_slot": {"low": 1, "high": 2}}
load = demo.load_scenario
demo.load_scenario = lambda name: build_scenario({**load(name).model_dump(), **small})
live_comparison.TRAFFIC = {**live_comparison.TRAFFIC, "frames": 3, "load": 0.5, "bursts": None}
request = demo.DemoRequest(
    out=Path("demo"), episodes=8, service_episodes=8, evaluation_episodes=2, trials=3, sequences=2, seed=0, serve=True,
    keep=True, port=None, service="tiny.yaml",
)
try:
    demo.run_demo(request, Console(width=170), Console(stderr=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.e2e
@pytest.mark.soak
def test_a_freshly_trained_policy_schedules_real_pictures_until_ctrl_c(tiny_pipeline, tmp_path):
    other = str(tmp_path / "other")
    shutil.copytree(tiny_pipeline, other)
    card = {"cycles_per_step_gcycles": 0.2, "sizes": ["16x16"], "default_steps": 4, "size_gb": 1.0, "load_s": 0.2}
    both = {"models": [tiny_pipeline, other], "memory_gb": 1.5}  # room for one of the two
    edges = [{"name": f"edge-{n}", "capacity_gcycles_s": 2.0 / n, **both} for n in (1, 2)]
    config = {"kind": "fleet", "models": {tiny_pipeline: card, other: card}, "edges": edges, "frame_s": 2.0}
    config |= {"policy": "price-greedy", "deadline_s": 5.0}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    environment = {name: value for name, value in os.environ.items() if name != URI_VARIABLE}
    errors = tmp_path / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", DEMO],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    watchdog = threading.Timer(400, process.kill)
    watchdog.start()
    try:
        lines = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.strip().startswith("curl "):
                break
        output = "".join(lines)
        assert "curl " in output, errors.read_text()
        answer = subprocess.run(lines[-1], shell=True, capture_output=True, text=True, check=True, timeout=60)
        assert json.loads(answer.stdout)["data"][0]["b64_json"]
        process.send_signal(signal.SIGINT)
        assert process.wait(200) == 130
    finally:
        watchdog.cancel()
        process.kill()
    assert "lad-ts" in output
    assert "Served, and simulated on the same sequences" in output
    assert f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/demo/mlflow.db" in output
    for name in (
        "contact-sheet.png",
        "live-schedules.png",
        "live-schedules.html",
        "comparison.png",
        "live-comparison.json",
    ):
        assert (tmp_path / "demo" / name).stat().st_size > 0
        assert name in output
    assert "In charge: the " in output
    for name, expected in (
        ("service-comparison", {"learned", "tuned rule", "price-greedy", "earliest"}),
        ("live-comparison", {"learned", "tuned rule"}),
    ):
        policies = json.loads((tmp_path / "demo" / f"{name}.json").read_text())["policies"]
        assert set(policies) == expected
    for played in policies.values():
        assert played["per_episode"]["refused_share"] == [0, 0]
