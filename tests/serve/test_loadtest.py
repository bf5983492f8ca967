# SPDX-License-Identifier: Apache-2.0
"""``edgegen loadtest``: a real service with a tiny pipeline, and two policies on the same requests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from edgegen.platform.cli import app


@pytest.fixture
def service(tiny_pipeline: str, tmp_path: Path) -> Path:
    """Two edges with room for one of two models."""
    other = str(tmp_path / "other")
    shutil.copytree(tiny_pipeline, other)
    card: dict[str, Any] = {"cycles_per_step_gcycles": 0.2, "sizes": ["16x16"], "default_steps": 4}
    card |= {"size_gb": 1.0, "load_s": 0.2}
    edges = [
        {"name": f"edge-{n}", "models": [tiny_pipeline, other], "memory_gb": 1.5, "capacity_gcycles_s": 2.0 / n}
        for n in (1, 2)
    ]
    config = {"kind": "fleet", "models": {tiny_pipeline: card, other: card}, "edges": edges, "frame_s": 1.0}
    path = tmp_path / "service.yaml"
    path.write_text(yaml.safe_dump({**config, "policy": "price-greedy", "deadline_s": 5.0}))
    return path


@pytest.mark.e2e
@pytest.mark.soak
def test_policies_serve_the_same_requests(service: Path, tmp_path: Path) -> None:
    arguments = ["loadtest", "--config", str(service), "--policy", "price-greedy", "--policy", "earliest", "-n", "2"]
    arguments += [
        "--set",
        "frames=3",
        "--set",
        "load=0.5",
        "--set",
        "bursts.burst=1",
        "--set",
        "bursts.calm=1",
        "--out",
        str(tmp_path / "out"),
    ]
    code = "import sys; from edgegen.platform.cli import main; sys.argv[0] = 'edgegen'; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=400, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Served, and simulated on the same sequences" in done.stdout
    live, simulated = (
        json.loads((tmp_path / "out" / f"{name}-comparison.json").read_text())["policies"]
        for name in ("live", "simulated")
    )
    assert set(live) == set(simulated) == {"price-greedy", "earliest"}
    for name, served in live.items():
        both = served["per_episode"], simulated[name]["per_episode"]
        assert both[0]["requests"] == both[1]["requests"]  # the very same sequences
        assert both[0]["refused_share"] == [0, 0]
    pictures = ("live-schedules.png", "live-comparison.png", "live-delays.png", "contact-sheet.png")
    for name in ("live-schedules.html", *pictures):
        assert (tmp_path / "out" / name).stat().st_size > 0


def test_service_that_is_no_fleet_is_refused() -> None:
    result = CliRunner().invoke(app, ["loadtest", "--config", "demo", "--policy", "local"])
    assert result.exit_code == 2
    assert "is of the kind offloading, but one of the kind fleet is needed here." in result.output.replace("\n", " ")
