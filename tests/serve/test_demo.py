"""The whole demonstration with a tiny world and a tiny pipeline, as a process of its own."""

import json
import os
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
from edgegen.platform.runs import demo
from edgegen.platform.process import prefer_one_thread
from edgegen.serve.kinds import registry

prefer_one_thread()
small = {"slots": 4, "tasks_per_slot": {"low": 1, "high": 2}}
load, service = demo.load_scenario, registry.training_scenario
demo.load_scenario = lambda name: build_scenario({**load(name).model_dump(), **small})
registry.training_scenario = lambda config: build_scenario({**service(config).model_dump(), **small})
request = demo.DemoRequest(
    out=Path("demo"), episodes=1, service_episodes=1, evaluation_episodes=2, pictures=3, seed=0, serve=True, keep=True,
    port=None, service="tiny.yaml",
)
try:
    demo.run_demo(request, Console(width=170), Console(stderr=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.e2e
@pytest.mark.soak
def test_a_freshly_trained_policy_schedules_real_pictures_until_ctrl_c(tiny_pipeline, tmp_path):
    model = {"cycles_per_step_gcycles": 0.05, "sizes": ["16x16"], "default_steps": 4}
    edges = [{"name": f"edge-{n}", "model": tiny_pipeline, "capacity_gcycles_s": 2.0 / n} for n in (1, 2)]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"models": {tiny_pipeline: model}, "edges": edges}))
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
    assert "edge-1" in output
    assert f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/demo/mlflow.db" in output
    for name in ("contact-sheet.png", "requests.png", "comparison.png", "service-comparison.json"):
        assert (tmp_path / "demo" / name).stat().st_size > 0
        assert name in output or name.startswith("service")
    policies = json.loads((tmp_path / "demo" / "service-comparison.json").read_text())["policies"]
    assert "lad-ts" in policies
